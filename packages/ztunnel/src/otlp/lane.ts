// One signal's way to the export process: a bounded queue, one batch under way, a pause that grows while exports fail. What
// does not fit, and what the collector did not take, is counted and gone: telemetry never holds up what it tells of.
//
// Life: idle -> gathering (a short while, for a batch) -> exporting -> idle, or pausing after a failure.
import { backoffMs, type Cancel, type Clock } from '../clock.ts';

export interface LaneDeps<Item> {
  readonly clock: Clock;
  readonly random: () => number;
  /** Resolves when the collector has taken them. */
  readonly send: (items: readonly Item[]) => Promise<void>;
  /** The first failure of a row, and the success that ends it. */
  readonly onOutcome: (error: Error | undefined) => void;
}

export interface LaneOptions {
  readonly maxItems: number;
  readonly batchItems: number;
  readonly gatherMs: number;
}

/** Counted since the start, but for `queued`. */
export interface LaneStats {
  readonly exported: number;
  /** Given to the collector, who did not take them. */
  readonly failed: number;
  /** Not queued for want of room. */
  readonly dropped: number;
  readonly queued: number;
}

const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 60_000;

export class Lane<Item> {
  readonly #deps: LaneDeps<Item>;
  readonly #options: LaneOptions;
  readonly #stats = { exported: 0, failed: 0, dropped: 0 };
  #queue: Item[] = [];
  #state: 'idle' | 'gathering' | 'exporting' | 'pausing' | 'closed' = 'idle';
  #failures = 0;
  #underWay: Promise<void> = Promise.resolve();
  #cancel: Cancel = () => undefined;

  constructor(deps: LaneDeps<Item>, options: LaneOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  get stats(): LaneStats {
    return { ...this.#stats, queued: this.#queue.length };
  }

  /** Never waits, never throws. */
  push(item: Item): void {
    if (this.#state === 'closed' || this.#queue.length >= this.#options.maxItems) {
      this.#stats.dropped++;
      return;
    }
    this.#queue.push(item);
    if (this.#state === 'idle') this.#wait('gathering', this.#options.gatherMs);
    else if (this.#state === 'gathering' && this.#queue.length >= this.#options.batchItems) {
      this.#cancel();
      void this.#export();
    }
  }

  /** Sends what is queued, at once and as long as it goes well; resolves when nothing is under way. */
  async flush(): Promise<void> {
    await this.#underWay;
    while (this.#state === 'gathering' && this.#queue.length > 0) {
      this.#cancel();
      await this.#export();
    }
  }

  /** What is still queued is dropped. */
  close(): void {
    this.#state = 'closed';
    this.#cancel();
    this.#stats.dropped += this.#queue.length;
    this.#queue = [];
  }

  #wait(state: 'gathering' | 'pausing', ms: number): void {
    this.#state = state;
    this.#cancel = this.#deps.clock.after(ms, () => void this.#export());
  }

  #export(): Promise<void> {
    this.#underWay = this.#sendBatch();
    return this.#underWay;
  }

  async #sendBatch(): Promise<void> {
    if (this.#queue.length === 0) {
      this.#state = 'idle';
      return;
    }
    this.#state = 'exporting';
    const items = this.#queue.splice(0, this.#options.batchItems);
    let error: Error | undefined;
    try {
      await this.#deps.send(items);
      this.#stats.exported += items.length;
    } catch (thrown) {
      error = thrown instanceof Error ? thrown : new Error(String(thrown));
      this.#stats.failed += items.length;
    }
    this.#settle(error);
  }

  #settle(error: Error | undefined): void {
    if (this.#isClosed()) return;
    const { random, onOutcome } = this.#deps;
    const wasFailing = this.#failures > 0;
    if (wasFailing !== (error !== undefined)) onOutcome(error);
    this.#failures = error === undefined ? 0 : this.#failures + 1;
    if (error !== undefined) this.#wait('pausing', backoffMs(this.#failures, FIRST_PAUSE_MS, MAX_PAUSE_MS, random));
    else if (this.#queue.length >= this.#options.batchItems) this.#wait('gathering', 0);
    else if (this.#queue.length > 0) this.#wait('gathering', this.#options.gatherMs);
    else this.#state = 'idle';
  }

  #isClosed(): boolean {
    return this.#state === 'closed';
  }
}
