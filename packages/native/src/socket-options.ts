// Socket options as typed calls. Options that decide whether traffic is safe (mark, transparency) return 0 or -errno,
// because their callers go on without them in some modes; the others throw, since only a bug makes them fail.
import { NativeError, SysError } from './errors.ts';
import type { Fd } from './fd.ts';
import type { IpFamily } from './ip-text.ts';
import {
  IP_FREEBIND,
  IP_TRANSPARENT,
  IPV6_FREEBIND,
  IPV6_TRANSPARENT,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_MARK,
  SO_RCVBUF,
  SO_SNDBUF,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_TCP,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
} from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';

type OptionCall = (fd: number, level: number, name: number, value: number, length: number) => number;
const c_setsockopt = bind<OptionCall>(
  'int setsockopt(int fd, int level, int name, uintptr_t value, unsigned int length)',
);
const c_getsockopt = bind<OptionCall>('int getsockopt(int fd, int level, int name, uintptr_t value, uintptr_t length)');

/** Room for the largest option read here (`tcp_info`), then the length word. */
const VALUE_BYTES = 256;
const scratch = Slab.permanent(VALUE_BYTES + 8);
const valueAddress = scratch.address(0, VALUE_BYTES);
const lengthAddress = scratch.address(VALUE_BYTES, 4);
const MAX_INT = 0x7fffffff;
const MAX_U32 = 0xffffffff;

/** Refuses what C would cut down silently. @throws native.argument */
export function checkInteger(value: number, min: number, max: number, what: string): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new NativeError('native.argument', `${what} ${value}, must be a whole number in ${min}..${max}`);
  }
}

/** Sets a 32-bit option; 0 or -errno. Internal to this package. */
export function setOption(fd: Fd, level: number, name: number, value: number): number {
  scratch.bytes.writeUInt32LE(value >>> 0, 0);
  return c_setsockopt(fd.number, level, name, valueAddress, 4) < 0 ? -lastErrno() : 0;
}

/**
 * Reads an option of at most 256 bytes. Internal to this package: the bytes are a scratch area, valid until the next
 * call here; returns the length the kernel gave, or -errno.
 */
export function readOption(fd: Fd, level: number, name: number, into: { bytes: Buffer }): number {
  scratch.bytes.fill(0, 0, VALUE_BYTES);
  scratch.bytes.writeUInt32LE(VALUE_BYTES, VALUE_BYTES);
  if (c_getsockopt(fd.number, level, name, valueAddress, lengthAddress) < 0) return -lastErrno();
  into.bytes = scratch.bytes;
  return scratch.bytes.readUInt32LE(VALUE_BYTES);
}

function must(fd: Fd, level: number, name: number, value: number, label: string): void {
  const result = setOption(fd, level, name, value);
  if (result < 0) throw new SysError('setsockopt', -result, label);
}

/** Sends small writes at once (TCP_NODELAY). @throws SysError, native.closed */
export function setNoDelay(fd: Fd): void {
  must(fd, SOL_TCP, TCP_NODELAY, 1, 'TCP_NODELAY');
}

export interface KeepAlive {
  /** Silence before the first probe, 1..32767 s (the kernel's own bound). */
  readonly idleSeconds: number;
  /** Between probes, 1..32767 s. */
  readonly intervalSeconds: number;
  /** Unanswered probes until the connection is dead, 1..127. */
  readonly probes: number;
}

/** Turns keep-alive on. @throws native.argument, SysError, native.closed */
export function setKeepAlive(fd: Fd, options: KeepAlive): void {
  checkInteger(options.idleSeconds, 1, 32767, 'keep-alive idle seconds');
  checkInteger(options.intervalSeconds, 1, 32767, 'keep-alive interval seconds');
  checkInteger(options.probes, 1, 127, 'keep-alive probes');
  must(fd, SOL_SOCKET, SO_KEEPALIVE, 1, 'SO_KEEPALIVE');
  must(fd, SOL_TCP, TCP_KEEPIDLE, options.idleSeconds, 'TCP_KEEPIDLE');
  must(fd, SOL_TCP, TCP_KEEPINTVL, options.intervalSeconds, 'TCP_KEEPINTVL');
  must(fd, SOL_TCP, TCP_KEEPCNT, options.probes, 'TCP_KEEPCNT');
}

/** Unacknowledged data kills the connection after `ms` (RFC 5482); 0 is the system's default. @throws native.argument, SysError */
export function setUserTimeout(fd: Fd, ms: number): void {
  checkInteger(ms, 0, MAX_INT, 'user timeout ms');
  must(fd, SOL_TCP, TCP_USER_TIMEOUT, ms, 'TCP_USER_TIMEOUT');
}

/** SO_MARK (needs CAP_NET_ADMIN or CAP_NET_RAW); 0 or -errno. @throws native.argument, native.closed */
export function setMark(fd: Fd, mark: number): number {
  checkInteger(mark, 0, MAX_U32, 'mark');
  return setOption(fd, SOL_SOCKET, SO_MARK, mark);
}

/**
 * Lets the socket bind to an address that is not this host's: transparent and freebind of `family`, the family the
 * socket was opened with. 0, or -errno of the first refusal (CAP_NET_ADMIN or CAP_NET_RAW is needed).
 */
export function setTransparent(fd: Fd, family: IpFamily): number {
  const transparent = setTransparentOnly(fd, family);
  if (transparent < 0) return transparent;
  return family === 'ipv4' ? setOption(fd, SOL_IP, IP_FREEBIND, 1) : setOption(fd, SOL_IPV6, IPV6_FREEBIND, 1);
}

/** Transparency without freebind, as a listener wants it. Internal to this package. */
export function setTransparentOnly(fd: Fd, family: IpFamily): number {
  return family === 'ipv4' ? setOption(fd, SOL_IP, IP_TRANSPARENT, 1) : setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1);
}

/** Asks for a send buffer; the kernel doubles it and caps it at net.core.wmem_max. @throws native.argument, SysError */
export function setSendBuffer(fd: Fd, bytes: number): void {
  checkInteger(bytes, 1, MAX_INT, 'send buffer bytes');
  must(fd, SOL_SOCKET, SO_SNDBUF, bytes, 'SO_SNDBUF');
}

/** As `setSendBuffer`, for receiving; set before connect or listen to have an effect on the window scale. */
export function setReceiveBuffer(fd: Fd, bytes: number): void {
  checkInteger(bytes, 1, MAX_INT, 'receive buffer bytes');
  must(fd, SOL_SOCKET, SO_RCVBUF, bytes, 'SO_RCVBUF');
}

const into = { bytes: scratch.bytes };

/** Takes the pending error of the socket (how a connect ended): 0 for none, else the negated errno. @throws native.closed */
export function socketError(fd: Fd): number {
  const length = readOption(fd, SOL_SOCKET, SO_ERROR, into);
  if (length < 0) return length;
  const error = into.bytes.readInt32LE(0);
  return error === 0 ? 0 : -error;
}
