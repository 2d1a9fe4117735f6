// The fault that the demo makes on purpose, and whether the detector found it. Pure: the caller brings the time.
import type { Finding } from '@ambit/insight';

export const FAULT_TEXT = 'shop/cart answers one request in three with 503';
/** The detector has to know what is usual first. */
export const FAULT_AFTER_MS = 10_000;
export const FAULT_LASTS_MS = 8_000;
/** A demo that ends sooner after it makes none. */
export const FAULT_NEEDS_MS = 5_000;

export interface FaultState {
  readonly injectedMs: number;
  /** Undefined while it was not found. */
  readonly foundAfterMs: number | undefined;
  readonly finding: Finding | undefined;
}

export class Fault {
  #state: FaultState | undefined;

  /** Undefined before it was made. */
  get state(): FaultState | undefined {
    return this.#state;
  }

  inject(nowMs: number): void {
    this.#state = { injectedMs: nowMs, foundAfterMs: undefined, finding: undefined };
  }

  /** Looks for it among what the detector found. */
  look(found: readonly Finding[], nowMs: number): void {
    if (this.#state === undefined || this.#state.finding !== undefined) return;
    const finding = found.find(
      ({ code, subject }) => code === 'detect.error_shift' && subject.startsWith('shop/web -> shop/cart:'),
    );
    if (finding === undefined) return;
    this.#state = { ...this.#state, finding, foundAfterMs: nowMs - this.#state.injectedMs };
  }
}
