// Time as a dependency, so that schedules are tested without waiting.

/** Cancels what it came from; later calls do nothing. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since the Unix epoch, fractional. */
  now(): number;
  /** Runs once after `ms`; does not keep the process alive. */
  after(ms: number, run: () => void): Cancel;
}

/** Node's timers overflow beyond this (24.8 days) and would fire at once. */
const LONGEST_TIMER_MS = 0x7fff_ffff;

export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, Math.min(Math.max(0, ms), LONGEST_TIMER_MS)).unref();
    return () => clearTimeout(timer);
  },
};

/** Back-off with jitter: `firstMs` doubling with each attempt up to `maxMs`, then varied by +-20 %. `attempt` counts from 1. */
export function backoffMs(attempt: number, firstMs: number, maxMs: number, random: () => number): number {
  const base = Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 40));
  return base * (0.8 + 0.4 * random());
}
