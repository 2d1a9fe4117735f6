// The capture as the demo sees it: a thread that judges every frame between the nodes, and its counts.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { WireCounts } from './wire-judge.ts';
import type { WireMessage, WireWorkerData } from './wire-worker.ts';

export interface WireState {
  readonly betweenNodes: WireCounts;
  /** The link on which plaintext is known to run. */
  readonly control: WireCounts;
}

const NOTHING: WireCounts = {
  packets: 0,
  bytes: 0,
  readable: 0,
  markers: 0,
  unjudged: 0,
  flows: 0,
  example: undefined,
};

export class WireWatch {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  #state: WireState = { betweenNodes: NOTHING, control: NOTHING };
  #failure: Error | undefined;
  #answered: (() => void)[] = [];

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', (message: WireMessage) => {
      if (message.kind !== 'counts') return;
      const [betweenNodes = NOTHING, control = NOTHING] = message.links;
      this.#state = { betweenNodes, control };
      this.#release();
    });
    worker.on('error', error => {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#release();
    });
    const ended = Promise.withResolvers<void>();
    this.#ended = ended.promise;
    worker.on('exit', () => {
      this.#failure ??= new Error('the capture has ended');
      this.#release();
      ended.resolve();
    });
  }

  /** Resolves when frames are being read. The first link is the one between the nodes, the second the control. @throws what the capture cannot open */
  static async start(data: WireWorkerData): Promise<WireWatch> {
    const worker = new Worker(new URL('./wire-worker.ts', import.meta.url), { workerData: data });
    await once(worker, 'message');
    return new WireWatch(worker);
  }

  /** What was counted up to now. @throws the error that ended the capture: there is no proof then */
  async read(): Promise<WireState> {
    if (this.#failure === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#answered.push(resolve);
      this.#worker.postMessage('counts');
      await promise;
    }
    if (this.#failure !== undefined) throw this.#failure;
    return this.#state;
  }

  /** Ends the thread by its own doing: one that is terminated while it waits in native code takes the process along. */
  async close(): Promise<void> {
    this.#worker.postMessage('stop');
    await this.#ended;
  }

  #release(): void {
    for (const resolve of this.#answered.splice(0)) resolve();
  }
}
