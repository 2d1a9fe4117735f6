// A rate with a burst. Pure: time comes in; a clock that goes back refills nothing.

export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #at: number;

  constructor(perSecond: number, burst: number, now: number) {
    this.#perMs = perSecond / 1_000;
    this.#burst = burst;
    this.#tokens = burst;
    this.#at = now;
  }

  /** Takes a token if it is there within `maxWaitMs`; returns how long to wait for it, or undefined and takes none. */
  take(now: number, maxWaitMs = 0): number | undefined {
    this.#tokens = this.#filled(now);
    this.#at = now;
    const waitMs = this.#tokens >= 1 ? 0 : (1 - this.#tokens) / this.#perMs;
    if (waitMs > maxWaitMs) return undefined;
    this.#tokens--;
    return waitMs;
  }

  /** Whether it is as good as new, so that forgetting it changes nothing. */
  isFull(now: number): boolean {
    return this.#filled(now) >= this.#burst;
  }

  #filled(now: number): number {
    return Math.min(this.#burst, this.#tokens + Math.max(0, now - this.#at) * this.#perMs);
  }
}
