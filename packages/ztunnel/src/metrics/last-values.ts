// Where expired series stopped, so that one which comes back goes on from there: a counter that seems to go back hides what
// happened while it grew to its old value. Kept under a digest instead of the labels (a tenth of the memory) and bounded: of
// too many, those that expired first are forgotten.

// Not imported by name: an ES import reads every export of node:crypto, and that loads all of Web Crypto.
const crypto = process.getBuiltinModule('node:crypto');

/** Numbers kept in all, 8 bytes each. */
const MAX_NUMBERS = 65_536;

export class LastValues {
  readonly #maxRows: number;
  readonly #kept = new Map<string, number[]>();

  /** For rows of `width` numbers. */
  constructor(width: number) {
    this.#maxRows = Math.max(1, Math.floor(MAX_NUMBERS / width));
  }

  get size(): number {
    return this.#kept.size;
  }

  keep(series: string, values: number[]): void {
    const key = digest(series);
    this.#kept.delete(key);
    if (this.#kept.size >= this.#maxRows) {
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    }
    this.#kept.set(key, values);
  }

  /** Forgets them here: they are the caller's from now on. */
  take(series: string): number[] | undefined {
    if (this.#kept.size === 0) return undefined;
    const key = digest(series);
    const values = this.#kept.get(key);
    if (values !== undefined) this.#kept.delete(key);
    return values;
  }
}

function digest(series: string): string {
  return crypto.hash('sha256', series, 'base64').slice(0, 22);
}
