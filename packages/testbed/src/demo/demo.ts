// The demo: builds the shop on a bed, watches the wire before anything runs, folds the proxies' records and the programs'
// reports, draws once a second, and ends with a verdict. Runs inside a sandbox, which takes everything away with it.
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Testbed } from '../bed.ts';
import { SANDBOX_DIR } from '../sandbox.ts';
import { EdgeBook } from './edges.ts';
import { Loopback } from './loopback.ts';
import { droppedIn, readRecord } from './record.ts';
import { RecordFeed } from './record-feed.ts';
import { Screen } from './screen.ts';
import { Shop, type StoreKind } from './shop.ts';
import { CallStatistics } from './statistics.ts';
import { paint, renderDemo } from './table.ts';
import { type DemoState, type Expected, findings, makeRows, toDocument } from './verdict.ts';
import { WireWatch } from './wire-watch.ts';

export type DemoMode = 'root' | 'userns' | 'loopback';

export interface DemoOptions {
  /** Program and arguments of the node proxy. */
  readonly ztunnelCommand: readonly string[];
  /** PEM texts of a development root. */
  readonly devRoot: { readonly certPem: string; readonly keyPem: string };
  /** Counted from the first row; undefined: until somebody quits. */
  readonly forMs: number | undefined;
  readonly output: 'table' | 'json';
  /** What is around this process: a sandbox made as root or by a user namespace, or nothing. */
  readonly mode: DemoMode;
  readonly version: string;
  /** What runs as shop/db; undefined: Redis where Debian's is installed, else a store of our own. */
  readonly store: StoreKind | undefined;
  /** For tests: leaves a pod out of the mesh that belongs into it. */
  readonly breakEncryption: boolean;
}

const EXPECTED: readonly Expected[] = [
  { source: 'shop/web', destination: 'shop/cart', want: 'encrypted' },
  { source: 'shop/cart', destination: 'shop/db', want: 'encrypted' },
  { source: 'shop/stranger', destination: 'shop/cart', want: 'denied' },
  { source: 'plain/outside', destination: 'shop/web', want: 'plaintext' },
];
/** Without networks of their own there are two proxies and one edge. */
const EXPECTED_ON_LOOPBACK = EXPECTED.slice(0, 1);
const TUNNEL_PORT = 15_008;
const NODES = ['n1', 'n2'] as const;
const DRAW_MS = 1_000;
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
  readonly #expected: readonly Expected[];
  readonly #startedAt = new Date();
  readonly #start = performance.now();
  readonly #book = new EdgeBook();
  readonly #calls = new Map<string, CallStatistics>();
  readonly #closers = new AsyncDisposableStack();
  #wire: WireWatch | undefined;
  #dropped = 0;
  #store = '';
  #firstRowSeconds: number | undefined;

  constructor(options: DemoOptions, screen: Screen, stop: AbortSignal) {
    this.#options = options;
    this.#screen = screen;
    this.#stop = stop;
    this.#expected = options.mode === 'loopback' ? EXPECTED_ON_LOOPBACK : EXPECTED;
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
    const shop = await this.#build();
    if (shop !== undefined) {
      const running = this.#show(quit);
      await Promise.race([running, shop.failed()]);
    }
    const state = await this.#state();
    screen.draw(renderDemo(state, screen.style));
    if (this.#options.output === 'json') process.stdout.write(`${this.#document(state)}\n`);
    else if (!screen.isLive) for (const text of ['', ...renderDemo(state, screen.style)]) screen.line(text);
    return findings(state).length === 0 ? 0 : 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closers.disposeAsync();
  }

  /** Undefined when it was told to stop meanwhile. */
  async #build(): Promise<Shop | Loopback | undefined> {
    return this.#options.mode === 'loopback' ? this.#buildOnLoopback() : this.#buildOnNodes();
  }

  async #buildOnLoopback(): Promise<Loopback | undefined> {
    const screen = this.#screen;
    screen.doing('starting two proxies on loopback');
    const loopback = new Loopback({
      ztunnelCommand: this.#options.ztunnelCommand,
      devRoot: this.#options.devRoot,
      token: newToken(),
      onRecordLine: line => this.#takeRecord(line),
      onReport: (from, to, report) => this.#statistics(from, to).add(report, performance.now()),
      stop: this.#stop,
    });
    this.#closers.use(loopback);
    await loopback.open();
    screen.done('proxies at 127.0.0.2:15001 and 127.0.0.3:15008');
    return this.#stop.aborted ? undefined : loopback;
  }

  async #buildOnNodes(): Promise<Shop | undefined> {
    const screen = this.#screen;
    screen.doing('making two nodes');
    const devCa = { certPath: join(SANDBOX_DIR, 'demo-root.pem'), keyPath: join(SANDBOX_DIR, 'demo-root.key') };
    await writeFile(devCa.certPath, this.#options.devRoot.certPem, { mode: 0o600 });
    await writeFile(devCa.keyPath, this.#options.devRoot.keyPem, { mode: 0o600 });
    const bed = await Testbed.create({ nodes: NODES, devCa });
    this.#closers.defer(async () => bed.close());
    screen.done(`nodes ${bed.nodes.map(({ name, subnet4 }) => `${name} ${subnet4}`).join(' · ')}`);
    if (this.#stop.aborted) return undefined;

    screen.doing('making pods');
    const token = newToken();
    const shop = await Shop.build(bed, {
      token,
      store: this.#options.store,
      breakEncryption: this.#options.breakEncryption,
      onReport: (from, to, report) => this.#statistics(from, to).add(report, performance.now()),
    });
    this.#store = shop.store;
    await this.#watchWire(shop, token);
    const outside = bed.pods.filter(pod => !pod.enrolled).length;
    screen.done(`${bed.pods.length - outside} pods with their rules, ${outside} left outside on purpose`);
    if (this.#stop.aborted) return undefined;

    screen.doing('starting ztunnel on n1 and n2');
    await Promise.all(NODES.map(async node => this.#startZtunnel(bed, node)));
    screen.done('ztunnel on n1 and n2, pods enrolled, capture running');
    await shop.open();
    return shop;
  }

  async #startZtunnel(bed: Testbed, node: string): Promise<void> {
    const path = join(bed.workDir, `records-${node}`);
    const feed = await RecordFeed.open(path, line => this.#takeRecord(line));
    this.#closers.defer(() => feed.close());
    const env = { AMBIT_RECORDS_PATH: path, ZTUNNEL_WORKER_THREADS: '1' };
    await bed.startZtunnel(node, { command: this.#options.ztunnelCommand, env });
  }

  async #watchWire(shop: Shop, token: string): Promise<void> {
    const node = shop.outside.node;
    this.#wire = await WireWatch.start({
      tunnelPort: TUNNEL_PORT,
      markers: [token, 'GET /cart'],
      links: [
        // One link carries all that goes between two nodes: node, pods and whatever else has their addresses.
        {
          netnsPath: undefined,
          interfaceName: 'node1',
          sides: [
            ['10.61.1.', 'fd00:61:1:'],
            ['10.61.2.', 'fd00:61:2:'],
          ],
        },
        // An address is its own side here: everything the pod outside the mesh sends or gets.
        {
          netnsPath: node.netnsPath,
          interfaceName: shop.outside.net.hostInterface,
          sides: [[shop.outside.ip4], ['10.', 'fd00:']],
        },
      ],
    });
    const wire = this.#wire;
    this.#closers.defer(async () => wire.close());
  }

  #takeRecord(line: string): void {
    const record = readRecord(line);
    if (record === undefined) this.#dropped += droppedIn(line);
    else this.#book.add(record);
  }

  #statistics(from: string, to: string): CallStatistics {
    const key = `${from} ${to}`;
    const known = this.#calls.get(key) ?? new CallStatistics();
    this.#calls.set(key, known);
    return known;
  }

  async #show(quit: () => void): Promise<void> {
    const screen = this.#screen;
    screen.doing('waiting for the first connections');
    await this.#firstRows();
    this.#firstRowSeconds = Math.round(performance.now() - this.#start) / 1000;
    if (this.#options.mode === 'loopback') screen.done('traffic: web → cart');
    else screen.done(`traffic: web → cart → db (${this.#store === 'redis' ? 'Redis' : 'a store of our own'})`);
    if (screen.isLive) screen.line('');
    screen.onKey(key => (key === 'quit' ? quit() : void this.#writeJson()));
    const end = this.#options.forMs === undefined ? Infinity : performance.now() + this.#options.forMs;
    while (!this.#stop.aborted && performance.now() < end) {
      const state = await this.#state();
      screen.draw([...renderDemo(state, screen.style), '', paint(this.#footer, 'dim', screen.style)]);
      await this.#pause(Math.min(DRAW_MS, end - performance.now()));
    }
  }

  #footer = 'q quit   j write JSON';

  /** Until every edge that belongs here was seen, for a bounded time: what is missing then is a finding. */
  async #firstRows(): Promise<void> {
    const deadline = performance.now() + FIRST_ROW_TIMEOUT_MS;
    while (!this.#stop.aborted && performance.now() < deadline) {
      const edges = this.#book.edges();
      const seen = this.#expected.filter(({ source, destination }) =>
        edges.some(
          edge =>
            edge.source === source &&
            edge.destination === destination &&
            edge.encryptedConnections + edge.plaintextConnections + edge.denied > 0,
        ),
      );
      if (seen.length === this.#expected.length) return;
      await this.#pause(100);
    }
  }

  async #pause(ms: number): Promise<void> {
    await delay(Math.max(1, ms), undefined, { signal: this.#stop }).catch(() => undefined);
  }

  async #state(): Promise<DemoState> {
    const now = performance.now();
    const callsOf = (source: string, destination: string) => this.#calls.get(`${source} ${destination}`)?.summary(now);
    const rows = makeRows(this.#book.edges(), this.#expected, callsOf);
    return { rows, wire: await this.#wire?.read(), droppedRecords: this.#dropped };
  }

  #document(state: DemoState): string {
    const facts = {
      mode: this.#options.mode,
      store: this.#store,
      startedAt: this.#startedAt.toISOString(),
      firstRowSeconds: this.#firstRowSeconds,
      durationSeconds: Math.round(performance.now() - this.#start) / 1000,
    };
    return JSON.stringify(toDocument(state, facts), undefined, 2);
  }

  async #writeJson(): Promise<void> {
    const path = `ambit-demo-${new Date().toISOString().replaceAll(/[-:]|\..*/g, '')}.json`;
    try {
      await writeFile(path, `${this.#document(await this.#state())}\n`);
      this.#footer = `q quit   j write JSON   wrote ${path}`;
    } catch (error) {
      this.#footer = `q quit   j write JSON   cannot write ${path}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
}
