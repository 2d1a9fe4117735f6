// The loop of a data worker: one reactor, two run queues, and the buffers that all connections of the worker share.
//
// A turn: wait for readiness; run the interactive queue; run the bulk queue with a quantum that shrinks as it grows
// longer; flush each tunnel that got output, once. Requests therefore wait for at most one round of bulk quanta. The
// wait is unbounded when nothing is queued, so an idle worker costs nothing and a lone request is not polled around.
import { IoVec, Reactor, Slab } from '@ambit/native';
import { Delivery } from './delivery.ts';
import type { MemoryBudget } from './memory-budget.ts';
import { type Timer, Timers } from './timers.ts';

/** Something with work to do now. `queued` belongs to the engine. */
export interface Pumpable {
  queued: boolean;
  /** Bulk work runs after interactive work and under the quantum. */
  readonly isBulk: boolean;
  pump(): void;
}

/** Something with output to send at the end of the turn. `dirty` belongs to the engine. */
export interface Flushable {
  dirty: boolean;
  flush(): void;
}

/** A connection that is being closed slowly; see lingering-close.ts. */
export interface Lingering {
  end(): void;
}

/** One receive: large enough that a bulk tunnel needs few system calls, small enough for the second-level cache. */
export const RECEIVE_BYTES = 256 * 1024;
/** Room before the received bytes for the partial record of the last read (16 KiB + header + expansion). */
export const CARRY_BYTES = 16 * 1024 + 512;
/** A transmit slab; holds a bulk read of 16 records and what control frames need. Untouched pages cost nothing. */
export const TRANSMIT_BYTES = 1024 * 1024;
/** Transmit slabs kept for reuse; more are returned to the allocator. */
const KEPT_TRANSMIT_SLABS = 4;
/** Records one bulk stream may read in a pass when it is alone, and the least it gets when there are many. */
export const BULK_SEGMENTS = 16;
const LEAST_BULK_SEGMENTS = 4;
/** A stream that found no memory for a slab looks again after this long: memory is also freed by other workers. */
const SLAB_RETRY_MS = 20;
/** After this long without bulk traffic the kept transmit slabs go back to the allocator. */
const SLAB_IDLE_MS = 10_000;

export class Engine {
  readonly reactor: Reactor;
  readonly timers = new Timers();
  readonly budget: MemoryBudget;
  /** Shared by all tunnels of the worker: its contents are dead once the reading tunnel returns. */
  readonly receive: Slab = Slab.allocate(CARRY_BYTES + RECEIVE_BYTES);
  /** For reads into, and writes out of, whatever is being pumped; never held across calls. */
  readonly iov: IoVec = IoVec.allocate(64);
  /** Gathers what the tunnel being read has for one stream. */
  readonly delivery = new Delivery(IoVec.allocate(64), this.receive);
  /** Scratch for reads that do not go through a tunnel. */
  readonly scratch: Slab = Slab.allocate(64 * 1024);
  /** Connections being closed slowly. */
  readonly lingering = new Set<Lingering>();
  /** Segments a bulk stream may read in this pass. */
  bulkSegments = BULK_SEGMENTS;
  /** Called at the end of each turn, before the next wait; for batches such as connection records. */
  afterTurn: (() => void) | undefined;

  #interactive: Pumpable[] = [];
  #bulk: Pumpable[] = [];
  #spareInteractive: Pumpable[] = [];
  #spareBulk: Pumpable[] = [];
  readonly #dirty: Flushable[] = [];
  readonly #slabs: Slab[] = [];
  #slabsUsedMs = 0;
  #slabTimer: Timer | undefined;
  readonly #slabWaiters = new Set<Pumpable>();
  #slabRetry: Timer | undefined;
  #running = false;
  #nowMs = 0;
  #isNowStale = true;

  constructor(budget: MemoryBudget) {
    this.budget = budget;
    this.reactor = new Reactor();
  }

  /**
   * Monotonic milliseconds, read at most twice a turn. Handlers that run when a long wait ends see the time after it,
   * not before: a deadline counted from the beginning of the wait would be over already.
   */
  get nowMs(): number {
    if (this.#isNowStale) {
      this.#nowMs = performance.now();
      this.#isNowStale = false;
    }
    return this.#nowMs;
  }

  enqueue(work: Pumpable): void {
    if (work.queued) return;
    work.queued = true;
    if (work.isBulk) this.#bulk.push(work);
    else this.#interactive.push(work);
  }

  markDirty(output: Flushable): void {
    if (output.dirty) return;
    output.dirty = true;
    this.#dirty.push(output);
  }

  /**
   * A slab for sealed output. For user data (`essential` false) undefined means that the memory budget is spent; then
   * `awaitSlab` tells when to try again. Control frames are essential: they get a slab beyond the budget, of which they
   * touch a few pages at most.
   */
  takeTransmitSlab(essential: boolean): Slab | undefined {
    const kept = this.#slabs.pop();
    if (kept !== undefined) return kept;
    if (!this.budget.take(TRANSMIT_BYTES)) {
      if (!essential) return undefined;
      this.budget.takeAnyway(TRANSMIT_BYTES);
    }
    return Slab.allocate(TRANSMIT_BYTES);
  }

  returnTransmitSlab(slab: Slab): void {
    if (this.#slabs.length < KEPT_TRANSMIT_SLABS && !this.budget.isTight) {
      this.#slabs.push(slab);
      this.#slabsUsedMs = this.nowMs;
      if (this.#slabTimer === undefined) this.#armTrim(SLAB_IDLE_MS);
    } else {
      slab.close();
      this.budget.give(TRANSMIT_BYTES);
    }
    if (this.#slabWaiters.size > 0) this.#wakeSlabWaiters();
  }

  /** Queues `work` again when there may be memory for a slab. */
  awaitSlab(work: Pumpable): void {
    this.#slabWaiters.add(work);
    this.#slabRetry ??= this.timers.at(this.nowMs + SLAB_RETRY_MS, () => this.#wakeSlabWaiters());
  }

  /** One turn; waits at most `maxWaitMs` (-1: until something happens). Callable from tests and from `run`. */
  turn(maxWaitMs: number): void {
    let wait = maxWaitMs;
    if (this.#interactive.length > 0 || this.#bulk.length > 0 || this.#dirty.length > 0) wait = 0;
    else {
      const timer = this.timers.untilNext(this.nowMs);
      if (timer >= 0 && (wait < 0 || timer < wait)) wait = timer;
    }
    this.#isNowStale = true;
    this.reactor.poll(wait);
    this.#isNowStale = true;
    this.timers.fire(this.nowMs);
    this.#runQueues();
    this.#flushDirty();
    this.afterTurn?.();
    this.#isNowStale = true;
  }

  /** Turns until `stop`. */
  run(): void {
    this.#running = true;
    while (this.#running) this.turn(-1);
  }

  stop(): void {
    this.#running = false;
  }

  close(): void {
    for (const lingering of Array.from(this.lingering)) lingering.end();
    this.timers.cancel(this.#slabTimer);
    this.timers.cancel(this.#slabRetry);
    for (const slab of this.#slabs) {
      slab.close();
      this.budget.give(TRANSMIT_BYTES);
    }
    this.#slabs.length = 0;
    this.reactor.close();
    this.receive.close();
    this.scratch.close();
  }

  // Both queues are swapped before they run, so work that queues itself again waits for the next turn and cannot
  // starve the reactor.
  #runQueues(): void {
    const interactive = this.#interactive;
    this.#interactive = this.#spareInteractive;
    this.#spareInteractive = interactive;
    const bulk = this.#bulk;
    this.#bulk = this.#spareBulk;
    this.#spareBulk = bulk;
    for (const work of interactive) {
      work.queued = false;
      work.pump();
    }
    const share = bulk.length + (interactive.length >> 2);
    this.bulkSegments = share > 1 ? Math.max(LEAST_BULK_SEGMENTS, Math.floor(BULK_SEGMENTS / share)) : BULK_SEGMENTS;
    for (const work of bulk) {
      work.queued = false;
      work.pump();
    }
    interactive.length = 0;
    bulk.length = 0;
  }

  #flushDirty(): void {
    const dirty = this.#dirty;
    // A flush may free a slab and wake another output, which then lands at the end of this same list.
    for (let i = 0; i < dirty.length; i++) {
      const output = dirty[i];
      if (output === undefined) continue;
      output.dirty = false;
      output.flush();
    }
    dirty.length = 0;
  }

  // All of them, since the first may have lost interest; those that find nothing wait again.
  #wakeSlabWaiters(): void {
    this.timers.cancel(this.#slabRetry);
    this.#slabRetry = undefined;
    const waiters = Array.from(this.#slabWaiters);
    this.#slabWaiters.clear();
    for (const waiter of waiters) this.enqueue(waiter);
  }

  #armTrim(inMs: number): void {
    this.#slabTimer = this.timers.at(this.nowMs + inMs, () => this.#trimSlabs());
  }

  #trimSlabs(): void {
    this.#slabTimer = undefined;
    const idleMs = this.nowMs - this.#slabsUsedMs;
    if (idleMs < SLAB_IDLE_MS) {
      this.#armTrim(SLAB_IDLE_MS - idleMs);
      return;
    }
    for (const slab of this.#slabs) {
      slab.close();
      this.budget.give(TRANSMIT_BYTES);
    }
    this.#slabs.length = 0;
  }
}
