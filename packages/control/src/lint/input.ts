// Everything there is to look at offline: the objects of files, directories and standard input, and what the reader says.
// Same rules as the file source (which files count, the first of two names), except that good documents of a broken file
// are looked at too: whoever corrects a file wants to hear of all its mistakes at once.
import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Diagnostic } from '../diagnostic.ts';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import { duplicate, MAX_FILE_BYTES, type PlacedObject, readObjects } from '../objects/index.ts';
import { formatRef, type ObjectRef, type Place, refOf } from '../objects/types.ts';
import { listFiles } from '../sources/list-files.ts';

/** Stands for standard input among paths. */
const STDIN = '-';
const STDIN_NAME = '(standard input)';

export interface Input {
  /** Each name once; the first counts. */
  readonly objects: readonly PlacedObject[];
  /** Of the reader, with places. */
  readonly diagnostics: readonly Diagnostic[];
  /** Where an object or a field of it is. */
  placeOf(ref: ObjectRef, path: string | undefined): Place | undefined;
}

/**
 * @param stdin read to its end when `-` is among the paths
 * @throws ControlError config.no_such_path, config.unreadable_path
 */
export async function readInput(paths: readonly string[], stdin: AsyncIterable<Uint8Array>): Promise<Input> {
  const diagnostics: Diagnostic[] = [];
  const objects = new Map<string, PlacedObject>();
  const take = (text: string, file: string): void => {
    const read = readObjects(text, file);
    diagnostics.push(...read.diagnostics);
    for (const placed of read.objects) {
      const key = formatRef(refOf(placed.object));
      const earlier = objects.get(key);
      if (earlier === undefined) objects.set(key, placed);
      else diagnostics.push(duplicate(placed.object, placed.place, earlier.place));
    }
  };
  const seen = new Set<string>();
  for (const path of paths) {
    if (path === STDIN) {
      if (!seen.has(STDIN)) take(await readStdin(stdin), STDIN_NAME);
      seen.add(STDIN);
      continue;
    }
    const { files, failures } = await listFiles(path);
    for (const failure of failures) {
      const code = failure.errno === 'ENOENT' ? 'config.no_such_path' : 'config.unreadable_path';
      throw new ControlError(code, `${failure.path}: ${failure.message}`, {
        next: 'name directories or files of YAML',
      });
    }
    for (const file of files) {
      if (!seen.has(resolve(file))) take(await readText(file), file);
      seen.add(resolve(file));
    }
  }
  return {
    objects: [...objects.values()],
    diagnostics,
    placeOf(ref, path) {
      const placed = objects.get(formatRef(ref));
      return path === undefined ? placed?.place : placed?.fieldPlace(path);
    },
  };
}

async function readText(file: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) throw new RangeError(`it is larger than ${MAX_FILE_BYTES >> 20} MiB`);
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await readFile(file));
  } catch (cause) {
    const reason = errorText(cause);
    throw new ControlError('config.unreadable_path', `cannot read ${file}: ${reason}`, { cause });
  }
}

async function readStdin(stdin: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    length += chunk.length;
    if (length > MAX_FILE_BYTES) {
      throw new ControlError('config.unreadable_path', `standard input is larger than ${MAX_FILE_BYTES >> 20} MiB`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
