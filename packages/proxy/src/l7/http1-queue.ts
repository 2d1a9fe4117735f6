// Requests of one HTTP/1.1 connection that wait for their responses, in order. A ring kept in columns, since 128 objects would be
// larger than a reader may be; nothing is allocated for a request. Bounded in number and in the texts it holds.
import type { Move } from './moving.ts';

/** Most requests under way on one connection; more ends the reading. */
export const MAX_PIPELINED = 128;

/** Most characters of paths, authorities and trace contexts that wait; texts beyond are left out, the requests are told all the same. */
const MAX_WAITING_TEXT = 3072;

export class Http1Queue {
  // The columns' length is a power of two.
  #startMs: number[] = [0];
  #methods: number[] = [0];
  #requestBytes: number[] = [0];
  #paths: string[] = [''];
  #authorities: string[] = [''];
  #traceparents: string[] = [''];
  #first = 0;
  #texts = 0;
  length = 0;

  get isFull(): boolean {
    return this.length >= MAX_PIPELINED;
  }

  // Of the oldest request, whose response is due; the caller knows that there is one.

  get startMs(): number {
    return this.#startMs[this.#first] ?? 0;
  }

  /** Number in METHODS. */
  get method(): number {
    return this.#methods[this.#first] ?? 0;
  }

  get requestBytes(): number {
    return this.#requestBytes[this.#first] ?? 0;
  }

  get path(): string {
    return this.#paths[this.#first] ?? '';
  }

  get authority(): string {
    return this.#authorities[this.#first] ?? '';
  }

  get traceparent(): string {
    return this.#traceparents[this.#first] ?? '';
  }

  /** Sets the size of the newest request. */
  setNewestBytes(bytes: number): void {
    this.#requestBytes[this.#slot(this.length - 1)] = bytes;
  }

  /** Adds a request; not when full. */
  push(startMs: number, method: number, path: string, authority: string, traceparent: string): void {
    if (this.length === this.#startMs.length) this.#grow();
    const slot = this.#slot(this.length++);
    this.#startMs[slot] = startMs;
    this.#methods[slot] = method;
    this.#requestBytes[slot] = 0;
    const texts = path.length + authority.length + traceparent.length;
    if (texts === 0 || this.#texts + texts > MAX_WAITING_TEXT) return;
    this.#paths[slot] = path;
    this.#authorities[slot] = authority;
    this.#traceparents[slot] = traceparent;
    this.#texts += texts;
  }

  /** Forgets the oldest. */
  shift(): void {
    const slot = this.#first;
    if (this.#texts > 0) {
      this.#texts -= this.path.length + this.authority.length + this.traceparent.length;
      this.#paths[slot] = '';
      this.#authorities[slot] = '';
      this.#traceparents[slot] = '';
    }
    this.#first = this.#slot(1);
    this.length--;
  }

  clear(): void {
    this.#startMs = [0];
    this.#methods = [0];
    this.#requestBytes = [0];
    this.#paths = [''];
    this.#authorities = [''];
    this.#traceparents = [''];
    this.#first = 0;
    this.#texts = 0;
    this.length = 0;
  }

  carry(move: Move): void {
    const length = move.number(this.length);
    for (let at = 0; at < length; at++) {
      const slot = this.#slot(at);
      const startMs = move.time(this.#startMs[slot] ?? 0);
      const method = move.number(this.#methods[slot] ?? 0);
      const bytes = move.number(this.#requestBytes[slot] ?? 0);
      const path = move.text(this.#paths[slot] ?? '');
      const authority = move.text(this.#authorities[slot] ?? '');
      const traceparent = move.text(this.#traceparents[slot] ?? '');
      if (!move.isUnpacking) continue;
      this.push(startMs, method, path, authority, traceparent);
      this.setNewestBytes(bytes);
    }
  }

  #slot(index: number): number {
    return (this.#first + index) & (this.#startMs.length - 1);
  }

  // Only when full: the oldest moves to the front and as many free places come behind.
  #grow(): void {
    this.#startMs = unrolled(this.#startMs, this.#first, 0);
    this.#methods = unrolled(this.#methods, this.#first, 0);
    this.#requestBytes = unrolled(this.#requestBytes, this.#first, 0);
    this.#paths = unrolled(this.#paths, this.#first, '');
    this.#authorities = unrolled(this.#authorities, this.#first, '');
    this.#traceparents = unrolled(this.#traceparents, this.#first, '');
    this.#first = 0;
  }
}

function unrolled<T>(ring: readonly T[], first: number, blank: T): T[] {
  const free = Array.from({ length: ring.length }, () => blank);
  // Not by spreading: that leaves room for half as many again.
  return ring.slice(first).concat(ring.slice(0, first), free);
}
