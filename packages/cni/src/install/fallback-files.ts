// The whole plugin for when no agent listens, beside its executable: a runtime and the program's files, in a directory of
// their own since hosts have neither. The runtime is large and is copied only when it differs in size.
import { cpSync, chmodSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CniError } from '../errors.ts';
import { readFileIfThere, readIfThere, removeLeftovers, writeFileAtomic } from './atomic-file.ts';
import type { FallbackSource } from './install-options.ts';

const DIRECTORY = 'ambit-cni.d';
const RUNTIME = 'node';

/** How the executable starts it, on the host. */
export function fallbackCommand(hostBinDir: string, source: FallbackSource): readonly [string, ...string[]] {
  const directory = join(hostBinDir, DIRECTORY);
  // Node's warnings would go to the runtime's log, once a pod.
  return [join(directory, RUNTIME), '--no-warnings', join(directory, mainOf(source))];
}

export function installFallback(binDir: string, source: FallbackSource, written: string[]): void {
  const directory = join(binDir, DIRECTORY);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  copyRuntime(source.runtime, join(directory, RUNTIME), written);
  for (const [name, text] of source.files) {
    const path = join(directory, name);
    if (readFileIfThere(path)?.equals(Buffer.from(text)) === true) continue;
    removeLeftovers(path);
    writeFileAtomic(path, text, 0o644);
    written.push(path);
  }
  // Files of an earlier version, which nothing names any more.
  const wanted = new Set([RUNTIME, ...source.files.keys()]);
  for (const name of readdirSync(directory)) if (!wanted.has(name)) rmSync(join(directory, name), { recursive: true });
}

export function removeFallback(binDir: string, changed: string[]): void {
  const directory = join(binDir, DIRECTORY);
  if (readIfThere(() => statSync(directory)) === undefined) return;
  rmSync(directory, { recursive: true });
  changed.push(directory);
}

function copyRuntime(from: string, to: string, written: string[]): void {
  const [there, wanted] = [readIfThere(() => statSync(to)), statSync(from)];
  if (there?.size === wanted.size && Math.trunc(there.mtimeMs / 1000) === Math.trunc(wanted.mtimeMs / 1000)) return;
  removeLeftovers(to);
  const temporary = `${to}.tmp.copy`;
  try {
    cpSync(from, temporary, { dereference: true, preserveTimestamps: true });
    chmodSync(temporary, 0o755);
    renameSync(temporary, to);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  written.push(to);
}

function mainOf({ files }: FallbackSource): string {
  const [main] = files.keys();
  if (main === undefined) throw new CniError('cni.config', 'the fallback of the plugin has no files');
  return main;
}
