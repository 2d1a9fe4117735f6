// A slab is a block of memory that both JavaScript and the kernel may touch. It is the only way to hand memory to a
// system call: every native call names (slab, offset, length) and is checked here, so a wrong length is an error in
// TypeScript and never a memory fault. The address never leaves this package.
import { markAsUntransferable } from 'node:worker_threads';
import { NativeError } from './errors.ts';
import { pointerTo } from './library.ts';

/** Largest slab: 1 GiB, far above any use here, so that a corrupted size is caught. */
const MAX_SLAB_BYTES = 1 << 30;

const PERMANENT: Slab[] = [];

export class Slab {
  /** The whole slab as JavaScript sees it. Contents are undefined until written. */
  readonly bytes: Buffer;
  readonly size: number;
  #address: number;

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.size = bytes.length;
    this.#address = pointerTo(bytes);
  }

  /** Allocates `size` bytes, not zeroed. Pages that are never touched cost no memory. @throws native.argument */
  static allocate(size: number): Slab {
    if (!Number.isSafeInteger(size) || size < 1 || size > MAX_SLAB_BYTES) {
      throw new NativeError('native.argument', `slab of ${size} bytes`);
    }
    const bytes = Buffer.allocUnsafeSlow(size);
    // Makes the memory undetachable: neither postMessage nor ArrayBuffer.transfer can take it from under the address.
    markAsUntransferable(bytes.buffer);
    return new Slab(bytes);
  }

  /**
   * A zeroed slab that lives as long as the thread, for the scratch areas of modules. Their code keeps the address and
   * not the slab, and a module variable that no function mentions is garbage: the kernel would write into freed memory.
   */
  static permanent(size: number): Slab {
    const slab = Slab.allocate(size);
    slab.bytes.fill(0);
    PERMANENT.push(slab);
    return slab;
  }

  get isOpen(): boolean {
    return this.#address !== 0;
  }

  /** Native calls on this slab throw from now on. The memory itself goes when nothing refers to `bytes`. */
  close(): void {
    this.#address = 0;
  }

  /**
   * Internal to this package: the checked address of `length` bytes at `offset`. It is good for as long as something
   * refers to the slab, which whoever keeps the address has to see to. @throws native.bounds, native.closed
   */
  address(offset: number, length: number): number {
    // Written so that NaN and fractions fail too; this runs before each system call and must stay this small.
    if (
      !(offset >= 0 && length >= 0 && offset + length <= this.size) ||
      (offset | 0) !== offset ||
      (length | 0) !== length
    ) {
      throw new NativeError('native.bounds', `bytes ${offset}..${offset + length} of a slab of ${this.size}`);
    }
    if (this.#address === 0) throw new NativeError('native.closed', 'slab used after close');
    return this.#address + offset;
  }
}
