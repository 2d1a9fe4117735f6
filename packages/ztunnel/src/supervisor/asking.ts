// Asks all workers that are ready one question of the admin endpoint and gathers what comes back in time: a worker that is
// busy or gone is left out. Messages keep their order, so does what they ask for.
import type { WorkerAnswer, WorkerAnswers, WorkerQuestion } from '../admin/worker-questions.ts';
import type { Clock } from '../clock.ts';
import { Condition } from './condition.ts';
import type { Workers } from './workers.ts';

export class Asking {
  readonly #workers: Workers;
  readonly #condition: Condition;
  /** By question; only those that still wait. */
  readonly #answers = new Map<number, Map<number, WorkerAnswer>>();
  #nextId = 1;

  constructor(clock: Clock, workers: Workers) {
    this.#workers = workers;
    this.#condition = new Condition(clock);
  }

  async ask(question: WorkerQuestion, timeoutMs: number): Promise<WorkerAnswers> {
    const id = this.#nextId++;
    const answers = new Map<number, WorkerAnswer>();
    this.#answers.set(id, answers);
    const asked = this.#workers.indexes.filter(index => this.#workers.isReady(index));
    for (const index of asked) this.#workers.link(index)?.send({ type: 'ask', id, question });
    const isWaiting = (index: number): boolean => this.#workers.isReady(index) && !answers.has(index);
    await this.#condition.until(() => !asked.some(isWaiting), timeoutMs);
    this.#answers.delete(id);
    return [...answers].map(([worker, answer]) => ({ worker, answer })).sort((a, b) => a.worker - b.worker);
  }

  onAnswer(index: number, id: number, answer: WorkerAnswer): void {
    this.#answers.get(id)?.set(index, answer);
    this.#condition.changed();
  }

  onWorkerGone(): void {
    this.#condition.changed();
  }
}
