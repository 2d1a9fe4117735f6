// Unix sockets that keep message borders and carry file descriptors (unix(7), SOCK_SEQPACKET and SCM_RIGHTS): the way
// pods and live connections change hands. Non-blocking and close-on-exec. Every descriptor that arrives is owned by an
// Fd before anything else is looked at, so no kind of bad message can leak one.
import { Errno } from './errno.ts';
import { SysError } from './errors.ts';
import { Fd } from './fd.ts';
import {
  AF_UNIX,
  CMSGHDR_BYTES,
  MAX_UNIX_PATH_BYTES,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  MSGHDR,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCKADDR_UN_BYTES,
  SOL_SOCKET,
} from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { nameBytes } from './path.ts';
import { Slab } from './slab.ts';
import { acceptConnection } from './socket-io.ts';
import { checkInteger } from './socket-options.ts';

type AddressCall = (fd: number, address: number, length: number) => number;
const c_socket = bind<AddressCall>('int socket(int family, int type, int protocol)');
const c_socketpair = bind<(family: number, type: number, protocol: number, pair: number) => number>(
  'int socketpair(int family, int type, int protocol, uintptr_t pair)',
);
const c_bind = bind<AddressCall>('int bind(int fd, uintptr_t address, unsigned int length)');
const c_connect = bind<AddressCall>('int connect(int fd, uintptr_t address, unsigned int length)');
const c_listen = bind<(fd: number, backlog: number) => number>('int listen(int fd, int backlog)');
const c_sendmsg = bind<AddressCall>('int sendmsg(int fd, uintptr_t message, int flags)');
const c_recvmsg = bind<AddressCall>('int recvmsg(int fd, uintptr_t message, int flags)');

/** The kernel's SCM_MAX_FD. */
const MAX_FDS = 253;
/** Above what net.core.wmem_max lets through by default; a bound for our own memory. */
const MAX_MESSAGE_BYTES = 1 << 20;
const FIRST_MESSAGE_BYTES = 1 << 16;
const TYPE = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

// The header area: msghdr, one iovec, room for a socket address, then control data for MAX_FDS descriptors.
const IOV_AT = 64;
const ADDRESS_AT = 128;
const CONTROL_AT = 256;
const CONTROL_BYTES = CMSGHDR_BYTES + 4 * MAX_FDS;
const header = Slab.permanent(CONTROL_AT + CONTROL_BYTES + 4);
/** Grows to the largest message of this thread, at most `MAX_MESSAGE_BYTES`. */
let body = Slab.allocate(FIRST_MESSAGE_BYTES);

export type Received =
  | {
      readonly kind: 'message';
      readonly bytes: Uint8Array;
      /** Owned by the caller, who closes them, also when the message is refused. */
      readonly fds: Fd[];
      /** Bytes or descriptors did not fit `maxBytes` or `maxFds`; the rest is lost. */
      readonly truncated: boolean;
    }
  /** The other end is closed. */
  | { readonly kind: 'end' }
  /** Nothing there yet. */
  | { readonly kind: 'again' };

export class SeqPacket {
  readonly fd: Fd;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /** @throws SysError (ENOENT, ECONNREFUSED; EAGAIN when the listener's queue is full), native.argument */
  static connect(path: string): SeqPacket {
    const length = writeAddress(path);
    const fd = openSocket();
    if (c_connect(fd.number, header.address(ADDRESS_AT, length), length) < 0) fail(fd, 'connect', path);
    return new SeqPacket(fd);
  }

  /** The file must not exist and stays after `close`: removing it is its owner's decision. @throws SysError, native.argument */
  static listen(path: string, backlog: number): SeqPacketListener {
    checkInteger(backlog, 1, 65535, 'backlog');
    const length = writeAddress(path);
    const fd = openSocket();
    if (c_bind(fd.number, header.address(ADDRESS_AT, length), length) < 0) fail(fd, 'bind', path);
    if (c_listen(fd.number, backlog) < 0) fail(fd, 'listen', path);
    return new SeqPacketListener(fd);
  }

  /** Two connected ends. @throws SysError */
  static pair(): readonly [SeqPacket, SeqPacket] {
    if (c_socketpair(AF_UNIX, TYPE, 0, header.address(ADDRESS_AT, 8)) < 0)
      throw new SysError('socketpair', lastErrno());
    const first = header.bytes.readInt32LE(ADDRESS_AT);
    const second = header.bytes.readInt32LE(ADDRESS_AT + 4);
    return [new SeqPacket(new Fd(first)), new SeqPacket(new Fd(second))];
  }

  /** A connected socket of this kind that came from elsewhere (inherited, or accepted). */
  static fromFd(fd: Fd): SeqPacket {
    return new SeqPacket(fd);
  }

  /**
   * Sends one message, whole or not at all, with duplicates of `fds`. The bytes sent, or -errno (-EAGAIN: wait for OUT).
   * @throws native.argument for an empty message (it would look like the end), for one over 1 MiB, and for more than
   *   253 descriptors; native.closed
   */
  send(bytes: Uint8Array, fds: readonly Fd[] = []): number {
    checkInteger(bytes.length, 1, MAX_MESSAGE_BYTES, 'message bytes');
    checkInteger(fds.length, 0, MAX_FDS, 'descriptors in a message');
    roomFor(bytes.length).bytes.set(bytes, 0);
    const controlBytes = fds.length === 0 ? 0 : CMSGHDR_BYTES + 4 * fds.length;
    if (controlBytes > 0) {
      const at = CONTROL_AT;
      header.bytes.writeBigUInt64LE(BigInt(controlBytes), at);
      header.bytes.writeInt32LE(SOL_SOCKET, at + 8);
      header.bytes.writeInt32LE(SCM_RIGHTS, at + 12);
      for (const [i, fd] of fds.entries()) header.bytes.writeInt32LE(fd.number, at + CMSGHDR_BYTES + 4 * i);
    }
    const n = c_sendmsg(this.fd.number, writeHeader(bytes.length, controlBytes), MSG_NOSIGNAL);
    return n < 0 ? -lastErrno() : n;
  }

  /**
   * Takes one message. @param maxBytes 1..1 MiB @param maxFds 0..253
   * @throws SysError (ECONNRESET when the peer closed with our messages unread), native.argument, native.closed
   */
  receive(maxBytes: number, maxFds: number): Received {
    checkInteger(maxBytes, 1, MAX_MESSAGE_BYTES, 'message bytes');
    checkInteger(maxFds, 0, MAX_FDS, 'descriptors in a message');
    const slab = roomFor(maxBytes);
    // Not rounded up to 8 as CMSG_SPACE would: the kernel would use the padding for one more descriptor than asked for.
    const controlBytes = maxFds === 0 ? 0 : CMSGHDR_BYTES + 4 * maxFds;
    const n = c_recvmsg(this.fd.number, writeHeader(maxBytes, controlBytes), MSG_CMSG_CLOEXEC);
    if (n < 0) {
      const errno = lastErrno();
      if (errno === Errno.EAGAIN || errno === Errno.EINTR) return { kind: 'again' };
      throw new SysError('recvmsg', errno);
    }
    const fds = takeFds();
    if (n === 0) {
      for (const fd of fds) fd.close();
      return { kind: 'end' };
    }
    const flags = header.bytes.readInt32LE(MSGHDR.flags);
    const truncated = (flags & (MSG_TRUNC | MSG_CTRUNC)) !== 0;
    return { kind: 'message', bytes: Uint8Array.from(slab.bytes.subarray(0, n)), fds, truncated };
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export class SeqPacketListener {
  readonly fd: Fd;

  /** Use `SeqPacket.listen`. */
  constructor(fd: Fd) {
    this.fd = fd;
  }

  /** One waiting connection, or undefined. @throws SysError, native.closed */
  accept(): SeqPacket | undefined {
    const accepted = acceptConnection(this.fd);
    if (accepted instanceof Fd) return SeqPacket.fromFd(accepted);
    if (accepted === -Errno.EAGAIN || accepted === -Errno.ECONNABORTED || accepted === -Errno.EINTR) return undefined;
    throw new SysError('accept4', -accepted);
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openSocket(): Fd {
  const n = c_socket(AF_UNIX, TYPE, 0);
  if (n < 0) throw new SysError('socket', lastErrno(), 'AF_UNIX');
  return new Fd(n);
}

/** Throws for the libc call just made; the descriptor goes first, hence errno is read before. */
function fail(fd: Fd, call: string, path: string): never {
  const errno = lastErrno();
  fd.close();
  throw new SysError(call, errno, path);
}

function writeAddress(path: string): number {
  const bytes = nameBytes(path, MAX_UNIX_PATH_BYTES, 'socket path');
  header.bytes.fill(0, ADDRESS_AT, ADDRESS_AT + SOCKADDR_UN_BYTES);
  header.bytes.writeUInt16LE(AF_UNIX, ADDRESS_AT);
  header.bytes.set(bytes, ADDRESS_AT + 2);
  return 2 + bytes.length + 1;
}

function roomFor(length: number): Slab {
  if (body.size < length) body = Slab.allocate(length);
  return body;
}

/** A msghdr for `length` bytes of the body and `controlBytes` of the control area; its address. */
function writeHeader(length: number, controlBytes: number): number {
  const { bytes } = header;
  bytes.fill(0, 0, MSGHDR.bytes);
  bytes.writeBigUInt64LE(BigInt(header.address(IOV_AT, 16)), MSGHDR.iov);
  bytes.writeBigUInt64LE(1n, MSGHDR.iovLength);
  bytes.writeBigUInt64LE(BigInt(body.address(0, length)), IOV_AT);
  bytes.writeBigUInt64LE(BigInt(length), IOV_AT + 8);
  if (controlBytes > 0) {
    bytes.writeBigUInt64LE(BigInt(header.address(CONTROL_AT, controlBytes)), MSGHDR.control);
    bytes.writeBigUInt64LE(BigInt(controlBytes), MSGHDR.controlLength);
  }
  return header.address(0, MSGHDR.bytes);
}

/** Owns every descriptor the kernel put into the control area, whatever else is in there. */
function takeFds(): Fd[] {
  const fds: Fd[] = [];
  const { bytes } = header;
  const end = CONTROL_AT + Number(bytes.readBigUInt64LE(MSGHDR.controlLength));
  let at = CONTROL_AT;
  while (at + CMSGHDR_BYTES <= end) {
    const length = Number(bytes.readBigUInt64LE(at));
    if (length < CMSGHDR_BYTES) break;
    const isRights = bytes.readInt32LE(at + 8) === SOL_SOCKET && bytes.readInt32LE(at + 12) === SCM_RIGHTS;
    const dataEnd = Math.min(at + length, end);
    for (let i = at + CMSGHDR_BYTES; isRights && i + 4 <= dataEnd; i += 4) fds.push(new Fd(bytes.readInt32LE(i)));
    at += (length + 7) & ~7;
  }
  return fds;
}
