// Requests of one HTTP/1.1 connection that wait for their responses, in order. A ring of reused entries: a connection that never
// pipelines has one, and nothing is allocated for a request. Bounded in number and in the texts it holds.

/** Most requests under way on one connection; more ends the reading. */
export const MAX_PIPELINED = 128;

/** Most characters of paths, authorities and trace contexts that wait; texts beyond are left out, the requests are told all the same. */
const MAX_WAITING_TEXT = 4096;

/** A request whose head is known. */
export interface Http1Pending {
  startMs: number;
  /** Number in METHODS. */
  method: number;
  requestBytes: number;
  path: string;
  authority: string;
  traceparent: string;
}

export class Http1Queue {
  // Its length is a power of two.
  #ring: Http1Pending[] = [blank()];
  #first = 0;
  #texts = 0;
  length = 0;

  /** The one whose response is due; the caller knows that there is one. */
  get oldest(): Http1Pending {
    return this.#at(0);
  }

  get newest(): Http1Pending {
    return this.#at(this.length - 1);
  }

  get isFull(): boolean {
    return this.length >= MAX_PIPELINED;
  }

  /** Adds a request; not when full. */
  push(startMs: number, method: number, path: string, authority: string, traceparent: string): void {
    if (this.length === this.#ring.length) this.#grow();
    this.length++;
    const entry = this.newest;
    entry.startMs = startMs;
    entry.method = method;
    entry.requestBytes = 0;
    const texts = path.length + authority.length + traceparent.length;
    const hasRoom = this.#texts + texts <= MAX_WAITING_TEXT;
    entry.path = hasRoom ? path : '';
    entry.authority = hasRoom ? authority : '';
    entry.traceparent = hasRoom ? traceparent : '';
    if (hasRoom) this.#texts += texts;
  }

  /** Forgets the oldest. */
  shift(): void {
    const entry = this.oldest;
    this.#texts -= entry.path.length + entry.authority.length + entry.traceparent.length;
    entry.path = '';
    entry.authority = '';
    entry.traceparent = '';
    this.#first = (this.#first + 1) & (this.#ring.length - 1);
    this.length--;
  }

  clear(): void {
    this.#ring = [blank()];
    this.#first = 0;
    this.#texts = 0;
    this.length = 0;
  }

  #at(index: number): Http1Pending {
    return this.#ring[(this.#first + index) & (this.#ring.length - 1)] ?? blank();
  }

  #grow(): void {
    const ring: Http1Pending[] = [];
    for (let i = 0; i < this.length; i++) ring.push(this.#at(i));
    while (ring.length < this.length * 2) ring.push(blank());
    this.#ring = ring;
    this.#first = 0;
  }
}

function blank(): Http1Pending {
  return { startMs: 0, method: 0, requestBytes: 0, path: '', authority: '', traceparent: '' };
}
