// Measures the DNS proxy beside dnsmasq and unbound, with dnsperf as the client of each: queries a second with 100 under way, CPU
// for each, and the delay at 10 000 queries a second (half of what is to be reached), or at half of what was reached when that
// is less. The delay is taken in short rounds, the servers in turn, since a core that others take for a moment makes the whole
// tail: the best round tells most of a server, the middle one of the machine. Prints a table and JSON. Run as
// `node bench/dns.ts [--workers N] [--rows own,fresh]`; takes a minute and a half. Needs what the testbed needs, and dnsperf,
// dnsmasq and unbound.
import { readdirSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { enterSandbox, insideSandbox, SANDBOX_DIR, Testbed } from '@ambit/testbed';
import { CART, type Server, startServers } from './dns-servers.ts';
import { cpuSeconds } from './proc.ts';

const SECONDS = 2;
const ROUNDS = 5;
const ROUND_SECONDS = 1;
/** Long enough for code to be compiled on a busy machine. */
const WARM_SECONDS = 2.5;
const CLIENTS = 8;
const TARGET_RATE = 20_000;
const FRESH_NAMES = 20_000;

/** What is asked: a name of the server's own, names it may keep, and names that it has to ask for each time. */
const ROWS: Readonly<Record<string, string>> = {
  own: `${CART} A\n`,
  kept: Array.from({ length: 16 }, (_, index) => `h${index}.kept.test A\n`).join(''),
  fresh: Array.from({ length: FRESH_NAMES }, (_, index) => `h${index}.fresh.test A\n`).join(''),
};

/** Of one round at a steady rate. */
interface Delay {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMicrosPerQuery: number;
  /** Of each second the milliseconds that the thread of the server that waited most was ready to run and had no core. */
  readonly waitedMs: number;
}

interface Figures {
  readonly server: string;
  readonly row: string;
  readonly queriesPerSecond: number;
  readonly cpuMicrosPerQuery: number;
  readonly lost: number;
  readonly rate: number;
  /** By their 99th percentile, the best first. */
  readonly rounds: Delay[];
}

async function main(): Promise<number> {
  const options = {
    workers: { type: 'string', default: '2' },
    rows: { type: 'string', default: Object.keys(ROWS).join(',') },
  } as const;
  const { values } = parseArgs({ options });
  if (!insideSandbox()) return enterSandbox([process.execPath, import.meta.filename, ...process.argv.slice(2)]);
  for (const [row, text] of Object.entries(ROWS)) await writeFile(fileOf(row), text);
  await using bed = await Testbed.create({ nodes: ['n1', 'n2'], dnsCapture: true });
  const servers = await startServers(bed, values.workers);
  const figures: Figures[] = [];
  for (const row of values.rows.split(',')) {
    const asked = servers.filter(({ rows }) => rows.includes(row));
    const found = [];
    for (const server of asked) found.push({ server, figures: await measure(server, row) });
    for (let round = 0; round < ROUNDS; round++) {
      for (const each of found) each.figures.rounds.push(await delayAt(each.figures.rate, each.server, row));
    }
    for (const each of found) each.figures.rounds.sort((a, b) => a.p99Ms - b.p99Ms);
    figures.push(...found.map(each => each.figures));
  }
  const machine = { node: process.versions.node, cores: cpus().length, load: loadavg()[0], workers: values.workers };
  process.stderr.write(`${table(figures)}\n`);
  process.stdout.write(`${JSON.stringify({ machine, figures }, undefined, 1)}\n`);
  return 0;
}

function fileOf(row: string): string {
  return join(SANDBOX_DIR, `queries-${row}`);
}

async function perf(server: Server, row: string, seconds: number, more: readonly string[]): Promise<string> {
  const to = ['-s', '127.0.0.1', '-p', String(server.port), '-d', fileOf(row), '-c', String(CLIENTS)];
  // Into a file: with every query on a line of its own it is more than the bed keeps of a program's words.
  const output = join(SANDBOX_DIR, 'dnsperf-output');
  const shell = ['-c', 'output=$1; shift; exec dnsperf "$@" > "$output"', 'sh', output];
  const args = [...to, '-l', String(seconds), '-t', '2', ...more];
  const { code, stderr } = await server.pod.run('sh', [...shell, ...args], { timeoutMs: seconds * 1000 + 10_000 });
  if (code !== 0) throw new Error(`dnsperf against ${server.name}: ${stderr}`);
  return readFile(output, 'utf8');
}

async function measure(server: Server, row: string): Promise<Figures> {
  await perf(server, row, WARM_SECONDS, ['-q', '100']);
  const before = cpuSeconds([server.pid]);
  const full = await perf(server, row, SECONDS, ['-q', '100']);
  const cpu = cpuSeconds([server.pid]) - before;
  const queriesPerSecond = numberAfter(full, 'Queries per second:');
  return {
    server: server.name,
    row,
    queriesPerSecond: Math.round(queriesPerSecond),
    cpuMicrosPerQuery: (cpu / numberAfter(full, 'Queries completed:')) * 1e6,
    lost: numberAfter(full, 'Queries lost:'),
    rate: Math.min(TARGET_RATE / 2, Math.floor(queriesPerSecond / 2)),
    rounds: [],
  };
}

async function delayAt(rate: number, server: Server, row: string): Promise<Delay> {
  const before = waitsOf(server.pid);
  const cpuBefore = cpuSeconds([server.pid]);
  const text = await perf(server, row, ROUND_SECONDS, ['-v', '-Q', String(rate)]);
  const cpu = cpuSeconds([server.pid]) - cpuBefore;
  const waits = Array.from(waitsOf(server.pid), ([thread, waited]) => waited - (before.get(thread) ?? waited));
  const seconds = [...text.matchAll(/^> NOERROR .* (\d+\.\d+)$/gm)].map(match => Number(match[1]));
  seconds.sort((a, b) => a - b);
  return {
    p50Ms: quantile(seconds, 0.5) * 1000,
    p99Ms: quantile(seconds, 0.99) * 1000,
    cpuMicrosPerQuery: (cpu / seconds.length) * 1e6,
    waitedMs: Math.max(...waits) / ROUND_SECONDS,
  };
}

/** By thread: milliseconds that it was ready to run and did not (Documentation/scheduler/sched-stats.rst of the kernel). */
function waitsOf(pid: number): ReadonlyMap<string, number> {
  const threads = readdirSync(`/proc/${pid}/task`);
  return new Map(
    threads.map(thread => {
      const [, waitedNs] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
      return [thread, Number(waitedNs) / 1e6];
    }),
  );
}

function numberAfter(text: string, label: string): number {
  const at = text.indexOf(label);
  return at < 0 ? Number.NaN : Number.parseFloat(text.slice(at + label.length));
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

function table(figures: readonly Figures[]): string {
  const delays = (delay: Delay | undefined): string[] =>
    delay === undefined ? ['-', '-', '-'] : [delay.p50Ms.toFixed(2), delay.p99Ms.toFixed(2), delay.waitedMs.toFixed(0)];
  const lines = figures.map(each => [
    each.row,
    each.server,
    String(each.queriesPerSecond),
    each.cpuMicrosPerQuery.toFixed(1),
    String(each.lost),
    String(each.rate),
    ...delays(each.rounds[0]),
    ...delays(each.rounds[Math.floor(each.rounds.length / 2)]),
  ]);
  const full = ['names', 'server', 'queries/s', 'CPU us a query', 'lost'];
  const rounds = ['delay at', 'best: p50 ms', 'p99 ms', 'waited ms/s', 'middle: p50 ms', 'p99 ms', 'waited ms/s'];
  const head = [...full, ...rounds];
  return [head, head.map(() => '---'), ...lines].map(cells => `| ${cells.join(' | ')} |`).join('\n');
}

process.exitCode = await main();
