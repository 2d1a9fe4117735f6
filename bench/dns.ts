// Measures the DNS proxy beside dnsmasq and unbound, each in a pod with dnsperf beside it: queries a second with 100 under way,
// CPU for each, and the 99th percentile at 10 000 queries a second (half of what is to be reached), or at half of what was
// reached when that is less. Prints a table and JSON. Run as `node bench/dns.ts [--workers N]`;
// ends within a minute. Needs what the testbed needs, and dnsperf, dnsmasq and unbound.
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { ChildProcess } from 'node:child_process';
import { enterSandbox, insideSandbox, type Pod, SANDBOX_DIR, Testbed } from '@ambit/testbed';
import { cpuSeconds } from './proc.ts';

const PROXY_PORT = 15_053;
const PEER_PORT = 5301;
const SECONDS = 2;
/** Long enough for code to be compiled on a busy machine. */
const WARM_SECONDS = 1.5;
const CLIENTS = 8;
const TARGET_RATE = 20_000;
const FRESH_NAMES = 20_000;
const CART = 'cart.shop.svc.cluster.local';
const CLI = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');

/** What is asked: a name of the server's own, names it may keep, and names that it has to ask for each time. */
const ROWS: Readonly<Record<string, string>> = {
  own: `${CART} A\n`,
  kept: Array.from({ length: 16 }, (_, index) => `h${index}.kept.test A\n`).join(''),
  fresh: Array.from({ length: FRESH_NAMES }, (_, index) => `h${index}.fresh.test A\n`).join(''),
};

interface Server {
  readonly name: string;
  readonly pod: Pod;
  readonly port: number;
  readonly pid: number;
}

interface Figures {
  readonly server: string;
  readonly row: string;
  readonly queriesPerSecond: number;
  readonly cpuMicrosPerQuery: number;
  readonly lost: number;
  readonly halfRate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { workers: { type: 'string', default: '2' } } });
  if (!insideSandbox()) return enterSandbox([process.execPath, import.meta.filename, ...process.argv.slice(2)]);
  for (const [row, text] of Object.entries(ROWS)) await writeFile(fileOf(row), text);
  await using bed = await Testbed.create({ nodes: ['n1', 'n2'], dnsCapture: true });
  const servers = await startServers(bed, values.workers);
  const figures: Figures[] = [];
  for (const row of Object.keys(ROWS)) for (const server of servers) figures.push(await measure(server, row));
  const machine = { node: process.versions.node, cores: cpus().length, load: loadavg()[0], workers: values.workers };
  process.stderr.write(`${table(figures)}\n`);
  process.stdout.write(`${JSON.stringify({ machine, figures }, undefined, 1)}\n`);
  return 0;
}

async function startServers(bed: Testbed, workers: string): Promise<readonly Server[]> {
  const add = async (name: string, node: string, enrolled: boolean): Promise<Pod> =>
    bed.addPod({ node, name, namespace: 'shop', serviceAccount: name, enrolled });
  const web = await add('web', 'n1', true);
  await add('cart', 'n2', true);
  const beside = await add('beside', 'n1', false);
  const resolver = await add('resolver', 'n2', false);
  const service = await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: 8080 } });
  const vip = service.vips.find(({ ip }) => !ip.includes(':'))?.ip ?? '';
  const zone = (name: string, ttl: number): string[] => [
    `local-zone: "${name}." redirect`,
    `local-data: "${name}. ${ttl} IN A 192.0.2.9"`,
  ];
  await startUnbound(
    resolver,
    'resolver',
    resolver.ip4,
    53,
    [...zone('kept.test', 3600), ...zone('fresh.test', 0)],
    [],
  );
  const resolvConf = join(SANDBOX_DIR, 'resolv.conf');
  await writeFile(resolvConf, `nameserver ${resolver.ip4}\n`);
  const ambit = await bed.startZtunnel('n1', {
    command: [process.execPath, CLI, 'ztunnel'],
    env: { AMBIT_RESOLV_CONF: resolvConf, ZTUNNEL_WORKER_THREADS: workers, RUST_LOG: 'error', ...(await authority()) },
  });
  const unbound = await startUnbound(
    beside,
    'beside',
    '127.0.0.1',
    PEER_PORT + 1,
    ['num-threads: 2', 'so-reuseport: yes', `local-data: "${CART}. 30 IN A ${vip}"`, 'local-zone: "test." nodefault'],
    ['forward-zone:', '  name: "."', `  forward-addr: ${resolver.ip4}`],
  );
  const dnsmasq = beside.exec(
    'dnsmasq',
    [
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--no-resolv',
      '--no-hosts',
      '--user=root',
      '--pid-file=',
      '--cache-size=10000',
      '--dns-forward-max=1000',
      '--listen-address=127.0.0.1',
      '--bind-interfaces',
      `--port=${PEER_PORT}`,
      `--server=${resolver.ip4}`,
      `--host-record=${CART},${vip}`,
    ],
    { stdio: 'ignore' },
  );
  await once(dnsmasq, 'spawn');
  return [
    { name: 'ambit', pod: web, port: PROXY_PORT, pid: ambit.process.pid ?? 0 },
    { name: 'dnsmasq', pod: beside, port: PEER_PORT, pid: dnsmasq.pid ?? 0 },
    { name: 'unbound', pod: beside, port: PEER_PORT + 1, pid: unbound.pid ?? 0 },
  ];
}

/** A proxy gets ready only with an authority; that this one's key is none does not matter to names. */
async function authority(): Promise<Readonly<Record<string, string>>> {
  const { generateDevRoot } = await import('@ambit/ztunnel');
  const { certPem, keyPem } = await generateDevRoot();
  const paths = { cert: join(SANDBOX_DIR, 'dns-ca.pem'), key: join(SANDBOX_DIR, 'dns-ca.key') };
  await writeFile(paths.cert, certPem);
  await writeFile(paths.key, keyPem, { mode: 0o600 });
  return { AMBIT_DEV_CA_CERT: paths.cert, AMBIT_DEV_CA_KEY: paths.key };
}

async function startUnbound(
  pod: Pod,
  name: string,
  ip: string,
  port: number,
  own: readonly string[],
  more: readonly string[],
): Promise<ChildProcess> {
  const path = join(SANDBOX_DIR, `unbound-${name}.conf`);
  const server = [
    'do-daemonize: no',
    'username: ""',
    'chroot: ""',
    `directory: "${SANDBOX_DIR}"`,
    'pidfile: ""',
    'use-syslog: no',
    'module-config: "iterator"',
    'outgoing-range: 4096',
    'num-queries-per-thread: 2048',
    `interface: ${ip}@${port}`,
    'access-control: 0.0.0.0/0 allow',
    ...own,
  ];
  await writeFile(path, ['server:', ...server.map(line => `  ${line}`), ...more, ''].join('\n'));
  const child = pod.exec('unbound', ['-d', '-c', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  if (child.stderr === null) throw new Error('invariant: its words come through a pipe');
  let said = '';
  for await (const chunk of child.stderr) {
    said += String(chunk);
    if (said.includes('start of service')) return child;
  }
  throw new Error(`unbound ended: ${said}`);
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
  const completed = numberAfter(full, 'Queries completed:');
  const queriesPerSecond = numberAfter(full, 'Queries per second:');
  const halfRate = Math.min(TARGET_RATE / 2, Math.floor(queriesPerSecond / 2));
  const half = await perf(server, row, SECONDS, ['-v', '-Q', String(halfRate)]);
  const seconds = [...half.matchAll(/^> NOERROR .* (\d+\.\d+)$/gm)].map(match => Number(match[1]));
  seconds.sort((a, b) => a - b);
  return {
    server: server.name,
    row,
    queriesPerSecond: Math.round(queriesPerSecond),
    cpuMicrosPerQuery: (cpu / completed) * 1e6,
    lost: numberAfter(full, 'Queries lost:'),
    halfRate,
    p50Ms: quantile(seconds, 0.5) * 1000,
    p99Ms: quantile(seconds, 0.99) * 1000,
  };
}

function numberAfter(text: string, label: string): number {
  const at = text.indexOf(label);
  return at < 0 ? Number.NaN : Number.parseFloat(text.slice(at + label.length));
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

function table(figures: readonly Figures[]): string {
  const lines = figures.map(each =>
    [
      each.row,
      each.server,
      String(each.queriesPerSecond),
      each.cpuMicrosPerQuery.toFixed(1),
      each.p50Ms.toFixed(2),
      each.p99Ms.toFixed(2),
      String(each.lost),
    ].join(' | '),
  );
  const head = [
    'names | server | queries/s | CPU us a query | p50 ms at half | p99 ms at half | lost',
    '|---'.repeat(7),
  ];
  return [...head, ...lines].map(line => (line.startsWith('|') ? `${line}|` : `| ${line} |`)).join('\n');
}

process.exitCode = await main();
