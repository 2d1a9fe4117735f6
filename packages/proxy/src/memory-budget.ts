// One budget of buffered bytes for the whole process, shared by all workers through atomic counters. What it bounds:
// bytes received from tunnels that a pod has not taken yet (streams x window in the worst case), and slabs holding
// sealed bytes that a tunnel's socket has not taken.
//
// Below the soft mark nothing is restrained. Above it, tunnels give connection window back only for bytes that pods
// took, so every peer stalls at its connection window. At the hard mark a stream that would have to buffer more is
// reset (`limit.memory`), and no new transmit slab is handed out. So the buffered bytes of the process never exceed the
// budget by more than one receive buffer a worker.

/** Above this share of the budget, window is no longer given back on receipt. */
const SOFT_SHARE = 0.75;

export class MemoryBudget {
  readonly hardBytes: number;
  readonly softBytes: number;
  readonly #used: Int32Array<SharedArrayBuffer | ArrayBuffer>;

  readonly #cell: number;

  /**
   * `shared` comes from `MemoryBudget.shared`; the owners of one process (its workers) pass the same buffer and each a
   * number of its own. Budgets above 2 GiB - 1 are cut.
   */
  constructor(hardBytes: number, shared: SharedArrayBuffer = MemoryBudget.shared(1), owner = 0) {
    this.hardBytes = Math.min(Math.max(0, Math.floor(hardBytes)), 0x7fff_ffff);
    this.softBytes = Math.floor(this.hardBytes * SOFT_SHARE);
    this.#used = new Int32Array(shared);
    this.#cell = 1 + owner;
  }

  /** Counters for `owners` owners: the sum, then each one's share of it. */
  static shared(owners: number): SharedArrayBuffer {
    return new SharedArrayBuffer(4 * (1 + owners));
  }

  /** An owner died: what it held is free. Call it once nothing of that owner runs any more. */
  static forget(shared: SharedArrayBuffer, owner: number): void {
    const used = new Int32Array(shared);
    Atomics.sub(used, 0, Atomics.exchange(used, 1 + owner, 0));
  }

  get usedBytes(): number {
    return Atomics.load(this.#used, 0);
  }

  /** Takes `bytes` if that stays within the hard mark; false means the caller must shed. */
  take(bytes: number): boolean {
    const before = Atomics.add(this.#used, 0, bytes);
    if (before + bytes <= this.hardBytes) {
      Atomics.add(this.#used, this.#cell, bytes);
      return true;
    }
    Atomics.sub(this.#used, 0, bytes);
    return false;
  }

  /** Takes `bytes` even beyond the hard mark; for the little that must not fail. */
  takeAnyway(bytes: number): void {
    Atomics.add(this.#used, 0, bytes);
    Atomics.add(this.#used, this.#cell, bytes);
  }

  give(bytes: number): void {
    Atomics.sub(this.#used, 0, bytes);
    Atomics.sub(this.#used, this.#cell, bytes);
  }

  get isTight(): boolean {
    return Atomics.load(this.#used, 0) > this.softBytes;
  }
}
