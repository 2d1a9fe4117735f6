// Who waits for the server's answer to a demanded name. Waiters for one name share one wait; each wait has a limit, and so
// has their number. Woken by name, by alias or by removal, for a server may answer in any of these ways.
import type { DeltaUpdate } from './delta-client.ts';

/** `answered`: the server has said what there is (perhaps nothing). `late`: not in time. `full`: too many wait already. */
export type DemandResult = 'answered' | 'late' | 'full';

/** Runs once after `ms`; returns how to cancel it. */
export type After = (ms: number, run: () => void) => () => void;

interface Waiting {
  readonly result: Promise<DemandResult>;
  readonly settle: (result: DemandResult) => void;
}

export class DemandWaiters {
  readonly #after: After;
  readonly #options: { readonly timeoutMs: number; readonly maxNames: number };
  readonly #waiting = new Map<string, Waiting>();

  constructor(after: After, options: { readonly timeoutMs: number; readonly maxNames: number }) {
    this.#after = after;
    this.#options = options;
  }

  /** Names that are waited for. */
  get size(): number {
    return this.#waiting.size;
  }

  wait(name: string): Promise<DemandResult> {
    const present = this.#waiting.get(name);
    if (present !== undefined) return present.result;
    if (this.#waiting.size >= this.#options.maxNames) return Promise.resolve('full');
    const { promise, resolve } = Promise.withResolvers<DemandResult>();
    const cancel = this.#after(this.#options.timeoutMs, () => this.#settle(name, 'late'));
    this.#waiting.set(name, {
      result: promise,
      settle: result => {
        cancel();
        resolve(result);
      },
    });
    return promise;
  }

  /** The server has spoken, and what it said is applied. */
  onUpdate({ resources, removed }: DeltaUpdate): void {
    if (this.#waiting.size === 0) return;
    for (const name of removed) this.#settle(name, 'answered');
    for (const { name, aliases } of resources) {
      this.#settle(name, 'answered');
      for (const alias of aliases) this.#settle(alias, 'answered');
    }
  }

  /** Nobody will answer any more. */
  stop(): void {
    for (const name of this.#waiting.keys()) this.#settle(name, 'late');
  }

  #settle(name: string, result: DemandResult): void {
    const waiting = this.#waiting.get(name);
    if (waiting === undefined) return;
    this.#waiting.delete(name);
    waiting.settle(result);
  }
}
