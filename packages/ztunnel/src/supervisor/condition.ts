// Waiting for something to become true, with a limit: whoever changes state calls `changed`.
import type { Clock } from '../clock.ts';

export class Condition {
  readonly #clock: Clock;
  readonly #checks = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Lets every waiter look again. */
  changed(): void {
    // A check that settles removes itself, which iteration over a set allows.
    for (const check of this.#checks) check();
  }

  /** Resolves true once `isTrue`, false after `timeoutMs`. */
  until(isTrue: () => boolean, timeoutMs: number): Promise<boolean> {
    if (isTrue()) return Promise.resolve(true);
    return new Promise(resolve => {
      const settle = (outcome: boolean): void => {
        this.#checks.delete(check);
        cancel();
        resolve(outcome);
      };
      const check = (): void => {
        if (isTrue()) settle(true);
      };
      const cancel = this.#clock.after(timeoutMs, () => settle(false));
      this.#checks.add(check);
    });
  }
}
