// One of the mesh's processes under the supervisor: started, asked until it is ready, started again when it ends: at once,
// and after a pause that grows while it keeps failing. It ends when the supervisor does, in whatever way.
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { errorText, type Log } from '@ambit/log';
import { RotatingLog } from '../rotating-log.ts';
import type { PartName, PartState } from './up-status.ts';

export interface PartPlan {
  readonly name: PartName;
  readonly command: readonly string[];
  /** Made anew for each start: tokens are. */
  readonly env: () => Promise<Readonly<Record<string, string | undefined>>>;
  /** undefined: ready; otherwise why not. */
  readonly readiness: () => Promise<string | undefined>;
  readonly logPath: string;
}

const FIRST_PAUSE_MS = 200;
const MAX_PAUSE_MS = 10_000;
/** After running well this long, the next failure counts as the first. */
const STEADY_MS = 10_000;
const READINESS_PERIOD_MS = 100;
const STOP_GRACE_MS = 8_000;

export class Part {
  readonly plan: PartPlan;
  readonly #log: Log;
  readonly #onChange: () => void;
  readonly #stopping = new AbortController();
  #state: PartState = { kind: 'waiting' };
  #starts = 0;
  #failure: string | undefined;
  #child: ChildProcess | undefined;
  #loop: Promise<void> | undefined;
  #ready = Promise.withResolvers<void>();

  constructor(plan: PartPlan, log: Log, onChange: () => void) {
    this.plan = plan;
    this.#log = log;
    this.#onChange = onChange;
  }

  get state(): PartState {
    return this.#state;
  }

  get restarts(): number {
    return Math.max(0, this.#starts - 1);
  }

  /** Why it ended last; undefined: it never did. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Resolves when it has been ready once, or is stopped. */
  async start(): Promise<void> {
    this.#loop ??= this.#run();
    await this.#ready.promise;
  }

  /** SIGTERM, and SIGKILL when it does not end. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#child?.kill('SIGTERM');
    const timer = setTimeout(() => this.#child?.kill('SIGKILL'), STOP_GRACE_MS);
    await this.#loop;
    clearTimeout(timer);
    this.#setState({ kind: 'stopped' });
    this.#ready.resolve();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    let pauseMs = 0;
    while (!signal.aborted) {
      const startedAt = performance.now();
      const why = await this.#runOnce();
      if (signal.aborted) return;
      this.#failure = why;
      this.#setState({ kind: 'failed', why });
      if (performance.now() - startedAt > STEADY_MS) pauseMs = 0;
      this.#log.error('A part ended and is started again', { part: this.plan.name, why, pauseMs });
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      pauseMs = Math.min(MAX_PAUSE_MS, Math.max(FIRST_PAUSE_MS, pauseMs * 2));
    }
  }

  /** @returns why it ended */
  async #runOnce(): Promise<string> {
    const { name, command, logPath } = this.plan;
    this.#setState({ kind: 'starting', pid: undefined, why: 'getting what it needs' });
    let log: RotatingLog | undefined;
    try {
      const env = await this.plan.env();
      log = new RotatingLog(logPath);
      if (this.#stopping.signal.aborted) return 'stopped';
      this.#starts++;
      const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', ...command], {
        env,
        cwd: '/',
        stdio: ['ignore', 'pipe', 'pipe'],
        // A group of its own: Ctrl-C is the supervisor's, who ends the parts in order.
        detached: true,
      });
      this.#child = child;
      const said = new LastWords();
      for (const stream of [child.stdout, child.stderr]) {
        stream.on('data', (chunk: Buffer) => {
          log?.write(chunk);
          said.add(chunk);
        });
      }
      const { promise: ended, resolve } = Promise.withResolvers<string>();
      child.once('error', error => resolve(errorText(error)));
      child.once('close', (code, signal) => resolve(`${name} ended with ${signal ?? `status ${code}`}${said.text()}`));
      await Promise.race([ended, this.#becomeReady(child.pid ?? 0, child)]);
      return await ended;
    } catch (error) {
      return errorText(error);
    } finally {
      this.#child = undefined;
      log?.close();
    }
  }

  async #becomeReady(pid: number, child: ChildProcess): Promise<void> {
    let before: string | undefined;
    while (child.exitCode === null && child.signalCode === null) {
      const why = await this.plan.readiness().catch(errorText);
      if (this.#child !== child) return;
      if (why === undefined) {
        this.#setState({ kind: 'ready', pid, since: new Date().toISOString() });
        this.#log.info('A part is ready', { part: this.plan.name, pid });
        this.#ready.resolve();
        return;
      }
      if (why !== before) this.#setState({ kind: 'starting', pid, why });
      before = why;
      await delay(READINESS_PERIOD_MS);
    }
  }

  #setState(state: PartState): void {
    this.#state = state;
    this.#onChange();
  }
}

/** The last line a process printed, for whoever asks why it ended. */
class LastWords {
  #tail = '';

  add(chunk: Buffer): void {
    this.#tail = (this.#tail + chunk.toString('utf8')).slice(-2000);
  }

  text(): string {
    const line = this.#tail.trim().split('\n').at(-1);
    return line === undefined || line === '' ? '' : `; it said: ${line.slice(0, 300)}`;
  }
}
