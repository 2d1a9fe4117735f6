// Remembers the bytes of a list before our entry came, so that taking it out leaves the very file that was there: comments of
// its layout are lost by reading and writing JSON. Kept in the agent's run directory, which outlives the agent; a note that
// does not fit the file any more is worth nothing, and says so.
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readFileIfThere, removeLeftovers, writeFileAtomic } from './atomic-file.ts';
import { jsonText } from './chain-text.ts';

const NOTE = 'cni-original.json';

interface Note {
  readonly name: string;
  readonly original: string;
  /** Hash of the file as we left it. */
  readonly sha256: string;
}

export interface ChainChange {
  readonly name: string;
  readonly before: string;
  readonly after: string;
  /** Whether `before` had no entry of ours, and is thus an original. */
  readonly isFresh: boolean;
}

/** Notes that `name` was changed. Only lists are restored: a single plugin's file becomes a list and stays one. */
export function rememberOriginal(runDir: string, { name, before, after, isFresh }: ChainChange): void {
  const original = isFresh && name.endsWith('.conflist') ? before : originalOf(runDir, name, before);
  if (original === undefined) forgetOriginal(runDir);
  else writeFileAtomic(join(runDir, NOTE), jsonText({ name, original, sha256: hash(after) } satisfies Note), 0o600);
}

/** What the file was before us, if it is now exactly as we left it. */
export function originalOf(runDir: string, name: string, now: string): string | undefined {
  const note = readNote(runDir);
  return note?.name === name && note.sha256 === hash(now) ? note.original : undefined;
}

export function forgetOriginal(runDir: string): void {
  removeLeftovers(join(runDir, NOTE));
  rmSync(join(runDir, NOTE), { force: true });
}

function readNote(runDir: string): Note | undefined {
  const text = readFileIfThere(join(runDir, NOTE))?.toString('utf8');
  try {
    const value: unknown = JSON.parse(text ?? 'null');
    if (typeof value !== 'object' || value === null) return undefined;
    const { name, original, sha256 } = value as Partial<Record<keyof Note, unknown>>;
    const isWhole = typeof name === 'string' && typeof original === 'string' && typeof sha256 === 'string';
    return isWhole ? { name, original, sha256 } : undefined;
  } catch {
    return undefined; // a note that cannot be read is none
  }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
