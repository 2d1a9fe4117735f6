// Gathers consecutive DATA slices for one stream while a tunnel reads, so that a run of frames becomes one system call
// on the TCP side. The slices lie in the engine's receive slab and are dead after `flush`.
import { type IoVec, type Slab, writev } from '@ambit/native';
import type { PlaintextTap } from './l7/plaintext-tap.ts';

/** A run longer than this is written in parts. */
const MAX_SEGMENTS = 64;

/** What a slice is delivered to. */
export interface DeliveryTarget {
  /** Writes the gathered slices, keeping what the socket does not take. */
  takeDelivery(delivery: Delivery): void;
}

export class Delivery {
  readonly iov: IoVec;
  readonly slab: Slab;
  /** Bytes gathered for the current target. */
  bytes = 0;
  #target: DeliveryTarget | undefined;
  #count = 0;
  readonly #starts = new Int32Array(MAX_SEGMENTS);
  readonly #ends = new Int32Array(MAX_SEGMENTS);

  constructor(iov: IoVec, slab: Slab) {
    this.iov = iov;
    this.slab = slab;
  }

  add(target: DeliveryTarget, start: number, end: number): void {
    if (this.#target !== target || this.#count === MAX_SEGMENTS) {
      this.flush();
      this.#target = target;
    }
    this.#starts[this.#count] = start;
    this.#ends[this.#count] = end;
    this.#count++;
    this.bytes += end - start;
    this.iov.push(this.slab, start, end - start);
  }

  flush(): void {
    const target = this.#target;
    if (target === undefined) return;
    this.#target = undefined;
    target.takeDelivery(this);
    this.iov.clear();
    this.#count = 0;
    this.bytes = 0;
  }

  /** Shows everything gathered, in order. */
  show(tap: PlaintextTap, nowMs: number): void {
    for (let i = 0; i < this.#count; i++) tap.toTcp(this.slab.bytes, this.#starts[i] ?? 0, this.#ends[i] ?? 0, nowMs);
  }

  /** One writev of everything gathered. */
  writeTo(fd: Parameters<typeof writev>[0]): number {
    return writev(fd, this.iov);
  }

  /** Hands each slice behind the first `skip` bytes to `keep`; stops and returns false when `keep` does. */
  forEachAfter(skip: number, keep: (bytes: Buffer, start: number, end: number) => boolean): boolean {
    let left = skip;
    for (let i = 0; i < this.#count; i++) {
      const start = this.#starts[i] ?? 0;
      const end = this.#ends[i] ?? 0;
      const length = end - start;
      if (left >= length) {
        left -= length;
        continue;
      }
      if (!keep(this.slab.bytes, start + left, end)) return false;
      left = 0;
    }
    return true;
  }
}
