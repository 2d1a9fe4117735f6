// When to try again: 10 ms doubling to 15 s, each pause drawn at random between nothing and that ("full jitter"), so that
// the nodes of a mesh do not come back in step. A connection that proved good starts the count afresh. Pure.

export interface BackOffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** A connection that lived this long was good. */
  readonly goodAfterMs: number;
  /** So was one that delivered something, unless it lived shorter than this: else a server that sends and hangs up is a hot loop. */
  readonly deliveredAfterMs: number;
}

const DEFAULTS: BackOffOptions = { firstMs: 10, maxMs: 15_000, goodAfterMs: 30_000, deliveredAfterMs: 1000 };

export class BackOff {
  readonly #options: BackOffOptions;
  readonly #random: () => number;
  #failures = 0;

  /** @param random from 0 up to but not including 1 */
  constructor(random: () => number, options: Partial<BackOffOptions> = {}) {
    this.#random = random;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** A connection ended, or did not come to be (`livedMs` 0): how long to wait. */
  next(livedMs: number, delivered: boolean): number {
    const { firstMs, maxMs, goodAfterMs, deliveredAfterMs } = this.#options;
    if (livedMs >= goodAfterMs || (delivered && livedMs >= deliveredAfterMs)) this.#failures = 0;
    const ceiling = Math.min(maxMs, firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures++;
    return this.#random() * ceiling;
  }
}
