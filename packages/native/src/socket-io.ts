// The calls of the copy loop. Each is one system call on checked memory, allocates nothing (accept aside, which makes
// the Fd), and returns a count or a negated errno; nothing here throws for what a peer or the kernel does.
import { NativeError } from './errors.ts';
import { Fd } from './fd.ts';
import type { IoVec } from './iovec.ts';
import { MSG_NOSIGNAL, SHUT_WR, SO_LINGER, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';

type IoCall = (fd: number, address: number, length: number, flags: number) => number;
type VectorCall = (fd: number, address: number, count: number) => number;

// `int` results are enough: the kernel moves at most 0x7ffff000 bytes per call.
const c_recv = bind<IoCall>('int recv(int fd, uintptr_t buffer, size_t length, int flags)');
const c_send = bind<IoCall>('int send(int fd, uintptr_t buffer, size_t length, int flags)');
const c_readv = bind<VectorCall>('int readv(int fd, uintptr_t vector, int count)');
const c_sendmsg = bind<VectorCall>('int sendmsg(int fd, uintptr_t message, int flags)');
const c_accept4 = bind<IoCall>('int accept4(int fd, uintptr_t address, uintptr_t length, int flags)');
const c_shutdown = bind<(fd: number, how: number) => number>('int shutdown(int fd, int how)');
const c_setsockopt = bind<(fd: number, level: number, name: number, value: number, length: number) => number>(
  'int setsockopt(int fd, int level, int name, uintptr_t value, unsigned int length)',
);

/**
 * Reads up to `length` bytes into the slab. 0 means end of stream, negative is -errno.
 * @throws native.bounds (also for length 0, which could not be told from the end), native.closed
 */
export function recv(fd: Fd, slab: Slab, offset: number, length: number): number {
  if (length === 0) throw new NativeError('native.bounds', 'recv of 0 bytes');
  const n = c_recv(fd.number, slab.address(offset, length), length, 0);
  return n < 0 ? -lastErrno() : n;
}

/** Writes up to `length` bytes; the count taken or -errno. A gone peer is -EPIPE, never a signal. @throws as recv, but 0 is allowed */
export function send(fd: Fd, slab: Slab, offset: number, length: number): number {
  const n = c_send(fd.number, slab.address(offset, length), length, MSG_NOSIGNAL);
  return n < 0 ? -lastErrno() : n;
}

/** Reads into the segments in order. @throws native.bounds for an empty vector, native.closed */
export function readv(fd: Fd, iov: IoVec): number {
  if (iov.totalBytes === 0) throw new NativeError('native.bounds', 'readv of 0 bytes');
  const n = c_readv(fd.number, iov.vectorAddress(), iov.count);
  return n < 0 ? -lastErrno() : n;
}

/** Writes the segments in order. It is sendmsg, because writev(2) has no flag against SIGPIPE. @throws native.closed */
export function writev(fd: Fd, iov: IoVec): number {
  const n = c_sendmsg(fd.number, iov.messageAddress(), MSG_NOSIGNAL);
  return n < 0 ? -lastErrno() : n;
}

/** Takes one waiting connection (non-blocking, close-on-exec), or -errno; -EAGAIN when none waits. @throws native.closed */
export function acceptConnection(listener: Fd): Fd | number {
  const n = c_accept4(listener.number, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return n < 0 ? -lastErrno() : new Fd(n);
}

/** Sends our end of stream; 0 or -errno. @throws native.closed */
export function shutdownWrite(fd: Fd): number {
  const n = c_shutdown(fd.number, SHUT_WR);
  return n < 0 ? -lastErrno() : n;
}

const LINGER_BYTES = 8;
const abortLinger = Slab.permanent(LINGER_BYTES);
abortLinger.bytes.writeInt32LE(1, 0); // l_onoff
abortLinger.bytes.writeInt32LE(0, 4); // l_linger: drop what is unsent and answer with RST
const abortLingerAddress = abortLinger.address(0, LINGER_BYTES);

/**
 * Closes so that the peer sees a reset and unsent data is dropped. Closing happens whatever the option call says.
 * The reset leaves only with the last descriptor of the socket: a duplicate elsewhere delays it. No-op when closed.
 */
export function closeWithReset(fd: Fd): void {
  if (!fd.isOpen) return;
  c_setsockopt(fd.number, SOL_SOCKET, SO_LINGER, abortLingerAddress, LINGER_BYTES);
  fd.close();
}
