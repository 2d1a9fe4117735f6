// A list of memory segments for one scatter/gather call. Reused for the life of its owner: pushing and clearing
// allocate nothing. It keeps every pushed slab referenced until `clear`, so that the memory cannot go while listed.
import { NativeError } from './errors.ts';
import { IOVEC_BYTES, MSGHDR } from './layouts.ts';
import { Slab } from './slab.ts';

/** The kernel's UIO_MAXIOV. */
const MAX_SEGMENTS = 1024;
const WORD = 2 ** 32;

export class IoVec {
  readonly maxSegments: number;
  readonly #memory: Slab;
  readonly #words: Uint32Array;
  readonly #slabs: (Slab | undefined)[];
  readonly #vectorAddress: number;
  readonly #headerAddress: number;
  #count = 0;
  #totalBytes = 0;

  private constructor(maxSegments: number) {
    const vectorBytes = maxSegments * IOVEC_BYTES;
    this.maxSegments = maxSegments;
    this.#memory = Slab.allocate(vectorBytes + MSGHDR.bytes);
    this.#memory.bytes.fill(0);
    const { buffer, byteOffset, length } = this.#memory.bytes;
    this.#words = new Uint32Array(buffer, byteOffset, length / 4);
    this.#slabs = Array.from({ length: maxSegments }, () => undefined);
    this.#vectorAddress = this.#memory.address(0, vectorBytes);
    this.#headerAddress = this.#memory.address(vectorBytes, MSGHDR.bytes);
    const iov = (vectorBytes + MSGHDR.iov) / 4;
    this.#words[iov] = this.#vectorAddress % WORD;
    this.#words[iov + 1] = Math.floor(this.#vectorAddress / WORD);
  }

  /** @param maxSegments 1..1024 @throws native.argument */
  static allocate(maxSegments: number): IoVec {
    if (!Number.isInteger(maxSegments) || maxSegments < 1 || maxSegments > MAX_SEGMENTS) {
      throw new NativeError('native.argument', `a vector of ${maxSegments} segments`);
    }
    return new IoVec(maxSegments);
  }

  /** Segments listed now. */
  get count(): number {
    return this.#count;
  }

  /** Sum of the lengths listed now. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Forgets all segments and releases their slabs. */
  clear(): void {
    for (let i = 0; i < this.#count; i++) this.#slabs[i] = undefined;
    this.#count = 0;
    this.#totalBytes = 0;
  }

  /** Appends `length` bytes of `slab` at `offset`. @throws native.bounds (also when full), native.closed */
  push(slab: Slab, offset: number, length: number): void {
    const at = this.#count;
    if (at >= this.maxSegments)
      throw new NativeError('native.bounds', `vector of ${this.maxSegments} segments is full`);
    const address = slab.address(offset, length);
    const word = at * 4;
    this.#words[word] = address % WORD;
    this.#words[word + 1] = Math.floor(address / WORD);
    this.#words[word + 2] = length;
    this.#words[word + 3] = 0;
    this.#slabs[at] = slab;
    this.#count = at + 1;
    this.#totalBytes += length;
  }

  /** Internal to this package: address of the checked `struct iovec` array. @throws native.closed */
  vectorAddress(): number {
    this.#checkSlabs();
    return this.#vectorAddress;
  }

  /** Internal to this package: address of a `struct msghdr` that names exactly these segments. @throws native.closed */
  messageAddress(): number {
    this.#checkSlabs();
    this.#words[(this.maxSegments * IOVEC_BYTES + MSGHDR.iovLength) / 4] = this.#count;
    return this.#headerAddress;
  }

  #checkSlabs(): void {
    for (let i = 0; i < this.#count; i++) {
      if (this.#slabs[i]?.isOpen !== true) throw new NativeError('native.closed', 'vector names a closed slab');
    }
  }
}
