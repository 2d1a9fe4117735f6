// A pod's network namespace as the agent holds it: one descriptor to go in by, one to hand to ztunnel. Holding it keeps
// the namespace, and therefore its inode number, from being anything else's.
import { closeSync, openSync } from 'node:fs';
import { duplicateFd, Fd, NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';

export class HeldNetns {
  /** Where it was found; for people. */
  readonly path: string;
  /** For SCM_RIGHTS. */
  readonly fd: Fd;
  readonly netns: NetNs;
  /** `dev:inode`: equal for the same namespace, whatever path leads to it. */
  readonly key: string;

  private constructor(path: string, fd: Fd, netns: NetNs) {
    this.path = path;
    this.fd = fd;
    this.netns = netns;
    this.key = `${netns.identity.dev}:${netns.identity.ino}`;
  }

  /** @throws CniError enrol.no_netns: nothing there, or no network namespace */
  static open(path: string): HeldNetns {
    try {
      const fd = openOwned(path);
      try {
        return new HeldNetns(path, fd, NetNs.fromFd(duplicateFd(fd)));
      } catch (error) {
        fd.close();
        throw error;
      }
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CniError('enrol.no_netns', `cannot open the network namespace ${path}: ${reason}`, { cause });
    }
  }

  close(): void {
    this.fd.close();
    this.netns.close();
  }
}

function openOwned(path: string): Fd {
  const number = openSync(path, 'r');
  try {
    return new Fd(number);
  } catch (error) {
    closeSync(number);
    throw error;
  }
}
