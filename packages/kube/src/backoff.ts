// How long to wait before trying again: doubling between two bounds, with jitter, so that many clients of one server
// that comes back do not all return at once. Who has been well for a while starts over.

export interface BackoffOptions {
  readonly minMs: number;
  readonly maxMs: number;
  /** In [0, 1). */
  readonly random: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** The next pause, between half and the whole of the current step, in milliseconds. */
  next(): number {
    const { minMs, maxMs, random } = this.#options;
    // 2^30 is beyond any sensible maximum, and keeps the number finite.
    const step = Math.min(maxMs, minMs * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return jitter(step, random);
  }

  /** It worked for long enough. */
  reset(): void {
    this.#failures = 0;
  }
}

/** Between half and the whole of `ms`. */
export function jitter(ms: number, random: () => number): number {
  return ms / 2 + (random() * ms) / 2;
}
