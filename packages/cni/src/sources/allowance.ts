// So many at once, and then one more each while. Pure: the time is the caller's.

export class Allowance {
  readonly #burst: number;
  readonly #everyMs: number;
  #left: number;
  #atMs: number;

  constructor(burst: number, everyMs: number, nowMs: number) {
    this.#burst = burst;
    this.#everyMs = everyMs;
    this.#left = burst;
    this.#atMs = nowMs;
  }

  /** @param nowMs of a clock; one that was set back gives nothing, and takes nothing */
  take(nowMs: number): boolean {
    this.#left = Math.min(this.#burst, this.#left + Math.max(0, nowMs - this.#atMs) / this.#everyMs);
    this.#atMs = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
