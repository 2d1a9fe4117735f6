// The data workers: each place has one, and a worker that dies is replaced, after a pause that grows while it keeps
// dying. Knows nothing of pods; what workers say, and what a replacement has to be told, is the owner's business.
//
// Life of a worker: starting -> ready -> drained, and from each of them -> dead.
import { backoffMs, type Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { FromWorker, ToWorker, WorkerSettings } from '../worker-protocol.ts';
import { Condition } from './condition.ts';
import { WorkerLink } from './worker-link.ts';

/** What a worker says, save of its own state. */
export type WorkerNews = Exclude<FromWorker, { type: 'ready' | 'drained' }>;

export interface WorkersOwner {
  onNews(link: WorkerLink, news: WorkerNews): void;
  /** A worker ended, and all it held with it. */
  onGone(index: number): void;
  /**
   * A worker starts beside others, as a replacement or because the first comes before the rest. What it is sent now it
   * reads once it has started: the port keeps messages in order.
   */
  onJoined(link: WorkerLink): void;
}

export interface WorkersDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export interface WorkersOptions {
  /** The workers' program. */
  readonly entry: URL;
  /** How many. */
  readonly workers: number;
  readonly settings: WorkerSettings;
}

const REPLACE_FIRST_MS = 50;
const REPLACE_MAX_MS = 10_000;
/** A worker that lived this long starts with a clean slate when it dies. */
const STABLE_MS = 30_000;

interface Place {
  readonly link: WorkerLink;
  readonly startedAtMs: number;
  readonly failures: number;
  state: 'starting' | 'ready' | 'drained' | 'dead';
}

export class Workers {
  readonly #deps: WorkersDeps;
  readonly #options: WorkersOptions;
  readonly #owner: WorkersOwner;
  readonly #budget: SharedArrayBuffer;
  readonly #condition: Condition;
  readonly #places: Place[] = [];
  readonly #serving = Promise.withResolvers<void>();
  #isReplacing = false;
  #replaced = 0;

  constructor(deps: WorkersDeps, options: WorkersOptions, owner: WorkersOwner) {
    this.#deps = deps;
    this.#options = options;
    this.#owner = owner;
    // The layout of MemoryBudget: the sum, then each worker's share of it.
    this.#budget = new SharedArrayBuffer(4 * (1 + options.workers));
    this.#condition = new Condition(deps.clock);
  }

  /** Workers replaced since the start. */
  get replaced(): number {
    return this.#replaced;
  }

  get indexes(): readonly number[] {
    return [...this.#places.keys()];
  }

  /** Resolves once a worker is ready for the first time; one is enough to serve. */
  get serving(): Promise<void> {
    return this.#serving.promise;
  }

  /**
   * Starts all, the first before the rest: where there are as many workers as cores, each would wait for the others.
   * Those that die from now on are replaced. Whether all got ready within `timeoutMs`, and before `stop`.
   */
  async start(timeoutMs: number): Promise<boolean> {
    const { clock } = this.#deps;
    const deadlineMs = clock.now() + timeoutMs;
    this.#isReplacing = true;
    this.#places.push(this.#begin(0, 0));
    if (!(await this.#untilReady(timeoutMs))) return false;
    for (let index = 1; index < this.#options.workers; index++) {
      const place = this.#begin(index, 0);
      this.#places.push(place);
      this.#owner.onJoined(place.link);
    }
    this.#serving.resolve();
    return this.#untilReady(Math.max(0, deadlineMs - clock.now()));
  }

  broadcast(message: ToWorker): void {
    for (const { link } of this.#places) link.send(message);
  }

  link(index: number): WorkerLink | undefined {
    return this.#places[index]?.link;
  }

  isReady(index: number): boolean {
    return this.#places[index]?.state === 'ready';
  }

  /** Lets connections finish; a worker that dies is not replaced any more. Whether all were done within `timeoutMs`. */
  drain(deadlineMs: number, timeoutMs: number): Promise<boolean> {
    this.#isReplacing = false;
    this.broadcast({ type: 'drain', deadlineMs });
    return this.#condition.until(
      () => this.#places.every(({ state }) => state === 'drained' || state === 'dead'),
      timeoutMs,
    );
  }

  /** Ends all, the hard way after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.#isReplacing = false;
    this.#condition.changed();
    await Promise.all(this.#places.map(({ link }) => link.stop(graceMs)));
  }

  /** Whether all that were begun are ready, within `timeoutMs` and before `stop`. */
  async #untilReady(timeoutMs: number): Promise<boolean> {
    const areReady = (): boolean => this.#places.every(({ state }) => state === 'ready');
    await this.#condition.until(() => areReady() || !this.#isReplacing, timeoutMs);
    return areReady() && this.#isReplacing;
  }

  #begin(index: number, failures: number): Place {
    const { entry, settings } = this.#options;
    const link = new WorkerLink(index, {
      entry,
      settings,
      budget: this.#budget,
      onMessage: message => this.#onMessage(place, message),
      onEnded: why => this.#onEnded(place, why),
    });
    const place: Place = { link, startedAtMs: this.#deps.clock.now(), failures, state: 'starting' };
    return place;
  }

  #onMessage(place: Place, message: FromWorker): void {
    if (message.type !== 'ready' && message.type !== 'drained') {
      this.#owner.onNews(place.link, message);
      return;
    }
    place.state = message.type;
    this.#condition.changed();
  }

  #onEnded(place: Place, why: string | undefined): void {
    const { index } = place.link;
    place.state = 'dead';
    this.#condition.changed();
    this.#owner.onGone(index);
    if (why === undefined || !this.#isReplacing) return;
    const { clock, log, random } = this.#deps;
    this.#replaced++;
    const failures = clock.now() - place.startedAtMs >= STABLE_MS ? 1 : place.failures + 1;
    log.error('A data worker died and is replaced, its connections are lost', [
      ['worker', index],
      ['error', why],
      ['err.code', 'worker.died'],
    ]);
    clock.after(failures === 1 ? 0 : backoffMs(failures, REPLACE_FIRST_MS, REPLACE_MAX_MS, random), () => {
      void this.#replace(index, failures);
    });
  }

  async #replace(index: number, failures: number): Promise<void> {
    // Loaded only here: the rest of that package is the workers' business, and 4 MB.
    const { MemoryBudget } = await import('@ambit/proxy');
    if (!this.#isReplacing) return;
    // What the dead worker had charged to the memory budget went with it.
    MemoryBudget.forget(this.#budget, index);
    const replacement = this.#begin(index, failures);
    this.#places[index] = replacement;
    this.#owner.onJoined(replacement.link);
  }
}
