// One data worker as the main thread sees it: a thread, a message port and the eventfd that wakes it out of epoll_wait.
// Messages are delivered in order; a worker that ended receives nothing more and tells it once.
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { closeRegistered, EventFd, openFileLimit } from '@ambit/native';
import { errorText } from '../errors.ts';
import type { FromWorker, ToWorker, WorkerSettings, WorkerStart } from '../worker-protocol.ts';

export interface WorkerLinkDeps {
  /** The worker's program. */
  readonly entry: URL;
  readonly settings: WorkerSettings;
  readonly budget: SharedArrayBuffer;
  readonly onMessage: (message: FromWorker) => void;
  /** Once, when the thread has ended; `why` is undefined when it was asked to. */
  readonly onEnded: (why: string | undefined) => void;
}

/** Descriptors noted for a worker at most; a higher limit of open files is cut to this. */
const MAX_NOTED_FDS = 1 << 20;

export class WorkerLink {
  readonly index: number;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #wake: EventFd;
  readonly #ended: Promise<void>;
  #isEnded = false;
  #isWaking = false;
  #isWanted = false;
  #failure: string | undefined;

  /** Starts the thread. It answers with a `ready` message. */
  constructor(index: number, deps: WorkerLinkDeps) {
    this.index = index;
    this.#wake = EventFd.create();
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#port.on('message', deps.onMessage);
    const fds = new SharedArrayBuffer(Math.ceil(Math.min(openFileLimit().soft, MAX_NOTED_FDS) / 8));
    const start: WorkerStart = {
      index,
      wakeFd: this.#wake.fd.number,
      port: port2,
      settings: deps.settings,
      budget: deps.budget,
      fds,
    };
    this.#worker = new Worker(deps.entry, { workerData: start, transferList: [port2], name: `ambit-${index}` });
    this.#worker.on('error', error => (this.#failure = errorText(error)));
    this.#ended = new Promise(resolve => {
      this.#worker.on('exit', code => {
        this.#isEnded = true;
        // Its last words (records above all) may still be in the queue.
        for (let left = receiveMessageOnPort(this.#port); left !== undefined; left = receiveMessageOnPort(this.#port)) {
          deps.onMessage(left.message as FromWorker);
        }
        this.#port.close();
        this.#wake.close();
        // A thread leaves its descriptors open. Its listeners would go on attracting connections that nobody accepts.
        closeRegistered(fds);
        const why = this.#isWanted ? undefined : (this.#failure ?? `thread ended with status ${code}`);
        resolve();
        deps.onEnded(why);
      });
    });
  }

  /** Sends one message and wakes the worker. Does nothing once it has ended. */
  send(message: ToWorker): void {
    if (this.#isEnded) return;
    this.#port.postMessage(message);
    this.#wakeSoon();
  }

  /** Once for everything that is said in one go: waking costs more than most messages. */
  #wakeSoon(): void {
    if (this.#isWaking) return;
    this.#isWaking = true;
    queueMicrotask(() => {
      this.#isWaking = false;
      if (!this.#isEnded) this.#wake.notify();
    });
  }

  /** Asks it to end; ends it the hard way after `graceMs`. Resolves when the thread is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#isWanted = true;
    this.send({ type: 'stop' });
    const timer = setTimeout(() => void this.#terminate(), graceMs);
    await this.#ended;
    clearTimeout(timer);
  }

  /** Ends a worker that does not do its work; `onEnded` is told `why`. Nothing it was sent before is carried out any more. */
  kill(why: string): void {
    this.#failure = why;
    void this.#terminate();
  }

  async #terminate(): Promise<void> {
    const terminated = this.#worker.terminate();
    // Inside epoll_wait the engine cannot interrupt the thread: it has to come back to JavaScript first.
    if (!this.#isEnded) this.#wake.notify();
    await terminated;
  }
}
