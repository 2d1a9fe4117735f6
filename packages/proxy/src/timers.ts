// Timers for a thread that never runs the event loop: a binary heap the engine asks once a turn. Cancelling marks an
// entry dead and leaves it in the heap until its time, so both arming and cancelling are cheap; a heap that is mostly
// dead is rebuilt, which bounds it to twice the live timers.

export interface Timer {
  /** Monotonic milliseconds at which it is due. */
  readonly dueMs: number;
  /** Cleared when it fired or was cancelled. */
  run: (() => void) | undefined;
}

interface Entry extends Timer {
  /** False once it left the heap, be it to be run in a moment. */
  isListed: boolean;
}

/** Below this many entries a rebuild would cost more than the dead entries do. */
const REBUILD_ABOVE = 64;

export class Timers {
  readonly #heap: Entry[] = [];
  #dead = 0;

  /** Runs `run` once, no earlier than `dueMs` on the engine's monotonic clock. */
  at(dueMs: number, run: () => void): Timer {
    const timer: Entry = { dueMs, run, isListed: true };
    const heap = this.#heap;
    heap.push(timer);
    let child = heap.length - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || above.dueMs <= dueMs) break;
      heap[child] = above;
      child = parent;
    }
    heap[child] = timer;
    return timer;
  }

  cancel(timer: Timer | undefined): void {
    if (timer?.run === undefined) return;
    timer.run = undefined;
    // One that is due together with its canceller is not in the heap any more.
    if (!(timer as Entry).isListed) return;
    this.#dead++;
    if (this.#dead > REBUILD_ABOVE && this.#dead * 2 > this.#heap.length) this.#rebuild();
  }

  /** Live timers; for tests and statistics. */
  get size(): number {
    return this.#heap.length - this.#dead;
  }

  /** Milliseconds until the next timer, 0 when one is due, -1 when there is none. */
  untilNext(nowMs: number): number {
    this.#dropDead();
    const first = this.#heap[0];
    return first === undefined ? -1 : Math.max(0, Math.ceil(first.dueMs - nowMs));
  }

  /** Runs everything that is due. A timer armed while running waits for the next call, so this always ends. */
  fire(nowMs: number): void {
    const due: Entry[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.dueMs <= nowMs; first = this.#heap[0]) {
      this.#pop();
      first.isListed = false;
      if (first.run === undefined) this.#dead--;
      else due.push(first);
    }
    for (const timer of due) {
      const run = timer.run;
      timer.run = undefined;
      run?.();
    }
  }

  #dropDead(): void {
    for (let first = this.#heap[0]; first !== undefined && first.run === undefined; first = this.#heap[0]) {
      this.#pop();
      this.#dead--;
    }
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let parent = 0;
    for (;;) {
      let child = parent * 2 + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      const smaller = right !== undefined && right.dueMs < left.dueMs ? right : left;
      if (smaller === right) child++;
      if (smaller.dueMs >= last.dueMs) break;
      heap[parent] = smaller;
      parent = child;
    }
    heap[parent] = last;
  }

  #rebuild(): void {
    const live = this.#heap.filter(timer => timer.run !== undefined).sort((a, b) => a.dueMs - b.dueMs);
    this.#heap.length = 0;
    this.#dead = 0;
    // A sorted array is a heap.
    for (const timer of live) this.#heap.push(timer);
  }
}
