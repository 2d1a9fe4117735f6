// Files that hold secrets or must survive a crash: written beside, flushed, and moved into place; read only if nobody else
// can. Used for everything the control plane keeps in its state directory.
import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ControlError } from '../errors.ts';

let count = 0;

/** Makes the directory, 0700, if it is not there. @throws ca.state when it cannot be or is open to writing by others */
export async function ensureStateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const { mode } = await stat(path);
    if ((mode & 0o022) === 0) return;
  } catch (cause) {
    throw new ControlError('ca.state', `cannot use the state directory ${path}: ${reasonOf(cause)}`, {
      cause,
      next: 'choose another with --state, or give this user the right to make it',
    });
  }
  throw new ControlError('ca.state', `others may write in the state directory ${path}`, {
    next: `chmod go-w ${path}`,
  });
}

/** Replaces the file in one step: after a crash it has its old content or its new. @throws what the file system says */
export async function writeAtomically(path: string, content: string, mode: number): Promise<void> {
  count += 1;
  const beside = `${path}.${process.pid}.${count}.tmp`;
  try {
    const file = await open(beside, 'wx', mode);
    try {
      // The umask may have taken bits away that a public file needs.
      await file.chmod(mode);
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** The file's text; undefined when there is none. @throws ca.key_permissions when group or others may read or write it */
export async function readSecret(path: string): Promise<string | undefined> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    if ((await lstat(path)).isSymbolicLink()) throw permissions(path, 'is a symbolic link', `rm ${path}`);
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const { mode } = await file.stat();
    if ((mode & 0o077) !== 0) {
      throw permissions(path, `can be used by others (mode ${(mode & 0o777).toString(8)})`, `chmod 600 ${path}`);
    }
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function permissions(path: string, what: string, next: string): ControlError {
  return new ControlError('ca.key_permissions', `the secret file ${path} ${what}`, {
    next: `if nobody read it: ${next}; otherwise make a new one`,
  });
}
