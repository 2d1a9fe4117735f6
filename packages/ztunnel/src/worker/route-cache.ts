// Answers of the main thread, kept until it takes them back. Everyone who asks for the same thing while a question is
// under way waits for the one answer. Bounded: past the limit the oldest answer is dropped, it can be asked again.

/** Answers kept for one pod and direction. */
const MAX_ANSWERS = 4096;

export class RouteCache<Answer> {
  readonly #answers = new Map<string, Answer>();
  readonly #asking = new Map<string, Array<(answer: Answer) => void>>();
  /** Questions asked before the last `forget`; their answers are used by who waits but not kept. */
  #stale = new Set<string>();

  /** The answer that is known, or undefined. */
  get(key: string): Answer | undefined {
    return this.#answers.get(key);
  }

  /** Waits for the answer; `ask` is called when nobody waits for it yet. */
  wait(key: string, then: (answer: Answer) => void, ask: () => void): void {
    const waiting = this.#asking.get(key);
    if (waiting !== undefined) {
      waiting.push(then);
      return;
    }
    this.#asking.set(key, [then]);
    ask();
  }

  /** The answer arrived. */
  answer(key: string, answer: Answer): void {
    if (!this.#stale.delete(key)) {
      if (this.#answers.size >= MAX_ANSWERS) {
        const oldest = this.#answers.keys().next();
        if (oldest.done !== true) this.#answers.delete(oldest.value);
      }
      this.#answers.set(key, answer);
    }
    const waiting = this.#asking.get(key);
    this.#asking.delete(key);
    for (const then of waiting ?? []) then(answer);
  }

  /** Everything known is out of date. */
  forget(): void {
    this.#answers.clear();
    this.#stale = new Set(this.#asking.keys());
  }

  get size(): number {
    return this.#answers.size;
  }

  get waitingCount(): number {
    let count = 0;
    for (const waiting of this.#asking.values()) count += waiting.length;
    return count;
  }
}
