// A clock that only tests move: timers run in order of their time when `advance` passes them.
import type { Cancel, Clock } from './clock.ts';

interface Pending {
  readonly at: number;
  readonly run: () => void;
}

export class FakeClock implements Clock {
  #now: number;
  readonly #pending = new Set<Pending>();

  constructor(startMs = 1_000_000) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  after(ms: number, run: () => void): Cancel {
    const pending = { at: this.#now + Math.max(0, ms), run };
    this.#pending.add(pending);
    return () => void this.#pending.delete(pending);
  }

  /** Milliseconds until the next timer; undefined without one. */
  get nextInMs(): number | undefined {
    const next = this.#next();
    return next === undefined ? undefined : next.at - this.#now;
  }

  /** Moves time on and lets promises settle after each timer. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (let next = this.#next(); next !== undefined && next.at <= end; next = this.#next()) {
      this.#now = next.at;
      this.#pending.delete(next);
      next.run();
      await settle();
    }
    this.#now = end;
  }

  #next(): Pending | undefined {
    let first: Pending | undefined;
    for (const pending of this.#pending) if (first === undefined || pending.at < first.at) first = pending;
    return first;
  }
}

/** Lets everything that is already resolved run. */
async function settle(): Promise<void> {
  await new Promise<void>(resolve => setImmediate(resolve));
}
