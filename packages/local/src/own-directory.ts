// A directory under one where everybody may make some, such as /tmp: ours alone, or not used. Whoever made it first could
// put a mesh of his own in there, and be asked instead of ours.
import { lstatSync, mkdirSync } from 'node:fs';
import { LocalError } from './errors.ts';

const WRITABLE_BY_OTHERS = 0o022;

/** Makes it if it is not there. @throws local.state when it is somebody else's too, or no directory; the file system's error */
export function claimDirectory(path: string, uid: number): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  if (found.isDirectory() && found.uid === uid && (found.mode & WRITABLE_BY_OTHERS) === 0) return;
  throw new LocalError('local.state', 'the directory for sockets is not yours alone', {
    where: path,
    next: 'set XDG_RUNTIME_DIR to a directory of your own, or use --dir',
  });
}
