// Files that others read at any moment: the old content or the new one, never a part, and no temporary file stays behind. Names
// of temporary files end so that no container runtime takes them for a configuration.
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

const SUFFIX = '.tmp.';

/** Replaces or makes a file in one step. @throws Error of node:fs */
export function writeFileAtomic(path: string, content: string | Uint8Array, mode: number): void {
  const temporary = `${path}${SUFFIX}${randomUUID()}`;
  try {
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeFileSync(fd, content);
      fchmodSync(fd, mode); // whatever the umask says
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Removes what an earlier process left that died while it wrote `path`. */
export function removeLeftovers(path: string): void {
  const prefix = `${basename(path)}${SUFFIX}`;
  for (const name of readIfThere(() => readdirSync(dirname(path))) ?? []) {
    if (name.startsWith(prefix)) rmSync(join(dirname(path), name), { force: true });
  }
}

export function readFileIfThere(path: string): Buffer | undefined {
  return readIfThere(() => readFileSync(path));
}

export function readIfThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
