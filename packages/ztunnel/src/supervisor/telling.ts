// Has the workers tell what they have not told yet, so that whoever counts has the present and not the last second. The
// records arrive before the answer, since messages keep their order; a worker that is busy or gone is not waited for.
import type { Clock } from '../clock.ts';
import { Condition } from './condition.ts';
import type { Workers } from './workers.ts';

export class Telling {
  readonly #workers: Workers;
  readonly #condition: Condition;
  /** The last round that each worker has answered. */
  readonly #answered = new Map<number, number>();
  #round = 0;

  constructor(clock: Clock, workers: Workers) {
    this.#workers = workers;
    this.#condition = new Condition(clock);
  }

  /** Whether every ready worker has told all within `timeoutMs`. */
  async all(timeoutMs: number): Promise<boolean> {
    const round = ++this.#round;
    const asked = this.#workers.indexes.filter(index => this.#workers.isReady(index));
    for (const index of asked) this.#workers.link(index)?.send({ type: 'tell', id: round });
    const hasTold = (index: number): boolean => (this.#answered.get(index) ?? 0) >= round;
    return await this.#condition.until(() => asked.every(hasTold), timeoutMs);
  }

  onTold(index: number, round: number): void {
    this.#answered.set(index, round);
    this.#condition.changed();
  }
}
