// Gathers the changes of one turn of the event loop and hands them over together, the last one of each object only.
// Its size is bounded by what one turn can read from its connections.
import { formatRef, type ObjectChange } from '../objects/types.ts';
import type { ChangeSink } from '../sources/source.ts';

export class ChangeBatch {
  readonly #sink: ChangeSink;
  #changes = new Map<string, ObjectChange>();
  #scheduled: NodeJS.Immediate | undefined;
  #isClosed = false;

  constructor(sink: ChangeSink) {
    this.#sink = sink;
  }

  add(change: ObjectChange): void {
    if (this.#isClosed) return;
    const key = formatRef(change.ref);
    // Delete first: a map keeps the place of the first insertion, and order is that of the last word.
    this.#changes.delete(key);
    this.#changes.set(key, change);
    this.#scheduled ??= setImmediate(() => this.flush());
  }

  flush(): void {
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    if (this.#changes.size === 0 || this.#isClosed) return;
    const changes = [...this.#changes.values()];
    this.#changes = new Map();
    this.#sink(changes);
  }

  /** What has not been handed over never will be. */
  close(): void {
    this.#isClosed = true;
    clearImmediate(this.#scheduled);
    this.#changes.clear();
  }
}
