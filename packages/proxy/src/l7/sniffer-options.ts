// What the readers of a connection are asked to make texts of. Everything else they tell is numbers and interned names.

/**
 * Read at every request, so an owner may keep one object a worker and change it while connections live (somebody starts to
 * watch). With all of them off, a request costs no text at all.
 */
export interface L7Options {
  /** Fill `path`; '' otherwise. */
  readonly wantPath: boolean;
  /** Fill `authority`; '' otherwise. */
  readonly wantAuthority: boolean;
  /** Fill `traceparent`; absent otherwise. */
  readonly wantTraceparent: boolean;
  /** How many HTTP/2 streams the readers of a worker follow together; without it, each connection its own most. */
  readonly streams?: StreamBudget | undefined;
}

/** Open HTTP/2 streams of all connections that share it. */
export class StreamBudget {
  #left: number;

  constructor(most: number) {
    this.#left = most;
  }

  /** Streams that may be followed yet; below 0 after connections moved in with theirs. */
  get left(): number {
    return this.#left;
  }

  take(): void {
    this.#left--;
  }

  give(streams: number): void {
    this.#left += streams;
  }
}

/** Nothing but counts: what metrics need. */
export const COUNTS_ONLY: L7Options = { wantPath: false, wantAuthority: false, wantTraceparent: false };
