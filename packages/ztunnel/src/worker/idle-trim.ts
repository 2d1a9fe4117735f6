// Gives memory back after a crowd has left. V8 collects when it allocates, so a worker whose thousands of connections
// closed, and which is quiet now, would keep their memory for ever. When the number of connections has fallen far below its
// recent peak and stayed there, `trim` runs once; while connections come and go nothing happens, so that traffic never pays.
import type { Engine } from '@ambit/proxy';

const PERIOD_MS = 5000;
/** A fall smaller than this is not worth a collection. */
const LEAST_FALL = 500;
/** Periods in a row for which the fall must have lasted. */
const PATIENCE = 2;

export class IdleTrim {
  readonly #engine: Engine;
  readonly #count: () => number;
  readonly #trim: () => void;
  #isArmed = false;
  #peak = 0;
  #fallen = 0;

  constructor(engine: Engine, count: () => number, trim: () => void) {
    this.#engine = engine;
    this.#count = count;
    this.#trim = trim;
  }

  /** A connection begins: watch. Cheap enough to call for each. */
  watch(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    this.#engine.timers.at(this.#engine.nowMs + PERIOD_MS, () => this.#look());
  }

  #look(): void {
    this.#isArmed = false;
    const count = this.#count();
    this.#peak = Math.max(this.#peak, count);
    const isFallen = this.#peak - count >= LEAST_FALL && count * 2 <= this.#peak;
    this.#fallen = isFallen ? this.#fallen + 1 : 0;
    if (this.#fallen >= PATIENCE) {
      this.#fallen = 0;
      this.#peak = count;
      this.#trim();
    }
    // Nothing left to wait for: an idle worker is not woken.
    if (count > 0 || this.#peak - count >= LEAST_FALL) this.watch();
    else this.#peak = 0;
  }
}
