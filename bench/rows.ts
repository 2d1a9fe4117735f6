// The rows: which load goes through a stage, and which figures come out. Every row of requests or handshakes warms up first; CPU is that of
// the proxies around the measured part only.
import { setTimeout as delay } from 'node:timers/promises';
import { bulk, handshakes, IdleConnections, requests } from './load.ts';
import type { Figures, MetricName } from './metrics.ts';
import type { BenchOptions, RowName } from './options.ts';
import { cpuSeconds, residentKib } from './proc.ts';
import { PORTS } from './servers.ts';
import type { Stage } from './stage.ts';
import { spread } from './statistics.ts';

export interface RowContext {
  readonly stage: Stage;
  readonly options: BenchOptions;
}

/** Failures among requests above this share make a row void. */
const MAX_FAILED_SHARE = 0.001;
const WARM_UP_SECONDS = 1;
/** Two pairs are 12 seconds: by then V8 has compiled what it will. */
const READING_WARM_UP_PAIRS = 2;
const READING_PAIRS = 5;
/** Head start of the bulk streams, and how much longer they last than the requests beside them. */
const BULK_LEAD_MS = 700;
const BULK_EXTRA_SECONDS = 2;

/** Runs one row. Empty when it does not apply to the candidate. @throws Error when the load did not go through */
export async function runRow(row: RowName, context: RowContext): Promise<Figures> {
  switch (row) {
    case 'keepalive64': {
      const { cpu, load } = await requestRow(context, 64, false);
      return { ...withCpu(context, 'keepalive64Cpu', cpu), keepalive64Rate: load.perSecond };
    }
    case 'keepalive1': {
      const { cpu, load } = await requestRow(context, 1, false);
      return { ...withCpu(context, 'keepalive1Cpu', cpu), keepalive1P50: load.p50Ms, keepalive1P99: load.p99Ms };
    }
    case 'connect': {
      const { cpu, load } = await requestRow(context, 32, true);
      return { ...withCpu(context, 'connectCpu', cpu), connectRate: load.perSecond };
    }
    case 'handshakes':
      return handshakeRow(context);
    case 'bulk1':
      return bulkRow(context, { streams: 1, cpuName: 'bulk1Cpu', rateName: 'bulk1Rate' });
    case 'bulk1r':
      return bulkRow(context, { streams: 1, isReverse: true, cpuName: 'bulk1rCpu', rateName: 'bulk1rRate' });
    case 'bulk8':
      return bulkRow(context, { streams: 8, cpuName: 'bulk8Cpu', rateName: 'bulk8Rate' });
    case 'bulk8r':
      return bulkRow(context, { streams: 8, isReverse: true, cpuName: 'bulk8rCpu', rateName: 'bulk8rRate' });
    case 'beside':
      return besideRow(context);
    case 'reading':
      return readingRow(context);
    case 'memory':
      return memoryRow(context);
  }
}

async function requestRow({ stage, options }: RowContext, connections: number, isFresh: boolean) {
  await requests(stage.client, stage.server.ip4, { connections, seconds: WARM_UP_SECONDS, isFresh });
  const before = cpuSeconds(stage.proxies);
  const load = await requests(stage.client, stage.server.ip4, { connections, seconds: options.seconds, isFresh });
  const cpu = cpuSeconds(stage.proxies) - before;
  if (load.failures > load.requests * MAX_FAILED_SHARE) {
    throw new Error(`${load.failures} of ${load.requests} requests failed`);
  }
  return { load, cpu: (cpu * 1e6) / load.requests };
}

interface BulkShape {
  readonly streams: number;
  readonly isReverse?: boolean;
  readonly cpuName: MetricName;
  readonly rateName: MetricName;
}

async function bulkRow(context: RowContext, shape: BulkShape): Promise<Figures> {
  const { stage, options } = context;
  const before = cpuSeconds(stage.proxies);
  const load = await bulk(stage.client, stage.server.ip4, { ...shape, seconds: options.seconds });
  const cpu = (cpuSeconds(stage.proxies) - before) / (load.bytes / 1e9);
  return { ...withCpu(context, shape.cpuName, cpu), [shape.rateName]: load.gbitPerSecond };
}

async function besideRow({ stage, options }: RowContext): Promise<Figures> {
  const { client, server } = stage;
  const beside = async () => {
    await delay(BULK_LEAD_MS);
    return requests(client, server.ip4, { connections: 16, seconds: options.seconds });
  };
  const [moved, load] = await Promise.all([
    bulk(client, server.ip4, { streams: 4, seconds: options.seconds + BULK_EXTRA_SECONDS }),
    beside(),
  ]);
  return { besideRate: load.perSecond, besideP99: load.p99Ms, besideBulk: moved.gbitPerSecond };
}

async function handshakeRow({ stage, options }: RowContext): Promise<Figures> {
  const { handshakePort: port, serverProxy, generatorCertificates: certificates } = stage;
  if (port === undefined || serverProxy === undefined || certificates === undefined) return {};
  const target = { port, certificates };
  await handshakes(stage.outsider, stage.server.ip4, { ...target, seconds: WARM_UP_SECONDS });
  const before = cpuSeconds([serverProxy]);
  const load = await handshakes(stage.outsider, stage.server.ip4, { ...target, seconds: options.seconds });
  const cpu = cpuSeconds([serverProxy]) - before;
  if (load.failed > load.done * MAX_FAILED_SHARE) {
    throw new Error(`${load.failed} handshakes failed, ${load.done} did not: ${load.lastError}`);
  }
  return { handshakesCpu: (cpu * 1e6) / load.done, handshakesRate: load.done / options.seconds };
}

/**
 * What reading costs: the same proxies carry the same load by turns to a port that is read and to one that is not, so that
 * compiled code, memory and the machine's mood are the same for both. `ambit-off` reads neither: its ratio is the noise.
 */
async function readingRow({ stage, options: { seconds } }: RowContext): Promise<Figures> {
  const { client, server, proxies } = stage;
  const cost = async (load: () => Promise<number>) => {
    const before = cpuSeconds(proxies);
    const done = await load();
    return (cpuSeconds(proxies) - before) / done;
  };
  const ask = (port: number) => async () =>
    (await requests(client, server.ip4, { connections: 64, seconds, port })).requests;
  const move = (port: number) => async () => (await bulk(client, server.ip4, { streams: 1, seconds, port })).bytes;
  return {
    readingRequests: await pairedRatio(async isRead => cost(ask(isRead ? PORTS.http : PORTS.httpUnread))),
    readingBulk: await pairedRatio(async isRead => cost(move(isRead ? PORTS.bulk : PORTS.bulkUnread))),
  };
}

/** Median of read / not read, each pair in the other order than the one before; the first pairs warm up. */
async function pairedRatio(measure: (isRead: boolean) => Promise<number>): Promise<number> {
  const ratios: number[] = [];
  for (let pair = 0; pair < READING_WARM_UP_PAIRS + READING_PAIRS; pair++) {
    const isReadFirst = pair % 2 === 0;
    const first = await measure(isReadFirst);
    const second = await measure(!isReadFirst);
    if (pair >= READING_WARM_UP_PAIRS) ratios.push(isReadFirst ? first / second : second / first);
  }
  return spread(ratios)?.median ?? Number.NaN;
}

/** For a stage that has carried nothing yet. */
async function memoryRow({ stage, options }: RowContext): Promise<Figures> {
  if (stage.proxies.length === 0) return {};
  const fresh = await settledKib(stage.proxies);
  const idle = await IdleConnections.open(stage.client, stage.server.ip4, options.idleConnections, 60_000);
  await delay(2_000);
  const open = residentKib(stage.proxies);
  await idle.close();
  if (idle.failures > 0) throw new Error(`${idle.failures} of ${options.idleConnections} idle connections failed`);
  await delay(options.settleSeconds * 1_000);
  return {
    memoryFresh: (fresh * 1.024) / 1_000 / stage.proxies.length,
    memoryIdle: ((open - fresh) * 1.024) / idle.count,
    memoryAfter: residentKib(stage.proxies) / fresh,
  };
}

/** Memory once it stays the same for longer than helpers of the start live (our certificate helper: 2 s); at most 20 s. */
async function settledKib(proxies: readonly number[]): Promise<number> {
  let last = residentKib(proxies);
  let calmSeconds = 0;
  for (let seconds = 0; seconds < 20 && calmSeconds < 5; seconds++) {
    await delay(1_000);
    const now = residentKib(proxies);
    calmSeconds = Math.abs(now - last) < last * 0.01 ? calmSeconds + 1 : 0;
    last = now;
  }
  return last;
}

/** `direct` has no proxies: a cost of 0 would only make ratios look odd. */
function withCpu({ stage }: RowContext, name: MetricName, value: number): Figures {
  return stage.proxies.length === 0 ? {} : { [name]: value };
}
