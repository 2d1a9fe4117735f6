// Many datagrams with one system call (recvmmsg(2), sendmmsg(2)): a fifth to a quarter cheaper from eight datagrams on,
// some hundredths dearer for one (see bench/netlink.ts). Nothing is allocated after `allocate`. For non-blocking sockets.
import { NativeError } from './errors.ts';
import type { Fd } from './fd.ts';
import { IOVEC_BYTES, MMSGHDR, MSG_NOSIGNAL, MSG_TRUNC, MSGHDR, SOCKADDR_IN6_BYTES } from './layouts.ts';
import { bind, lastErrno } from './library.ts';
import { Slab } from './slab.ts';
import { checkInteger } from './socket-options.ts';
import { UdpAddresses } from './udp.ts';

const c_recvmmsg = bind<(fd: number, vector: number, count: number, flags: number, timeout: number) => number>(
  'int recvmmsg(int fd, uintptr_t vector, unsigned int count, int flags, uintptr_t timeout)',
);
const c_sendmmsg = bind<(fd: number, vector: number, count: number, flags: number) => number>(
  'int sendmmsg(int fd, uintptr_t vector, unsigned int count, int flags)',
);

/** The kernel's UIO_MAXIOV. */
const MAX_DATAGRAMS = 1024;
const MAX_DATAGRAM_BYTES = 65535;
const HEADER_WORDS = MMSGHDR.bytes / 4;
const IOVEC_WORDS = IOVEC_BYTES / 4;
const NAME_LENGTH_WORD = MSGHDR.nameLength / 4;
const LENGTH_WORD = MMSGHDR.length / 4;

/** Numbered places, each with room for one datagram and its peer. One batch either receives or sends at a time. */
export class UdpBatch {
  /** Places there are. */
  readonly capacity: number;
  /** Room of a place; place `i` begins at `i * bytesPerDatagram` of `slab`. */
  readonly bytesPerDatagram: number;
  /** The datagrams. */
  readonly slab: Slab;
  /** Senders of what was received, receivers of what is to be sent. */
  readonly peers: UdpAddresses;
  readonly #headers: Slab;
  readonly #words: Uint32Array;
  readonly #firstIovecWord: number;

  private constructor(capacity: number, bytesPerDatagram: number) {
    this.capacity = capacity;
    this.bytesPerDatagram = bytesPerDatagram;
    this.slab = Slab.allocate(capacity * bytesPerDatagram);
    this.peers = UdpAddresses.allocate(capacity);
    this.#headers = Slab.allocate(capacity * (MMSGHDR.bytes + IOVEC_BYTES));
    const { bytes } = this.#headers;
    bytes.fill(0);
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    this.#firstIovecWord = capacity * HEADER_WORDS;
    for (let i = 0; i < capacity; i++) {
      const header = i * MMSGHDR.bytes;
      const iovec = capacity * MMSGHDR.bytes + i * IOVEC_BYTES;
      bytes.writeBigUInt64LE(BigInt(this.peers.addressOf(i)), header + MSGHDR.name);
      bytes.writeBigUInt64LE(BigInt(this.#headers.address(iovec, IOVEC_BYTES)), header + MSGHDR.iov);
      bytes.writeBigUInt64LE(1n, header + MSGHDR.iovLength);
      bytes.writeBigUInt64LE(BigInt(this.slab.address(i * bytesPerDatagram, bytesPerDatagram)), iovec);
    }
  }

  /** @param capacity 1..1024; all places are made ready for each receive, so some dozens serve best @param bytesPerDatagram 1..65535 @throws native.argument */
  static allocate(capacity: number, bytesPerDatagram: number): UdpBatch {
    checkInteger(capacity, 1, MAX_DATAGRAMS, 'datagrams of a batch');
    checkInteger(bytesPerDatagram, 1, MAX_DATAGRAM_BYTES, 'bytes of a datagram');
    return new UdpBatch(capacity, bytesPerDatagram);
  }

  /** Length of the datagram in a place; of a received one above `bytesPerDatagram` when its end was cut off. @throws native.bounds */
  length(index: number): number {
    return this.#words[this.#check(index) * HEADER_WORDS + LENGTH_WORD] ?? 0;
  }

  /** Says how much of a place is to be sent. @throws native.bounds */
  setLength(index: number, length: number): void {
    if (!(length >= 0 && length <= this.bytesPerDatagram) || (length | 0) !== length) {
      throw new NativeError('native.bounds', `a datagram of ${length} bytes in a place of ${this.bytesPerDatagram}`);
    }
    this.#words[this.#check(index) * HEADER_WORDS + LENGTH_WORD] = length;
  }

  /**
   * Takes the datagrams that are there, from place 0 on, over what the places held. @returns how many, or -errno as
   * `recvFrom`: -EAGAIN when none was there @throws native.closed
   */
  receive(fd: Fd): number {
    this.#checkOpen();
    const words = this.#words;
    for (let i = 0; i < this.capacity; i++) {
      this.peers.addressToFill(i);
      words[i * HEADER_WORDS + NAME_LENGTH_WORD] = SOCKADDR_IN6_BYTES;
      words[this.#firstIovecWord + i * IOVEC_WORDS + 2] = this.bytesPerDatagram;
    }
    const n = c_recvmmsg(fd.number, this.#vector(0, this.capacity), this.capacity, MSG_TRUNC, 0);
    const errno = n < 0 ? lastErrno() : 0;
    for (let i = 0; i < this.capacity; i++) {
      const length = i < n ? (words[i * HEADER_WORDS + NAME_LENGTH_WORD] ?? 0) : 0;
      this.peers.setLength(i, length);
    }
    return n < 0 ? -errno : n;
  }

  /**
   * Sends `count` datagrams from place `first` on, each to its peer. @returns how many went, in order; fewer than `count`
   * when the next could not (ask again from there to learn why), or -errno when the first could not
   * @throws native.argument for a place without a peer, native.bounds, native.closed
   */
  send(fd: Fd, first: number, count: number): number {
    this.#checkOpen();
    const vector = this.#vector(first, count);
    const words = this.#words;
    for (let i = first; i < first + count; i++) {
      const size = this.peers.lengthOf(i);
      if (size === 0) throw new NativeError('native.argument', `no address in place ${i}`);
      const header = i * HEADER_WORDS;
      // A received datagram that was cut off is longer than its place.
      const length = Math.min(words[header + LENGTH_WORD] ?? 0, this.bytesPerDatagram);
      words[header + NAME_LENGTH_WORD] = size;
      words[this.#firstIovecWord + i * IOVEC_WORDS + 2] = length;
    }
    const n = c_sendmmsg(fd.number, vector, count, MSG_NOSIGNAL);
    return n < 0 ? -lastErrno() : n;
  }

  #check(index: number): number {
    if (!(index >= 0 && index < this.capacity) || (index | 0) !== index) {
      throw new NativeError('native.bounds', `place ${index} of ${this.capacity}`);
    }
    return index;
  }

  /** Address of the headers of places that are all there. */
  #vector(first: number, count: number): number {
    if (
      !(count >= 1 && first >= 0 && first + count <= this.capacity) ||
      (first | 0) !== first ||
      (count | 0) !== count
    ) {
      throw new NativeError('native.bounds', `places ${first}..${first + count} of ${this.capacity}`);
    }
    return this.#headers.address(first * MMSGHDR.bytes, count * MMSGHDR.bytes);
  }

  #checkOpen(): void {
    if (!this.slab.isOpen) throw new NativeError('native.closed', 'batch of a closed slab');
  }
}
