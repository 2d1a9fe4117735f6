// Files that hold secrets or must survive a crash: written beside, flushed, and moved into place; read only if nobody else
// can. Used for everything the control plane keeps in its state directory.
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';

/** Makes the directory, 0700, if it is not there. @throws ca.state when it cannot be, is another user's, or others may write in it */
export async function ensureStateDirectory(path: string): Promise<void> {
  let isForeign: boolean;
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const { mode, uid } = await stat(path);
    isForeign = isOfAnother(uid);
    if (!isForeign && (mode & 0o022) === 0) return;
  } catch (cause) {
    throw new ControlError('ca.state', `cannot use the state directory ${path}: ${errorText(cause)}`, {
      cause,
      next: 'choose another with --state, or give this user the right to make it',
    });
  }
  if (isForeign) {
    // Whoever owns it can put another key there at any time.
    throw new ControlError('ca.state', `the state directory ${path} belongs to another user`, {
      next: 'choose another with --state, or chown it',
    });
  }
  throw new ControlError('ca.state', `others may write in the state directory ${path}`, {
    next: `chmod go-w ${path}`,
  });
}

/** Replaces the file in one step: after a crash it has its old content or its new. @throws what the file system says */
export async function writeAtomically(path: string, content: string, mode: number): Promise<void> {
  // Random: in a container every process has the same number, and what a crash left must not be in the way.
  const beside = `${path}.${randomUUID()}.tmp`;
  const file = await open(beside, 'wx', mode);
  try {
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

/** The file's text; undefined when there is none. @throws ca.key_permissions when it is another user's, or others may use it */
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
    const { mode, uid } = await file.stat();
    if (isOfAnother(uid))
      throw permissions(path, 'belongs to another user', `chown ${process.geteuid?.() ?? 0} ${path}`);
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

/** Neither ours nor root's, who can do everything anyway. */
function isOfAnother(uid: number): boolean {
  return uid !== 0 && uid !== process.geteuid?.();
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
