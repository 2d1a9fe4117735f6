// Network namespaces (setns(2)). `run` is the only way in, and it is synchronous: a namespace belongs to the thread, so
// anything awaited inside would run other code there. Whoever cannot come home would open the next pod's sockets in
// this pod, therefore a failed return ends the process. Threads begun inside `run` would inherit the namespace: make
// sockets in there and nothing else.
import { fstatSync, writeSync } from 'node:fs';
import { NativeError, SysError } from './errors.ts';
import { duplicateFd, Fd } from './fd.ts';
import { CLONE_NEWNET, NS_GET_NSTYPE, O_CLOEXEC, O_RDONLY } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { pathAddress } from './path.ts';

const c_open = bind<(path: number, flags: number, mode: number) => number>(
  'int open(uintptr_t path, int flags, int mode)',
);
const c_ioctl = bind<(fd: number, request: number, argument: number) => number>(
  'int ioctl(int fd, unsigned long request, uintptr_t argument)',
);
const c_setns = bind<(fd: number, type: number) => number>('int setns(int fd, int type)');
const c_unshare = bind<(flags: number) => number>('int unshare(int flags)');
// process.abort() does not exist in worker threads.
const c_abort = bind<() => void>('void abort()');

const THREAD_NS = '/proc/thread-self/ns/net';

/** What the kernel calls the same namespace by, whatever path or descriptor leads to it. */
export interface NetNsIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** This thread's home, opened before its first visit elsewhere and kept for its life. */
let home: number | undefined;
let isAway = false;

export class NetNs {
  readonly #fd: Fd;
  readonly identity: NetNsIdentity;

  private constructor(fd: Fd) {
    this.#fd = fd;
    const { dev, ino } = fstatSync(fd.number, { bigint: true });
    this.identity = { dev, ino };
  }

  /** The namespace this thread is in, or visits. @throws SysError */
  static own(): NetNs {
    return NetNs.open(THREAD_NS);
  }

  /** By path: `/proc/PID/ns/net`, `/var/run/netns/NAME`. @throws SysError, native.argument when it is no network namespace */
  static open(path: string): NetNs {
    return NetNs.fromFd(openFile(path));
  }

  /** Takes ownership of a descriptor, also when it is refused and then closed. @throws native.argument, native.closed */
  static fromFd(fd: Fd): NetNs {
    if (c_ioctl(fd.number, NS_GET_NSTYPE, 0) !== CLONE_NEWNET) {
      fd.close();
      throw new NativeError('native.argument', 'descriptor is not a network namespace');
    }
    return new NetNs(fd);
  }

  get isOpen(): boolean {
    return this.#fd.isOpen;
  }

  /** Lent, to name the namespace to another call: it stays this object's, who closes it. */
  get fd(): Fd {
    return this.#fd;
  }

  same(other: NetNs): boolean {
    return this.identity.dev === other.identity.dev && this.identity.ino === other.identity.ino;
  }

  /**
   * Runs `f` with this thread inside the namespace and gives back what it returns, or throws what it throws, at home.
   * Aborts the process when the way home fails.
   * @throws SysError when the way in is refused (EPERM without CAP_SYS_ADMIN), native.closed,
   *   native.argument for a run inside a run, and for an `f` that returned a promise, whose rest would run at home
   */
  run<T>(f: () => T): T {
    if (isAway) throw new NativeError('native.argument', 'a visit inside a visit to a network namespace');
    const back = homeNumber();
    if (c_setns(this.#fd.number, CLONE_NEWNET) < 0) throw new SysError('setns', lastErrno());
    isAway = true;
    let result: T;
    try {
      result = f();
    } finally {
      goHome(back);
      isAway = false;
    }
    if (isThenable(result)) {
      throw new NativeError('native.argument', 'the function run in a network namespace returned a promise');
    }
    return result;
  }

  /** Another owner of the same namespace. @throws SysError, native.closed */
  duplicate(): NetNs {
    return new NetNs(duplicateFd(this.#fd));
  }

  /** Lets go; the namespace itself lives as long as anything refers to it, sockets included. */
  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A fresh namespace with nothing but a loopback that is down. The thread is back at home afterwards; the namespace
 * lives while the result, or something inside it, does. @throws SysError (EPERM), native.argument inside a run
 */
export function createNetNs(): NetNs {
  if (isAway) throw new NativeError('native.argument', 'a network namespace made inside a visit to another');
  const back = homeNumber();
  if (c_unshare(CLONE_NEWNET) < 0) throw new SysError('unshare', lastErrno());
  try {
    return NetNs.own();
  } finally {
    goHome(back);
  }
}

function homeNumber(): number {
  home ??= openFile(THREAD_NS).release();
  return home;
}

function goHome(back: number): void {
  if (c_setns(back, CLONE_NEWNET) === 0) return;
  const { message } = new SysError('setns', lastErrno(), 'returning to the own network namespace');
  try {
    writeSync(2, `fatal: ${message}; aborting, because later sockets would belong to the wrong pod\n`);
  } catch {
    // Nobody reads stderr: abort all the same.
  }
  c_abort();
}

function openFile(path: string): Fd {
  const n = c_open(pathAddress(path), O_RDONLY | O_CLOEXEC, 0);
  if (n < 0) throw new SysError('open', lastErrno(), path);
  return new Fd(n);
}

function isThenable(value: unknown): boolean {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
  return isObject && 'then' in value && typeof value.then === 'function';
}
