// Opening, binding, listening, connecting, and asking a socket who it talks to. Called once per connection, so clarity
// goes before speed; sockets are always non-blocking and close-on-exec, and belong to the namespace the thread is in.
import { Errno } from './errno.ts';
import { SysError } from './errors.ts';
import { Fd } from './fd.ts';
import type { IpFamily } from './ip-text.ts';
import {
  AF_INET,
  AF_INET6,
  IP6T_SO_ORIGINAL_DST,
  IPV6_V6ONLY,
  SO_ORIGINAL_DST,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
} from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';
import { familyOf, readSockaddr, type SocketAddress, writeSockaddr } from './socket-address.ts';
import { checkInteger, readOption, setMark, setOption, setTransparentOnly } from './socket-options.ts';

type AddressCall = (fd: number, address: number, length: number) => number;
const c_socket = bind<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const c_bind = bind<AddressCall>('int bind(int fd, uintptr_t address, unsigned int length)');
const c_connect = bind<AddressCall>('int connect(int fd, uintptr_t address, unsigned int length)');
const c_listen = bind<(fd: number, backlog: number) => number>('int listen(int fd, int backlog)');
const c_getsockname = bind<AddressCall>('int getsockname(int fd, uintptr_t address, uintptr_t length)');
const c_getpeername = bind<AddressCall>('int getpeername(int fd, uintptr_t address, uintptr_t length)');

/** `sockaddr_storage`, then its length word. */
const STORAGE_BYTES = 128;
const scratch = Slab.permanent(STORAGE_BYTES + 8);
const storageAddress = scratch.address(0, STORAGE_BYTES);
const lengthAddress = scratch.address(STORAGE_BYTES, 4);

/** A TCP socket in the current network namespace. @throws SysError */
export function openTcp(family: IpFamily): Fd {
  const n = c_socket(family === 'ipv4' ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (n < 0) throw new SysError('socket', lastErrno(), family);
  return new Fd(n);
}

/**
 * Begins to connect; 0 when done at once, -EINPROGRESS normally: wait for OUT, then ask `socketError`. The address must
 * be of the socket's family. @throws native.argument, native.closed
 */
export function startConnect(fd: Fd, to: SocketAddress): number {
  const length = writeSockaddr(scratch.bytes, 0, to);
  return c_connect(fd.number, storageAddress, length) < 0 ? -lastErrno() : 0;
}

/** Binds to a local address (port 0: the kernel picks); 0 or -errno. @throws native.argument, native.closed */
export function bindTo(fd: Fd, address: SocketAddress): number {
  const length = writeSockaddr(scratch.bytes, 0, address);
  return c_bind(fd.number, storageAddress, length) < 0 ? -lastErrno() : 0;
}

export interface ListenOptions {
  /** An IP address; `::` accepts IPv4 too, whatever net.ipv6.bindv6only says. */
  readonly address: string;
  /** 0 lets the kernel pick; see `port` of the result. */
  readonly port: number;
  /** Waiting connections, 1..65535; the kernel caps it at net.core.somaxconn. */
  readonly backlog: number;
  /** SO_REUSEPORT, so that several workers, or the old and the new process, listen side by side. Without it SO_REUSEADDR is set. */
  readonly reusePort?: boolean;
  /** Transparency of accepted sockets: `require` throws when refused, `try` reports, `no` (default) does not ask. */
  readonly transparent?: 'require' | 'try' | 'no';
  /** SO_MARK, inherited by accepted sockets; 0 or absent sets none. */
  readonly mark?: number;
}

export interface Listener {
  readonly fd: Fd;
  /** Whether the kernel granted transparency. */
  readonly transparent: boolean;
  /** False when SO_REUSEPORT was asked for and refused; worth a warning, the listener works alone. */
  readonly reusePort: boolean;
  readonly port: number;
}

/** Opens a listening socket in the current network namespace. Nothing stays open on failure. @throws native.argument, SysError */
export function listenTcp(options: ListenOptions): Listener {
  checkInteger(options.backlog, 1, 65535, 'backlog');
  const family = familyOf(options.address);
  const fd = openTcp(family);
  try {
    const wantsReusePort = options.reusePort === true;
    const reusePort = wantsReusePort && setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1) === 0;
    if (!wantsReusePort) demand(setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1), 'setsockopt', 'SO_REUSEADDR');
    if (family === 'ipv6') demand(setOption(fd, SOL_IPV6, IPV6_V6ONLY, 0), 'setsockopt', 'IPV6_V6ONLY');
    if (options.mark !== undefined && options.mark !== 0) demand(setMark(fd, options.mark), 'setsockopt', 'SO_MARK');
    const transparent = askTransparency(fd, family, options.transparent ?? 'no');
    const address = { ip: options.address, port: options.port };
    demand(bindTo(fd, address), 'bind', `${options.address} port ${options.port}`);
    if (c_listen(fd.number, options.backlog) < 0) throw new SysError('listen', lastErrno(), `port ${options.port}`);
    return { fd, transparent, reusePort, port: localAddress(fd).port };
  } catch (error) {
    fd.close();
    throw error;
  }
}

function askTransparency(fd: Fd, family: IpFamily, wish: 'require' | 'try' | 'no'): boolean {
  if (wish === 'no') return false;
  // Both families keep one transparency bit in the socket, so the IPv6 option covers a dual-stack listener's IPv4 too.
  const result = setTransparentOnly(fd, family);
  if (wish === 'require') demand(result, 'setsockopt', 'IP_TRANSPARENT');
  return result === 0;
}

function demand(result: number, call: string, detail: string): void {
  if (result < 0) throw new SysError(call, -result, detail);
}

/** The socket's own address. @throws SysError, native.closed */
export function localAddress(fd: Fd): SocketAddress {
  return nameOf(fd, c_getsockname, 'getsockname');
}

/** The other end's address. @throws SysError (ENOTCONN after a reset), native.closed */
export function peerAddress(fd: Fd): SocketAddress {
  return nameOf(fd, c_getpeername, 'getpeername');
}

function nameOf(fd: Fd, call: AddressCall, name: string): SocketAddress {
  scratch.bytes.writeUInt32LE(STORAGE_BYTES, STORAGE_BYTES);
  if (call(fd.number, storageAddress, lengthAddress) < 0) throw new SysError(name, lastErrno());
  const address = readSockaddr(scratch.bytes, 0, scratch.bytes.readUInt32LE(STORAGE_BYTES));
  if (address === undefined) throw new SysError(name, Errno.EAFNOSUPPORT, 'not an IP socket');
  return address;
}

const into = { bytes: scratch.bytes };

/**
 * Where the client meant to go before an nftables redirect, from connection tracking: IPv4's table first, then IPv6's.
 * Undefined when the kernel knows none; the caller then takes `localAddress` (the TPROXY case). @throws native.closed
 */
export function originalDestination(fd: Fd): SocketAddress | undefined {
  const v4 = readOption(fd, SOL_IP, SO_ORIGINAL_DST, into);
  if (v4 > 0) return readSockaddr(into.bytes, 0, v4);
  const v6 = readOption(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, into);
  return v6 > 0 ? readSockaddr(into.bytes, 0, v6) : undefined;
}
