// Bytes that came out of a tunnel and that the TCP side has not taken yet, in order. They are the only user bytes that
// are copied, and every byte of memory they hold is counted against the memory budget.
import { type Fd, type IoVec, Slab, writev } from '@ambit/native';
import type { MemoryBudget } from './memory-budget.ts';

/** The first chunk is small, since most leftovers are; later ones are larger so that many tiny frames share one. */
const FIRST_CHUNK_BYTES = 2 * 1024;
const CHUNK_BYTES = 16 * 1024;
const MAX_SEGMENTS = 64;

interface Chunk {
  readonly slab: Slab;
  start: number;
  end: number;
}

export class PendingBytes {
  readonly #budget: MemoryBudget;
  #chunks: Chunk[] = [];
  #bytes = 0;
  #offered = 0;

  constructor(budget: MemoryBudget) {
    this.#budget = budget;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Copies `source[start..end)` behind what is there. False, perhaps with a part kept, at the budget's hard mark. */
  append(source: Uint8Array, start: number, end: number): boolean {
    let from = start;
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.end < last.slab.size) {
      const length = Math.min(last.slab.size - last.end, end - from);
      last.slab.bytes.set(source.subarray(from, from + length), last.end);
      last.end += length;
      this.#bytes += length;
      from += length;
    }
    if (from === end) return true;
    const length = end - from;
    const size = Math.max(length, this.#chunks.length === 0 ? FIRST_CHUNK_BYTES : CHUNK_BYTES);
    if (!this.#budget.take(size)) return false;
    const slab = Slab.allocate(size);
    slab.bytes.set(source.subarray(from, end), 0);
    this.#chunks.push({ slab, start: 0, end: length });
    this.#bytes += length;
    return true;
  }

  /** Appends even beyond the budget: bytes of a connection that was handed over must not be lost. */
  appendAnyway(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#chunks.push(this.#chunkOf(bytes));
  }

  /** Puts bytes in front of what is there, even beyond the budget. */
  prependAnyway(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#chunks.unshift(this.#chunkOf(bytes));
  }

  /** What the last `writeTo` gave to the socket: when that took less it is full, else there may be more to write now. */
  get offered(): number {
    return this.#offered;
  }

  /** One write of up to 64 chunks; returns the bytes taken or -errno. */
  writeTo(fd: Fd, iov: IoVec): number {
    iov.clear();
    const chunks = this.#chunks;
    this.#offered = 0;
    for (let i = 0; i < chunks.length && i < MAX_SEGMENTS; i++) {
      const chunk = chunks[i];
      if (chunk === undefined) break;
      iov.push(chunk.slab, chunk.start, chunk.end - chunk.start);
      this.#offered += chunk.end - chunk.start;
    }
    const written = writev(fd, iov);
    iov.clear();
    if (written > 0) this.#drop(written);
    return written;
  }

  /** Takes all bytes out as copies that nothing else refers to; for a hand-over. */
  takeAll(): Uint8Array[] {
    const all = this.#chunks.map(chunk => new Uint8Array(chunk.slab.bytes.subarray(chunk.start, chunk.end)));
    this.release();
    return all;
  }

  release(): void {
    this.#drop(this.#bytes);
  }

  #chunkOf(bytes: Uint8Array): Chunk {
    this.#budget.takeAnyway(bytes.length);
    const slab = Slab.allocate(bytes.length);
    slab.bytes.set(bytes, 0);
    this.#bytes += bytes.length;
    return { slab, start: 0, end: bytes.length };
  }

  #drop(bytes: number): void {
    let left = bytes;
    let whole = 0;
    for (const chunk of this.#chunks) {
      const length = chunk.end - chunk.start;
      if (length > left) {
        chunk.start += left;
        break;
      }
      left -= length;
      whole++;
      this.#budget.give(chunk.slab.size);
      chunk.slab.close();
    }
    if (whole > 0) this.#chunks.splice(0, whole);
    this.#bytes -= bytes;
  }
}
