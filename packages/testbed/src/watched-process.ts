// A long-running program of the bed, as a process: its last lines kept for whoever asks what went wrong, waited for by what
// it prints or by its readiness page, ended with its process group.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { TestbedError } from './errors.ts';
import { endGroup } from './processes.ts';

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const DEFAULT_STOP_TIMEOUT_MS = 10_000;
const DEFAULT_LINE_TIMEOUT_MS = 10_000;
/** HTTP has no event for "ready now"; this is how often it is asked. */
const READINESS_PERIOD_MS = 25;
const MAX_KEPT_LINES = 5_000;

export class WatchedProcess {
  /** For messages: `ztunnel on n1`. */
  readonly title: string;
  readonly process: ChildProcess;
  /** Resolves when it has ended, for whatever reason; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #lines: string[] = [];
  readonly #listeners = new Set<(line: string) => void>();

  constructor(title: string, child: ChildProcess) {
    this.title = title;
    this.process = child;
    const { promise, resolve } = Promise.withResolvers<ProcessEnd>();
    // `close` and not `exit`: its last words have been read by then.
    child.once('close', (code, signal) => resolve({ code, signal }));
    child.once('error', () => resolve({ code: null, signal: null }));
    this.ended = promise;
    for (const stream of [child.stdout, child.stderr]) if (stream !== null) this.#keepLines(stream);
  }

  get isRunning(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** What it printed last, both streams, at most 5000 lines. */
  log(): string {
    return this.#lines.join('\n');
  }

  /** Calls back with every further line. @returns how to stop */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Waits until a line matches, one that is kept already or one to come. @throws testbed.timeout, quoting the last lines */
  async waitForLine(pattern: RegExp, timeoutMs = DEFAULT_LINE_TIMEOUT_MS): Promise<string> {
    const kept = this.#lines.find(line => pattern.test(line));
    if (kept !== undefined) return kept;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const forget = this.onLine(line => {
      if (pattern.test(line)) resolve(line);
    });
    const timer = setTimeout(() => {
      const what = `${this.title} said nothing like ${String(pattern)} within ${timeoutMs} ms`;
      reject(this.#failure('testbed.timeout', what));
    }, timeoutMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      forget();
    }
  }

  /** SIGTERM, and SIGKILL after `graceMs` (default 10 000). Stopping twice is fine. */
  async stop(graceMs = DEFAULT_STOP_TIMEOUT_MS): Promise<ProcessEnd> {
    await endGroup(this.process, graceMs);
    return this.ended;
  }

  /** Rejects when it ends, quoting its last lines. */
  async failed(): Promise<never> {
    throw this.#failure('testbed.command_failed', endText(this.title, await this.ended));
  }

  /** Asks the page until it says ready. @throws testbed.timeout, testbed.command_failed (it ended) */
  async becomeReady(url: string, timeoutMs: number): Promise<void> {
    const deadline = AbortSignal.timeout(timeoutMs);
    let pending = 'nobody answers';
    const state = { hasEnded: false };
    void this.ended.then(() => (state.hasEnded = true));
    while (!deadline.aborted) {
      if (state.hasEnded) await this.failed();
      const answer = await askReadiness(url, deadline);
      if (answer === 'ready') return;
      pending = answer;
      await Promise.race([this.ended, delay(READINESS_PERIOD_MS)]);
    }
    const what = `${this.title} is not ready after ${timeoutMs} ms: ${pending}`;
    throw this.#failure('testbed.timeout', what);
  }

  #failure(code: 'testbed.command_failed' | 'testbed.timeout', message: string): TestbedError {
    const said = this.#lines.slice(-8).join('\n          ');
    return new TestbedError(code, message, {
      where: this.process.spawnargs.join(' '),
      next: `it said:\n          ${said}`,
    });
  }

  #keepLines(stream: Readable): void {
    const reader = createInterface({ input: stream });
    reader.on('line', line => {
      this.#lines.push(line);
      if (this.#lines.length > MAX_KEPT_LINES) this.#lines.shift();
      for (const listener of this.#listeners) listener(line);
    });
  }
}

function endText(title: string, { code, signal }: ProcessEnd): string {
  return `${title} ended with ${signal ?? `status ${code}`}`;
}

/** One question to the readiness page: `ready`, or the reason why not. */
async function askReadiness(url: string, signal: AbortSignal): Promise<string> {
  const request = get(url, { agent: false, signal });
  try {
    const [response] = (await once(request, 'response')) as [Readable & { statusCode?: number }];
    let body = '';
    for await (const chunk of response) body = (body + String(chunk)).slice(0, 500);
    return response.statusCode === 200 ? 'ready' : body.trim();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
