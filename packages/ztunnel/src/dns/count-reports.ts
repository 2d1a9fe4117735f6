// Tells the main thread what the pods' DNS proxies counted: the pods that have news, at most once a second, and when asked. A
// main thread that is behind gets nothing more until it has taken what was sent; the counts add up meanwhile.
import type { Engine } from '@ambit/proxy';
import type { DnsPodCounts } from './dns-messages.ts';

const TELL_MS = 1000;

/** Somebody who counts. */
export interface Counting {
  /** What nobody was told yet; undefined when there is nothing. */
  takeCounts(): DnsPodCounts | undefined;
}

export class CountReports {
  readonly #engine: Engine;
  readonly #send: (counts: readonly DnsPodCounts[]) => void;
  readonly #withNews = new Set<Counting>();
  #unacked = 0;
  #isArmed = false;

  constructor(engine: Engine, send: (counts: readonly DnsPodCounts[]) => void) {
    this.#engine = engine;
    this.#send = send;
  }

  /** It has counted something; cheap enough to be called for every query. */
  hasNews(counting: Counting): void {
    this.#withNews.add(counting);
    if (!this.#isArmed) this.#arm();
  }

  /** The main thread has taken a message. */
  acknowledge(): void {
    if (this.#unacked > 0) this.#unacked--;
  }

  /** Tells everything now. */
  tell(): void {
    const counts = Array.from(this.#withNews).flatMap(counting => counting.takeCounts() ?? []);
    this.#withNews.clear();
    if (counts.length === 0) return;
    this.#unacked++;
    this.#send(counts);
  }

  #arm(): void {
    this.#isArmed = true;
    this.#engine.timers.at(this.#engine.nowMs + TELL_MS, () => {
      this.#isArmed = false;
      if (this.#unacked === 0) this.tell();
      else this.#arm();
    });
  }
}
