// A short-lived child process for work whose libraries are large and rarely needed (signing: +20 MB, reading YAML:
// +23 MB, both for ever once loaded on a thread of this process). It starts with the first request and ends when idle,
// so its memory goes back to the system. A request that outlives its deadline kills the child and fails.
import { type ChildProcess, fork } from 'node:child_process';
import { ZtunnelError, type ZtunnelErrorCode } from '../errors.ts';

export interface HelperOptions {
  /** The child's program; it calls `serveHelper`. */
  readonly entry: URL;
  /** How long the child outlives its last answer. */
  readonly idleMs: number;
  readonly deadlineMs: number;
  /** The code of errors that are not the child's own answer (it died, or was too slow). */
  readonly failureCode: ZtunnelErrorCode;
}

/** What the child answers to a request, in the words of `serveHelper`. */
export type HelperAnswer =
  | { readonly id: number; readonly kind: 'ok'; readonly value: unknown }
  | { readonly id: number; readonly kind: 'failed'; readonly code: ZtunnelErrorCode; readonly message: string };

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export class HelperProcess {
  readonly #options: HelperOptions;
  readonly #waiting = new Map<number, Waiting>();
  #child: ChildProcess | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #nextId = 1;

  constructor(options: HelperOptions) {
    this.#options = options;
  }

  /** Whether a child is running now. */
  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** Sends structured-cloneable data, gets the child's answer. @throws the child's code, or `failureCode` */
  request(payload: unknown): Promise<unknown> {
    clearTimeout(this.#idleTimer);
    const child = (this.#child ??= this.#start());
    const id = this.#nextId++;
    return new Promise<unknown>((resolve, reject) => {
      const expire = (): void => {
        // A child that hangs once will hang again: the next request gets a fresh one.
        this.#abandon(child, `no answer from the helper process within ${this.#options.deadlineMs} ms`);
      };
      const timer = setTimeout(expire, this.#options.deadlineMs).unref();
      this.#waiting.set(id, { resolve, reject, timer });
      child.send({ id, payload }, error => {
        if (error !== null) this.#abandon(child, `helper process: ${error.message}`);
      });
    });
  }

  /** Ends the child; waiting requests fail. The next request starts a new one. */
  close(): void {
    if (this.#child !== undefined) this.#abandon(this.#child, 'helper process closed');
  }

  #start(): ChildProcess {
    const child = fork(this.#options.entry, {
      serialization: 'advanced',
      execArgv: [],
      // Nothing of the child may mix with our log on standard output.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', (message: HelperAnswer) => this.#answer(child, message));
    child.on('error', error => this.#abandon(child, `cannot start the helper process: ${error.message}`));
    child.on('exit', (code, signal) => this.#abandon(child, `helper process ended with ${signal ?? `status ${code}`}`));
    return child;
  }

  #answer(child: ChildProcess, answer: HelperAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined || child !== this.#child) return;
    this.#waiting.delete(answer.id);
    clearTimeout(waiting.timer);
    if (answer.kind === 'ok') waiting.resolve(answer.value);
    else waiting.reject(new ZtunnelError(answer.code, answer.message));
    if (this.#waiting.size === 0) {
      this.#idleTimer = setTimeout(() => this.#abandon(child, 'idle'), this.#options.idleMs).unref();
    }
  }

  #abandon(child: ChildProcess, why: string): void {
    if (child !== this.#child) return;
    this.#child = undefined;
    clearTimeout(this.#idleTimer);
    child.kill('SIGKILL');
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new ZtunnelError(this.#options.failureCode, why));
    }
    this.#waiting.clear();
  }
}
