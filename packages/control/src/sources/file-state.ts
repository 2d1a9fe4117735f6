// What is known of each file of a source, and what all of them together say: the first of several objects with one name
// counts, in the order of the files. Pure bookkeeping; reading and watching is file-source.ts.
import { isDeepStrictEqual } from 'node:util';
import type { Diagnostic } from '../diagnostic.ts';
import { duplicate } from '../objects/index.ts';
import { formatRef, type KubeObject, type ObjectChange, type Place, refOf } from '../objects/types.ts';
import type { LocatedObject, ReadText } from './read-texts.ts';

export interface FileState {
  readonly file: string;
  /** Hash of the last version that was looked at, good or not. */
  readonly hash: string;
  /** Hash of the version that the objects are of. */
  readonly goodHash: string | undefined;
  /** Of the last good version. */
  readonly objects: readonly LocatedObject[];
  /** Errors and warnings of the version last looked at. */
  readonly problems: readonly Diagnostic[];
  readonly isBroken: boolean;
}

/** Where the object that counts was written. */
export interface Winner {
  readonly object: KubeObject;
  readonly place: Place;
  readonly goodHash: string | undefined;
}

export interface Merged {
  /** By `formatRef`. */
  readonly winners: ReadonlyMap<string, Winner>;
  readonly duplicates: readonly Diagnostic[];
}

/** The state after a version was read: broken, it changes nothing but the problems. */
export function nextState(file: string, hash: string, read: ReadText, last: FileState | undefined): FileState {
  const problems = read.diagnostics.filter(({ severity }) => severity !== 'info');
  const isBroken = problems.some(({ severity, code }) => severity === 'error' && code !== 'config.duplicate');
  if (isBroken) {
    return { file, hash, goodHash: last?.goodHash, objects: last?.objects ?? [], problems, isBroken };
  }
  return { file, hash, goodHash: hash, objects: read.objects, problems, isBroken };
}

export function mergeFiles(states: Iterable<FileState>): Merged {
  const winners = new Map<string, Winner>();
  const duplicates: Diagnostic[] = [];
  for (const { file, goodHash, objects } of states) {
    for (const { object, line, column } of objects) {
      const key = formatRef(refOf(object));
      const place = { file, line, column };
      const earlier = winners.get(key);
      if (earlier === undefined) winners.set(key, { object, place, goodHash });
      else duplicates.push(duplicate(object, place, earlier.place));
    }
  }
  return { winners, duplicates };
}

/** What is different, objects that went first. An object that was read again and says the same is no change. */
export function changesBetween(
  before: ReadonlyMap<string, Winner>,
  after: ReadonlyMap<string, Winner>,
): readonly ObjectChange[] {
  const changes: ObjectChange[] = [];
  for (const [key, { object }] of before) {
    if (!after.has(key)) changes.push({ ref: refOf(object), object: undefined });
  }
  for (const [key, { object }] of after) {
    const old = before.get(key)?.object;
    if (old !== object && !isDeepStrictEqual(old, object)) changes.push({ ref: refOf(object), object });
  }
  return changes;
}
