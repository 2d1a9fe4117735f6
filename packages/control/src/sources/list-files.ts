// The files of Kubernetes objects under a path, as `kubectl apply -R -f` sees them: *.yaml, *.yml and *.json, directories
// inside too, in the order of their names. Hidden entries are left out, which with it leaves out the `..data` behind a
// mounted ConfigMap; the links to it are followed. Reads directories only, no file.
import type { Dirent, Stats } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export const MAX_FILES = 100_000;
const MAX_DEPTH = 32;
const FILE_NAME = /\.(?:yaml|yml|json)$/i;

export interface Unlistable {
  readonly path: string;
  /** Of the operating system (`ENOENT`, `EACCES`), or `ELIMIT` for bounds of our own. */
  readonly errno: string;
  readonly message: string;
}

export interface Listing {
  readonly files: readonly string[];
  /** What could not be looked into; files below it are not listed. */
  readonly failures: readonly Unlistable[];
  readonly isDirectory: boolean;
}

/**
 * Told before anything in a directory is read, so that no change after it goes unnoticed: a whole directory, or with
 * `name` one entry of it.
 */
export type OnPlace = (directory: string, name?: string) => void;

/** @param root a directory, or one file of any name. A root that is not there is a failure like others. */
export async function listFiles(root: string, onPlace: OnPlace = () => undefined): Promise<Listing> {
  // The entry itself too: a directory may be replaced by another of its name.
  onPlace(dirname(root), basename(root));
  const found = await lookAt(root);
  if ('failure' in found) return { files: [], failures: [found.failure], isDirectory: false };
  if (!found.stats.isDirectory()) {
    await placeOfTarget(root, onPlace);
    return { files: [root], failures: [], isDirectory: false };
  }
  const walk = new Walk(onPlace);
  await walk.enter(root, 0);
  return { files: walk.files, failures: walk.failures, isDirectory: true };
}

class Walk {
  readonly files: string[] = [];
  readonly failures: Unlistable[] = [];
  readonly #onPlace: OnPlace;
  /** Real paths of where it has been: links may lead back. */
  readonly #visited = new Set<string>();

  constructor(onPlace: OnPlace) {
    this.#onPlace = onPlace;
  }

  async enter(directory: string, depth: number): Promise<void> {
    if (depth > MAX_DEPTH) {
      this.#limit(directory, `directories nested deeper than ${MAX_DEPTH}`);
      return;
    }
    let entries: readonly Dirent[];
    try {
      const real = await realpath(directory);
      if (this.#visited.has(real)) return;
      this.#visited.add(real);
      this.#onPlace(directory);
      entries = await readdir(directory, { withFileTypes: true });
    } catch (error) {
      const failure = toFailure(directory, error);
      // A directory that went away just now is gone, as its files are; the root is somebody's wish.
      if (failure.errno !== 'ENOENT' || depth === 0) this.failures.push(failure);
      return;
    }
    for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)))) {
      if (!entry.name.startsWith('.')) await this.#take(entry, join(directory, entry.name), depth);
    }
  }

  async #take(entry: Dirent, path: string, depth: number): Promise<void> {
    let kind: Dirent | Stats = entry;
    if (entry.isSymbolicLink()) {
      const found = await lookAt(path);
      if ('failure' in found) {
        if (FILE_NAME.test(path)) this.failures.push(found.failure);
        return;
      }
      kind = found.stats;
      if (kind.isFile()) await placeOfTarget(path, this.#onPlace);
    }
    if (kind.isDirectory()) await this.enter(path, depth + 1);
    else if (kind.isFile() && FILE_NAME.test(path)) {
      if (this.files.length < MAX_FILES) this.files.push(path);
      else if (this.files.length === MAX_FILES) this.#limit(path, `more than ${MAX_FILES} files`);
    }
  }

  #limit(path: string, message: string): void {
    if (this.failures.every(failure => failure.message !== message)) {
      this.failures.push({ path, errno: 'ELIMIT', message });
    }
  }
}

/** Events of a link's target happen where the target is. */
async function placeOfTarget(path: string, onPlace: OnPlace): Promise<void> {
  try {
    const target = await realpath(path);
    onPlace(dirname(target), basename(target));
  } catch {
    // Gone meanwhile; whoever reads the file will say so.
  }
}

async function lookAt(path: string): Promise<{ readonly stats: Stats } | { readonly failure: Unlistable }> {
  try {
    return { stats: await stat(path) };
  } catch (error) {
    return { failure: toFailure(path, error) };
  }
}

function toFailure(path: string, error: unknown): Unlistable {
  const errno = error instanceof Error && 'code' in error ? String(error.code) : 'EUNKNOWN';
  const message = errno === 'ENOENT' ? 'there is no such file or directory' : String(error);
  return { path, errno, message };
}
