// Moves live tunnels from a busy worker to an idle one: asks all workers for their load every two seconds, and hands over
// what the busy one sheds. When to move is decided in balance.ts.
import type { FrozenTunnel } from '@ambit/proxy';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { Balance } from './balance.ts';
import type { WorkerLink } from './worker-link.ts';
import type { Workers } from './workers.ts';

/** How often the workers' load is compared. */
const PERIOD_MS = 2000;

export class Rebalancing {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #workers: Workers;
  readonly #balance = new Balance();
  /** Processor microseconds by worker, as told in this round. */
  readonly #used = new Map<number, number>();
  #round = 0;
  #balancedAtMs = 0;
  #adopter = 0;
  #moved = 0;
  #isRunning = false;
  #cancel: () => void = () => {};

  constructor(clock: Clock, log: Logger, workers: Workers) {
    this.#clock = clock;
    this.#log = log;
    this.#workers = workers;
  }

  /** Live tunnels handed over since the start. */
  get moved(): number {
    return this.#moved;
  }

  start(): void {
    this.#isRunning = true;
    this.#arm();
  }

  /** Nothing is asked or shed any more; tunnels that a worker gave up already still find their way. */
  stop(): void {
    this.#isRunning = false;
    this.#cancel();
  }

  onStats(link: WorkerLink, round: number, stats: Readonly<Record<string, number>>): void {
    if (round !== this.#round || !this.#isRunning) return;
    this.#used.set(link.index, stats.cpuMicros ?? 0);
    if (this.#used.size < this.#workers.indexes.length) return;
    const now = this.#clock.now();
    const move = this.#balance.next(this.#used, now - this.#balancedAtMs);
    this.#balancedAtMs = now;
    if (move === undefined) return;
    this.#adopter = move.to;
    this.#workers.link(move.from)?.send({ type: 'shed', share: move.share });
  }

  /** A live tunnel left `from`: the worker it was meant for continues it, or `from` itself when that one is gone. */
  onFrozen(from: WorkerLink, tunnel: FrozenTunnel): void {
    const meant = this.#workers.isReady(this.#adopter) ? this.#workers.link(this.#adopter) : undefined;
    const to = meant ?? from;
    this.#moved++;
    this.#log.debug('A live tunnel moves to another worker', [
      ['from', from.index],
      ['to', to.index],
      ['streams', tunnel.streams.length],
    ]);
    to.send({ type: 'adopt', tunnel });
  }

  #arm(): void {
    this.#cancel = this.#clock.after(PERIOD_MS, () => {
      this.#round++;
      this.#used.clear();
      this.#workers.broadcast({ type: 'stats', id: this.#round });
      this.#arm();
    });
  }
}
