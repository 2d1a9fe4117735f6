// Requests of one HTTP/1.1 connection that wait for their responses, in order. The oldest is at hand, since hardly ever another
// is behind it; those are in a ring kept in columns, because 128 objects would be larger than a reader may be. Nothing is
// allocated for a request. Bounded in number and in the texts it holds.
import type { Move } from './moving.ts';

/** Most requests under way on one connection; more ends the reading. */
export const MAX_PIPELINED = 128;

/** Most characters of paths, authorities and trace contexts that wait; texts beyond are left out, the requests are told all the same. */
const MAX_WAITING_TEXT = 3072;

export class Http1Queue {
  length = 0;
  // Of the oldest request, whose response is due; they mean nothing when there is none.
  startMs = 0;
  /** Number in METHODS. */
  method = 0;
  requestBytes = 0;
  path = '';
  authority = '';
  traceparent = '';
  #texts = 0;
  #behind: Ring | undefined = undefined;

  get isFull(): boolean {
    return this.length >= MAX_PIPELINED;
  }

  /** Sets the size of the newest request. */
  setNewestBytes(bytes: number): void {
    if (this.length === 1) this.requestBytes = bytes;
    else this.#behind?.setNewestBytes(bytes);
  }

  /** Adds a request; not when full. */
  push(startMs: number, method: number, path: string, authority: string, traceparent: string): void {
    const texts = path.length + authority.length + traceparent.length;
    if (this.#texts + texts > MAX_WAITING_TEXT) {
      this.#add(startMs, method, '', '', '');
      return;
    }
    this.#texts += texts;
    this.#add(startMs, method, path, authority, traceparent);
  }

  /** Forgets the oldest. */
  shift(): void {
    this.length--;
    this.#texts -= this.path.length + this.authority.length + this.traceparent.length;
    if (this.length > 0) this.#behind?.shiftTo(this);
    else this.set(0, 0, 0, '', '', '');
  }

  clear(): void {
    this.length = 0;
    this.#texts = 0;
    this.#behind = undefined;
    this.set(0, 0, 0, '', '', '');
  }

  carry(move: Move): void {
    const length = move.number(this.length);
    for (let at = 0; at < length; at++) {
      const of = at === 0 ? this : this.#behind?.at(at - 1);
      const startMs = move.time(of?.startMs ?? 0);
      const method = move.number(of?.method ?? 0);
      const bytes = move.number(of?.requestBytes ?? 0);
      const path = move.text(of?.path ?? '');
      const authority = move.text(of?.authority ?? '');
      const traceparent = move.text(of?.traceparent ?? '');
      if (!move.isUnpacking) continue;
      this.push(startMs, method, path, authority, traceparent);
      this.setNewestBytes(bytes);
    }
  }

  /** For the ring: what the oldest is now. */
  set(startMs: number, method: number, bytes: number, path: string, authority: string, traceparent: string): void {
    this.startMs = startMs;
    this.method = method;
    this.requestBytes = bytes;
    this.path = path;
    this.authority = authority;
    this.traceparent = traceparent;
  }

  #add(startMs: number, method: number, path: string, authority: string, traceparent: string): void {
    if (this.length++ === 0) {
      this.set(startMs, method, 0, path, authority, traceparent);
      return;
    }
    this.#behind ??= new Ring();
    this.#behind.push(startMs, method, path, authority, traceparent);
  }
}

// Those behind the oldest.
class Ring {
  // The columns' length is a power of two.
  #startMs: number[] = [0];
  #methods: number[] = [0];
  #requestBytes: number[] = [0];
  #paths: string[] = [''];
  #authorities: string[] = [''];
  #traceparents: string[] = [''];
  #first = 0;
  #length = 0;

  setNewestBytes(bytes: number): void {
    this.#requestBytes[this.#slot(this.#length - 1)] = bytes;
  }

  push(startMs: number, method: number, path: string, authority: string, traceparent: string): void {
    if (this.#length === this.#startMs.length) this.#grow();
    const slot = this.#slot(this.#length++);
    this.#startMs[slot] = startMs;
    this.#methods[slot] = method;
    this.#requestBytes[slot] = 0;
    this.#paths[slot] = path;
    this.#authorities[slot] = authority;
    this.#traceparents[slot] = traceparent;
  }

  shiftTo(queue: Http1Queue): void {
    const { startMs, method, requestBytes, path, authority, traceparent } = this.at(0);
    queue.set(startMs, method, requestBytes, path, authority, traceparent);
    const slot = this.#first;
    this.#paths[slot] = '';
    this.#authorities[slot] = '';
    this.#traceparents[slot] = '';
    this.#first = this.#slot(1);
    this.#length--;
  }

  at(index: number): Pick<Http1Queue, 'startMs' | 'method' | 'requestBytes' | 'path' | 'authority' | 'traceparent'> {
    const slot = this.#slot(index);
    return {
      startMs: this.#startMs[slot] ?? 0,
      method: this.#methods[slot] ?? 0,
      requestBytes: this.#requestBytes[slot] ?? 0,
      path: this.#paths[slot] ?? '',
      authority: this.#authorities[slot] ?? '',
      traceparent: this.#traceparents[slot] ?? '',
    };
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
