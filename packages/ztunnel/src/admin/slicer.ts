// Long work on the main thread, in slices: whoever calls `pause` often enough never keeps the event loop longer than a
// few milliseconds, so that xDS, certificates and readiness go on while a large mesh is being dumped.

const SLICE_MS = 4;
const RUN_LENGTH = 512;

export class Slicer {
  readonly #now: () => number;
  #startedAtMs: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#startedAtMs = now();
  }

  /** Whether this slice is used up. */
  get isOver(): boolean {
    return this.#now() - this.#startedAtMs >= SLICE_MS;
  }

  /** Lets the event loop run once, if the slice is used up. */
  async pause(): Promise<void> {
    if (!this.isOver) return;
    await new Promise<void>(resolve => setImmediate(resolve));
    this.#startedAtMs = this.#now();
  }
}

/** A sorted copy by text key. Merge sort, for Array.sort keeps the thread for as long as it takes. */
export async function sortGently<T>(items: Iterable<T>, keyOf: (item: T) => string, slicer: Slicer): Promise<T[]> {
  const order = (a: T, b: T): number => (keyOf(a) < keyOf(b) ? -1 : keyOf(a) > keyOf(b) ? 1 : 0);
  const all = [...items];
  let runs: T[][] = [];
  for (let at = 0; at < all.length; at += RUN_LENGTH) {
    runs.push(all.slice(at, at + RUN_LENGTH).sort(order));
    await slicer.pause();
  }
  while (runs.length > 1) {
    const merged: T[][] = [];
    for (let i = 0; i < runs.length; i += 2) merged.push(await merge(runs[i] ?? [], runs[i + 1] ?? [], order, slicer));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge<T>(a: readonly T[], b: readonly T[], order: (a: T, b: T) => number, slicer: Slicer): Promise<T[]> {
  const merged: T[] = [];
  let i = 0;
  let j = 0;
  for (;;) {
    const left = a[i];
    const right = b[j];
    if (left === undefined && right === undefined) return merged;
    if (right === undefined || (left !== undefined && order(left, right) <= 0)) {
      if (left !== undefined) merged.push(left);
      i++;
    } else {
      merged.push(right);
      j++;
    }
    if (merged.length % RUN_LENGTH === 0 && slicer.isOver) await slicer.pause();
  }
}
