// The demo: puts the shop on the stage, folds the proxies' records, makes one fault, asks the control plane what
// the objects say now, draws once a second, and ends with a verdict. Runs inside a sandbox, which takes everything away.
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Finding } from '@ambit/insight';
import { EdgeTraffic } from './edge-traffic.ts';
import { EdgeBook } from './edges.ts';
import { Fault, FAULT_AFTER_MS, FAULT_NEEDS_MS } from './fault.ts';
import { News } from './news.ts';
import { droppedIn, readRecord } from './record.ts';
import { Screen } from './screen.ts';
import { type Stage, stageOnLoopback, stageOnNodes, type StageOptions } from './stage.ts';
import { paint, renderDemo } from './table.ts';
import { type DemoState, findings, makeRows, toDocument } from './verdict.ts';

export type DemoMode = 'root' | 'userns' | 'loopback';

export interface DemoOptions extends StageOptions {
  /** Counted from the first row; undefined: until somebody quits. */
  readonly forMs: number | undefined;
  readonly output: 'table' | 'json';
  /** What is around this process: a sandbox made as root or by a user namespace, or nothing. */
  readonly mode: DemoMode;
  readonly version: string;
}

const DRAW_MS = 1_000;
const SETTLE_MS = 100;
const FIRST_ROW_TIMEOUT_MS = 20_000;
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** @returns the exit status: 0 all as it should be, 1 with findings. @throws TestbedError when it cannot be built */
export async function runDemo(options: DemoOptions): Promise<number> {
  const screen = new Screen(options.output === 'json');
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
  try {
    await using demo = new Demo(options, screen, stop.signal);
    return await demo.run(() => stop.abort());
  } finally {
    screen.close();
    for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
  }
}

function newToken(): string {
  return `order-${randomBytes(9).toString('hex')}`;
}

class Demo {
  readonly #options: DemoOptions;
  readonly #screen: Screen;
  readonly #stop: AbortSignal;
  readonly #startedAt = new Date();
  readonly #start = performance.now();
  readonly #book = new EdgeBook();
  readonly #traffic = new EdgeTraffic(this.#start);
  readonly #fault = new Fault();
  #detected: readonly Finding[] = [];
  readonly #closers = new AsyncDisposableStack();
  readonly #news = new News();
  #dropped = 0;
  #firstRowSeconds: number | undefined;

  constructor(options: DemoOptions, screen: Screen, stop: AbortSignal) {
    this.#options = options;
    this.#screen = screen;
    this.#stop = stop;
  }

  async run(quit: () => void): Promise<number> {
    const screen = this.#screen;
    screen.line(
      paint(
        `Ambit ${this.#options.version} · ${this.#options.mode === 'loopback' ? 'two proxies on loopback' : `two nodes on this machine (${this.#options.mode})`}`,
        'plain',
        screen.style,
      ),
    );
    screen.done(`runtime Node ${process.versions.node}`);
    const stage = await this.#open();
    if (stage === undefined) return 0;
    await Promise.race([this.#show(stage, quit), stage.failed()]);
    const state = await this.#state(stage);
    screen.draw(renderDemo(state, screen.style));
    if (this.#options.output === 'json') process.stdout.write(`${this.#document(stage, state)}\n`);
    else if (!screen.isLive) for (const text of ['', ...renderDemo(state, screen.style)]) screen.line(text);
    return findings(state).length === 0 ? 0 : 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closers.disposeAsync();
  }

  /** Undefined when it was told to stop meanwhile. */
  async #open(): Promise<Stage | undefined> {
    const events = {
      token: newToken(),
      onRecordLine: (line: string) => this.#takeRecord(line),
      stop: this.#stop,
    };
    const open = this.#options.mode === 'loopback' ? stageOnLoopback : stageOnNodes;
    return open(this.#options, events, this.#screen, this.#closers);
  }

  #takeRecord(line: string): void {
    const record = readRecord(line);
    this.#traffic.add(line, performance.now());
    if (record === undefined) this.#dropped += droppedIn(line);
    else if (this.#book.add(record)) this.#wake();
  }

  async #show(stage: Stage, quit: () => void): Promise<void> {
    const screen = this.#screen;
    screen.doing('waiting for the first connections');
    await this.#firstRows(stage);
    this.#firstRowSeconds = Math.round(performance.now() - this.#start) / 1000;
    if (this.#options.mode === 'loopback') screen.done('traffic: web → cart');
    else screen.done(`traffic: web → cart → db (${stage.store === 'redis' ? 'Redis' : 'a store of our own'})`);
    if (screen.isLive) screen.line('');
    screen.onKey(key => (key === 'quit' ? quit() : void this.#writeJson(stage)));
    const firstMs = performance.now();
    const end = this.#options.forMs === undefined ? Infinity : performance.now() + this.#options.forMs;
    const hint = `Edit ${join(this.#options.objects.title, 'policies.yaml')} and watch this table change.`;
    while (!this.#stop.aborted && performance.now() < end) {
      await Promise.all([stage.control.refresh(), stage.refresh()]);
      this.#detect(stage, firstMs, end);
      const state = await this.#state(stage);
      this.#tell(state);
      screen.draw([...renderDemo(state, screen.style), '', hint, paint(this.#footer, 'dim', screen.style)]);
      await this.#untilNews(Math.min(DRAW_MS, end - performance.now()));
    }
  }

  #footer = 'q quit   j write JSON';

  /** Makes the fault in its time, and looks for what is wrong. */
  #detect(stage: Stage, firstMs: number, endMs: number): void {
    const now = performance.now();
    this.#detected = this.#traffic.look(now);
    this.#fault.look(this.#detected, now);
    if (this.#fault.state !== undefined || now < firstMs + FAULT_AFTER_MS || endMs - now < FAULT_NEEDS_MS) return;
    stage.injectFault();
    this.#fault.inject(now);
  }

  /** Without a table that is redrawn, a change is a line. */
  #tell(state: DemoState): void {
    if (this.#screen.isLive) return;
    for (const text of this.#news.take(state)) this.#screen.line(`  change ${text}`);
  }

  /** Until every edge that belongs here was seen, for a bounded time: what is missing then is a finding. */
  async #firstRows({ control }: Stage): Promise<void> {
    const deadline = performance.now() + FIRST_ROW_TIMEOUT_MS;
    while (!this.#stop.aborted && performance.now() < deadline) {
      const edges = this.#book.edges().filter(({ now }) => now !== undefined);
      const seen = control.expected.filter(({ source, destination }) =>
        edges.some(edge => edge.source === source && edge.destination === destination),
      );
      // Where the objects are not as the shop comes, some may never be.
      if (seen.length >= (control.state.isEdited ? 1 : control.expected.length)) return;
      await this.#pause(100);
    }
  }

  #wake: () => void = () => undefined;

  /** A change is drawn at once, and with it what comes of it in the same moment. */
  async #untilNews(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await Promise.race([promise.then(async () => this.#pause(Math.min(SETTLE_MS, ms))), this.#pause(ms)]);
  }

  async #pause(ms: number): Promise<void> {
    await delay(Math.max(1, ms), undefined, { signal: this.#stop }).catch(() => undefined);
  }

  async #state({ control, wire }: Stage): Promise<DemoState> {
    const trafficOf = (source: string, destination: string) => this.#traffic.summary(source, destination);
    const rows = makeRows(this.#book.edges(), control.expected, trafficOf);
    return {
      rows,
      wire: await wire?.read(),
      control: control.state,
      droppedRecords: this.#dropped,
      fault: this.#fault.state,
      detected: this.#detected,
    };
  }

  #document({ store }: Stage, state: DemoState): string {
    const facts = {
      mode: this.#options.mode,
      store,
      startedAt: this.#startedAt.toISOString(),
      firstRowSeconds: this.#firstRowSeconds,
      durationSeconds: Math.round(performance.now() - this.#start) / 1000,
    };
    return JSON.stringify(toDocument(state, facts), undefined, 2);
  }

  async #writeJson(stage: Stage): Promise<void> {
    const path = `ambit-demo-${new Date().toISOString().replaceAll(/[-:]|\..*/g, '')}.json`;
    try {
      await writeFile(path, `${this.#document(stage, await this.#state(stage))}\n`);
      this.#footer = `q quit   j write JSON   wrote ${path}`;
    } catch (error) {
      this.#footer = `q quit   j write JSON   cannot write ${path}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
}
