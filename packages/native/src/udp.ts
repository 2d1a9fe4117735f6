// Datagrams (udp(7)) for threads that block in the reactor. `recvFrom` and `sendTo` are one system call each on checked
// memory and allocate nothing: the other side's address stays in the kernel's form in a `UdpAddresses`. For a connected
// socket, `startConnect`, `recv` and `send` do. Sockets are non-blocking and close-on-exec.
import { NativeError, SysError } from './errors.ts';
import { Fd } from './fd.ts';
import type { IpFamily } from './ip-text.ts';
import {
  AF_INET,
  AF_INET6,
  IPV6_V6ONLY,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCKADDR_IN6_BYTES,
  SOL_IPV6,
  SOL_SOCKET,
} from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';
import { readSockaddr, type SocketAddress, writeSockaddr } from './socket-address.ts';
import { checkInteger, setOption } from './socket-options.ts';

type Transfer = (fd: number, data: number, length: number, flags: number, address: number, size: number) => number;
const c_socket = bind<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const c_recvfrom = bind<Transfer>(
  'int recvfrom(int fd, uintptr_t data, size_t length, int flags, uintptr_t address, uintptr_t size)',
);
const c_sendto = bind<Transfer>(
  'int sendto(int fd, uintptr_t data, size_t length, int flags, uintptr_t address, unsigned int size)',
);

export interface UdpOptions {
  /** SO_REUSEPORT: workers bind the same port and the kernel shares the senders out. Default: false. */
  readonly reusePort?: boolean;
  /** Of an IPv6 socket: no IPv4 by mapped addresses. Default: false, whatever net.ipv6.bindv6only says. */
  readonly v6Only?: boolean;
}

/** A UDP socket in the current network namespace; bind it with `bindTo`. @throws SysError */
export function openUdp(family: IpFamily, options: UdpOptions = {}): Fd {
  const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const n = c_socket(family === 'ipv4' ? AF_INET : AF_INET6, type, 0);
  if (n < 0) throw new SysError('socket', lastErrno(), family);
  const fd = new Fd(n);
  const reuse = options.reusePort === true ? setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1) : 0;
  const only = family === 'ipv6' ? setOption(fd, SOL_IPV6, IPV6_V6ONLY, options.v6Only === true ? 1 : 0) : 0;
  if (reuse < 0 || only < 0) {
    fd.close();
    throw new SysError('setsockopt', -Math.min(reuse, only), reuse < 0 ? 'SO_REUSEPORT' : 'IPV6_V6ONLY');
  }
  return fd;
}

/** Room for `sockaddr_in6`, then for its length. The kernel writes no more than it is told there is room for. */
const CELL_BYTES = 32;
const CELL_WORDS = CELL_BYTES / 4;
const LENGTH_WORD = SOCKADDR_IN6_BYTES / 4;
const MAX_ADDRESSES = 1 << 20;

/** Numbered places for peers' addresses, 32 bytes each. All are empty at first. */
export class UdpAddresses {
  readonly count: number;
  readonly #slab: Slab;
  readonly #words: Uint32Array;
  readonly #base: number;

  private constructor(count: number) {
    this.count = count;
    this.#slab = Slab.allocate(count * CELL_BYTES);
    this.#slab.bytes.fill(0);
    this.#words = new Uint32Array(this.#slab.bytes.buffer, this.#slab.bytes.byteOffset, count * CELL_WORDS);
    this.#base = this.#slab.address(0, this.#slab.size);
  }

  /** @param count 1..1048576 @throws native.argument */
  static allocate(count: number): UdpAddresses {
    checkInteger(count, 1, MAX_ADDRESSES, 'addresses');
    return new UdpAddresses(count);
  }

  /** The address as plain data; undefined when the place is empty. @throws native.bounds */
  get(index: number): SocketAddress | undefined {
    const length = this.#words[this.#check(index) * CELL_WORDS + LENGTH_WORD] ?? 0;
    return readSockaddr(this.#slab.bytes, index * CELL_BYTES, length);
  }

  /** @throws native.argument for what is no address, native.bounds */
  set(index: number, address: SocketAddress): void {
    const length = writeSockaddr(this.#slab.bytes, this.#check(index) * CELL_BYTES, address);
    this.#words[index * CELL_WORDS + LENGTH_WORD] = length;
  }

  /** Copies a place of `from`, which may be this object. @throws native.bounds */
  copy(index: number, from: UdpAddresses, fromIndex: number): void {
    const to = this.#check(index) * CELL_WORDS;
    const at = from.#check(fromIndex) * CELL_WORDS;
    for (let word = 0; word < CELL_WORDS; word++) this.#words[to + word] = from.#words[at + word] ?? 0;
  }

  /** Whether two places hold the same address, an IPv4 address and its mapped form being different. @throws native.bounds */
  equals(index: number, other: UdpAddresses, otherIndex: number): boolean {
    const one = this.#check(index) * CELL_WORDS;
    const two = other.#check(otherIndex) * CELL_WORDS;
    for (let word = 0; word < CELL_WORDS; word++) {
      if (this.#words[one + word] !== other.#words[two + word]) return false;
    }
    return true;
  }

  /** Internal to this package: where the kernel writes an address, emptied, with room for any. @throws native.bounds */
  addressToFill(index: number): number {
    const at = this.#check(index) * CELL_WORDS;
    // Cleared, since what a shorter address leaves behind would count in `equals`.
    this.#words.fill(0, at, at + LENGTH_WORD);
    this.#words[at + LENGTH_WORD] = SOCKADDR_IN6_BYTES;
    return this.#base + at * 4;
  }

  /** Internal to this package: where the kernel reads an address. @throws native.bounds */
  addressOf(index: number): number {
    return this.#base + this.#check(index) * CELL_BYTES;
  }

  /** Internal to this package: its length, 0 when the place is empty. */
  lengthOf(index: number): number {
    return this.#words[index * CELL_WORDS + LENGTH_WORD] ?? 0;
  }

  /** Internal to this package: notes how much the kernel wrote; 0 empties the place. */
  setLength(index: number, length: number): void {
    this.#words[index * CELL_WORDS + LENGTH_WORD] = length;
  }

  #check(index: number): number {
    if (!(index >= 0 && index < this.count) || (index | 0) !== index) {
      throw new NativeError('native.bounds', `address ${index} of ${this.count}`);
    }
    return index;
  }
}

/**
 * Takes one datagram into the slab and its sender into place `index` of `from`. @returns the datagram's length, which is
 * above `length` when its end was cut off, and may be 0; or -errno (-EAGAIN: none there; -ECONNREFUSED and the like: an
 * earlier send came back), with the place empty. @throws native.bounds, native.closed
 */
export function recvFrom(
  fd: Fd,
  slab: Slab,
  offset: number,
  length: number,
  from: UdpAddresses,
  index: number,
): number {
  const data = slab.address(offset, length);
  const sender = from.addressToFill(index);
  const n = c_recvfrom(fd.number, data, length, MSG_TRUNC, sender, sender + SOCKADDR_IN6_BYTES);
  if (n >= 0) return n;
  const errno = lastErrno();
  from.setLength(index, 0);
  return -errno;
}

/**
 * Sends one datagram to place `index` of `to`; the length or -errno (-EAGAIN: wait for OUT).
 * @throws native.argument when the place is empty, native.bounds, native.closed
 */
export function sendTo(fd: Fd, slab: Slab, offset: number, length: number, to: UdpAddresses, index: number): number {
  const data = slab.address(offset, length);
  const receiver = to.addressOf(index);
  const size = to.lengthOf(index);
  if (size === 0) throw new NativeError('native.argument', `no address in place ${index}`);
  const n = c_sendto(fd.number, data, length, MSG_NOSIGNAL, receiver, size);
  return n < 0 ? -lastErrno() : n;
}
