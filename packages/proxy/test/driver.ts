// Runs engines beside Node's event loop, so that a test can hold both: engines turn without blocking, and foreign peers
// (node:net, node:tls, node:http2) live in the same thread. Production blocks in the engine instead; worker-pair.ts does.
import { setImmediate as nextImmediate } from 'node:timers/promises';
import type { Engine } from '../src/index.ts';

const WAIT_MS = 15_000;

export class Driver {
  readonly #engines = new Set<Engine>();
  #failure: Error | undefined;
  #state: 'running' | 'stopping' | 'stopped' = 'running';
  readonly #loop: Promise<void>;

  constructor() {
    this.#loop = this.#run();
  }

  add(engine: Engine): void {
    this.#engines.add(engine);
  }

  remove(engine: Engine): void {
    this.#engines.delete(engine);
  }

  /** Resolves once `isReached`; rejects with what an engine threw, or after 15 s. */
  async until(isReached: () => boolean, what: string): Promise<void> {
    const deadline = Date.now() + WAIT_MS;
    while (!isReached()) {
      if (this.#failure !== undefined) throw this.#failure;
      if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
      await nextImmediate();
    }
  }

  async stop(): Promise<void> {
    this.#state = 'stopping';
    await this.#loop;
    this.#state = 'stopped';
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #run(): Promise<void> {
    while (this.#state === 'running') {
      try {
        for (const engine of Array.from(this.#engines)) engine.turn(0);
      } catch (error) {
        this.#failure ??= error instanceof Error ? error : new Error(String(error));
        return;
      }
      await nextImmediate();
    }
  }
}
