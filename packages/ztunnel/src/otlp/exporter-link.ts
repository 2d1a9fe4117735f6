// The export process as the proxy sees it: a child that holds OpenTelemetry's exporters, whose libraries cost 30 MB and whose
// work costs time that data workers need. Started with the first batch, started again after it died, with a pause that grows
// while it keeps dying. One promise a batch; a child that does not answer is killed. It ends with its parent.
import { type ChildProcess, fork } from 'node:child_process';
import { backoffMs, type Clock } from '../clock.ts';
import { ZtunnelError } from '../errors.ts';
import type { FromExporter, ToExporter } from './otlp-messages.ts';

type Start = Extract<ToExporter, { kind: 'start' }>;
/** A batch without its number. */
export type Batch =
  Exclude<ToExporter, Start> extends infer Each ? (Each extends unknown ? Omit<Each, 'id'> : never) : never;

export interface ExporterLinkDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly start: Start;
  /** Of the child; OpenTelemetry's variables are for it. */
  readonly env: NodeJS.ProcessEnv;
  readonly entry: URL;
  /** Longer than any export may take. */
  readonly deadlineMs: number;
}

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly cancelDeadline: () => void;
}

const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 60_000;
/** A child that lived this long starts with a clean slate. */
const STABLE_MS = 60_000;
/** What it may keep, a batch is a few megabytes at most; and little garbage, for memory matters more here than time. */
const LIMITS = ['--max-old-space-size=128', '--max-semi-space-size=2'];

export class ExporterLink {
  readonly #deps: ExporterLinkDeps;
  readonly #waiting = new Map<number, Waiting>();
  #child: ChildProcess | undefined;
  #startedAtMs = 0;
  #notBeforeMs = 0;
  /** In a row, and of all times. */
  #deathsInRow = 0;
  #deaths = 0;
  #nextId = 1;
  #isClosed = false;

  constructor(deps: ExporterLinkDeps) {
    this.#deps = deps;
  }

  /** Times the child died and was not asked to. */
  get deaths(): number {
    return this.#deaths;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves when the collector has taken the batch. @throws telemetry.unsent */
  send(batch: Batch): Promise<void> {
    const { clock, deadlineMs } = this.#deps;
    if (this.#isClosed) return Promise.reject(unsent('the export process was ended'));
    if (this.#child === undefined && clock.now() < this.#notBeforeMs) {
      return Promise.reject(unsent('the export process died and is not started again yet'));
    }
    const child = (this.#child ??= this.#start());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const expire = (): void => this.#abandon(child, `no answer from the export process within ${deadlineMs} ms`);
      this.#waiting.set(id, { resolve, reject, cancelDeadline: clock.after(deadlineMs, expire) });
      this.#tell(child, { ...batch, id });
    });
  }

  /** Ends the child; what is under way fails. */
  close(): void {
    this.#isClosed = true;
    if (this.#child !== undefined) this.#abandon(this.#child, 'the export process was ended');
  }

  #start(): ChildProcess {
    const { clock, entry, env, start } = this.#deps;
    this.#startedAtMs = clock.now();
    const child = fork(entry, {
      serialization: 'advanced',
      execArgv: LIMITS,
      env,
      // Nothing of the child may mix with our log on standard output.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', (message: FromExporter) => this.#settle(message.id, message.error));
    child.on('error', error => this.#abandon(child, `cannot start the export process: ${error.message}`));
    child.on('exit', (code, signal) =>
      this.#abandon(child, `the export process ended with ${signal ?? `status ${code}`}`),
    );
    // The proxy's end does not wait for it.
    child.unref();
    child.channel?.unref();
    this.#tell(child, start);
    return child;
  }

  #tell(child: ChildProcess, message: ToExporter): void {
    child.send(message, error => {
      if (error !== null) this.#abandon(child, `export process: ${error.message}`);
    });
  }

  #settle(id: number, error: string | undefined): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    waiting.cancelDeadline();
    if (error === undefined) waiting.resolve();
    else waiting.reject(unsent(error));
  }

  #abandon(child: ChildProcess, why: string): void {
    if (child !== this.#child) return;
    const { clock, random } = this.#deps;
    this.#child = undefined;
    child.kill('SIGKILL');
    if (!this.#isClosed) {
      this.#deaths++;
      this.#deathsInRow = clock.now() - this.#startedAtMs >= STABLE_MS ? 1 : this.#deathsInRow + 1;
      this.#notBeforeMs = clock.now() + backoffMs(this.#deathsInRow, FIRST_PAUSE_MS, MAX_PAUSE_MS, random);
    }
    // Settling removes what is settled, which iteration over a map allows.
    for (const id of this.#waiting.keys()) this.#settle(id, why);
  }
}

function unsent(why: string): ZtunnelError {
  return new ZtunnelError('telemetry.unsent', why);
}
