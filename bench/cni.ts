// Measures how long the start of a pod waits for the mesh: ADDs of the CNI plugin as the container runtime starts it, eight at
// a time, against a node agent and a ztunnel that run for real. From the start of the plugin's process to its end; the veth
// is somebody else's plugin and there already. Prints a table and JSON. Run as `node bench/cni.ts [--pods N] [--parallel N]`.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { architectureOf, fallbackSource, install, pluginSocketPath } from '@ambit/cni';
import { enterSandbox, insideSandbox, type Pod, SANDBOX_DIR } from '@ambit/testbed';
import { AgentUnderTest, asAgentPod } from '../packages/cni/test/agent-under-test.ts';
import { makeMesh, startOurs } from '../packages/ztunnel/test/e2e-mesh.ts';
import { cpuSeconds } from './proc.ts';

/** Whether it is labelled. */
const NAMESPACES = { shop: true, plain: false } as const;

interface Row {
  readonly row: string;
  readonly adds: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly seconds: number;
  /** For each ADD, from the first to the end of the last. */
  readonly cpuMs: Cpu;
  /** For each ADD, in the time after: the proof of what was started, which is put off until then. */
  readonly laterCpuMs: Omit<Cpu, 'plugin'>;
}

interface Cpu {
  /** The plugin's processes. */
  readonly plugin: number;
  readonly agent: number;
  readonly ztunnel: number;
}

/** By then each new pod was looked at, and its canary has answered. */
const LATER_MS = 10_000;

async function main(): Promise<number> {
  const options = { pods: { type: 'string', default: '100' }, parallel: { type: 'string', default: '8' } } as const;
  const { values } = parseArgs({ options });
  if (!insideSandbox()) return enterSandbox([process.execPath, import.meta.filename, ...process.argv.slice(2)]);
  const [count, parallel] = [Number(values.pods), Number(values.parallel)];
  await using mesh = await makeMesh('outside');
  const node = mesh.bed.node('n1');
  const namespaces = Object.entries(NAMESPACES).map(
    ([name, isAmbient]) => ({ kind: 'label', name, isAmbient }) as const,
  );
  const agent = await AgentUnderTest.start(node, namespaces, { logLevel: 'info' });
  const ztunnel = await startOurs(mesh.bed, 'n1', { env: { RUST_LOG: 'error' } });
  const plugin = installPlugin(agent.runDirectory);
  const pids = { agent: agent.process.pid ?? 0, ztunnel: ztunnel.process.pid ?? 0 };

  const rows: Row[] = [];
  for (const [namespace, isAmbient] of Object.entries(NAMESPACES)) {
    const pods = await addPods(mesh.bed, agent, namespace, count);
    const row = isAmbient ? 'members' : 'pods outside the mesh';
    rows.push(await measure(row, pods, parallel, pids, plugin));
  }
  await assertEnrolled(agent, count);
  const [one] = await addPods(mesh.bed, agent, 'plain', 1, 'idle');
  if (one !== undefined) {
    rows.push(
      await measure(
        'a program that does nothing',
        Array.from({ length: count }, () => one),
        parallel,
        pids,
        '/bin/true',
      ),
    );
  }
  const machine = { node: process.versions.node, cores: cpus().length, load: loadavg()[0], parallel };
  process.stderr.write(`${table(rows)}\n`);
  process.stdout.write(`${JSON.stringify({ machine, rows }, undefined, 1)}\n`);
  await ztunnel.stop();
  await agent.stop();
  return 0;
}

/** As on a host, with the fallback beside it that must not be needed. @returns path of the executable */
function installPlugin(runDir: string): string {
  const [confDir, binDir] = [join(SANDBOX_DIR, 'net.d'), join(SANDBOX_DIR, 'bin')];
  for (const each of [confDir, binDir]) mkdirSync(each, { recursive: true });
  writeFileSync(join(confDir, '10.conflist'), JSON.stringify({ name: 'net', plugins: [{ type: 'bridge' }] }));
  install({
    mode: 'chained',
    confDir,
    binDirs: [binDir],
    hostBinDir: binDir,
    architecture: architectureOf(process.arch),
    fallback: fallbackSource(),
    entry: { runDir, agentNamespace: 'istio-system', excludedNamespaces: [] },
  });
  process.stderr.write(`plugin ${join(binDir, 'ambit-cni')}, agent ${pluginSocketPath(runDir)}\n`);
  return join(binDir, 'ambit-cni');
}

async function addPods(
  bed: Awaited<ReturnType<typeof makeMesh>>['bed'],
  agent: AgentUnderTest,
  namespace: string,
  count: number,
  prefix = 'p',
): Promise<readonly Pod[]> {
  const pods: Pod[] = [];
  for (let i = 0; i < count; i++) {
    const pod = await bed.addPod({ node: 'n1', name: `${prefix}${i}`, namespace, serviceAccount: 'web' });
    // As Kubernetes tells of it before it has a network.
    agent.tell({ kind: 'put', pod: asAgentPod(pod, { ips: [], netnsPath: undefined, phase: 'Pending' }) });
    pods.push(pod);
  }
  const isTold = async () => (await agent.pods()).some(({ uid }) => uid === pods.at(-1)?.uid);
  while (!(await isTold())); // its own word, asked again and again
  return pods;
}

async function measure(
  row: string,
  pods: readonly Pod[],
  parallel: number,
  pids: { readonly agent: number; readonly ztunnel: number },
  program: string,
): Promise<Row> {
  const requests = pods.map((pod, index) => {
    const directory = join(SANDBOX_DIR, 'requests', row.replaceAll(' ', '-'), String(index));
    writeRequest(directory, pod);
    return directory;
  });
  const shares = Array.from({ length: parallel }, (_, share) => requests.filter((_each, i) => i % parallel === share));
  const used = () => ({ agent: cpuSeconds([pids.agent]), ztunnel: cpuSeconds([pids.ztunnel]) });
  const before = used();
  const begun = performance.now();
  const driven = await Promise.all(shares.map(async share => drive(program, share)));
  const seconds = (performance.now() - begun) / 1000;
  const after = used();
  await delay(LATER_MS);
  const later = used();
  const sorted = driven.flatMap(({ times }) => times).toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  const perAdd = (usedSeconds: number) => (1000 * usedSeconds) / pods.length;
  return {
    row,
    adds: pods.length,
    p50Ms: at(0.5),
    p90Ms: at(0.9),
    p99Ms: at(0.99),
    maxMs: at(1),
    seconds,
    cpuMs: {
      plugin: perAdd(driven.reduce((sum, { cpu }) => sum + cpu, 0)),
      agent: perAdd(after.agent - before.agent),
      ztunnel: perAdd(after.ztunnel - before.ztunnel),
    },
    laterCpuMs: { agent: perAdd(later.agent - after.agent), ztunnel: perAdd(later.ztunnel - after.ztunnel) },
  };
}

/** What a runtime gives the plugin: variables for the shell to export, and the configuration for its standard input. */
function writeRequest(directory: string, pod: Pod): void {
  const env = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: `c-${pod.uid}`,
    CNI_NETNS: pod.netnsPath,
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};K8S_POD_UID=${pod.uid}`,
  };
  const ips = [{ address: `${pod.ip4}/32` }, { address: `${pod.ip6}/128` }];
  const config = { cniVersion: '1.0.0', name: 'net', type: 'ambit-cni', prevResult: { cniVersion: '1.0.0', ips } };
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, 'env'),
    Object.entries(env)
      .map(([key, value]) => `export ${key}='${value}'\n`)
      .join(''),
  );
  writeFileSync(join(directory, 'config'), JSON.stringify(config));
}

/**
 * Runs the plugin for each request in turn and prints its exit status, and the time before and after it; at last the CPU time
 * of the shell, and that of the plugins. A shell, since starting processes from a large one costs more than what is measured.
 */
const DRIVER = `
plugin=$1; shift
for request in "$@"; do
  . "$request/env"
  from=$EPOCHREALTIME
  "$plugin" < "$request/config" > "$request/out"
  status=$?
  echo "$status $from $EPOCHREALTIME"
done
times`;

/** Milliseconds of each, and CPU seconds of all. */
interface Driven {
  readonly times: readonly number[];
  readonly cpu: number;
}

async function drive(program: string, requests: readonly string[]): Promise<Driven> {
  const child = spawn('bash', ['-c', DRIVER, 'bash', program, ...requests], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [stdout] = await Promise.all([text(child.stdout), ending(child)]);
  const lines = stdout.trim().split('\n');
  const times = lines.slice(0, requests.length).map((line, index) => {
    const [status, from = Number.NaN, to = Number.NaN] = line.split(' ').map(Number);
    if (status === 0) return (to - from) * 1000;
    throw new Error(`${program} failed: ${readFileSync(join(requests[index] ?? '', 'out'), 'utf8')}`);
  });
  // As bash has it: user and system of the children, such as `0m0.012s 0m0.034s`.
  const spent = [...(lines.at(-1) ?? '').matchAll(/(\d+)m([\d.]+)s/g)];
  return { times, cpu: spent.reduce((sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds), 0) };
}

async function ending(child: ChildProcess): Promise<number | null> {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('exit', resolve);
  return promise;
}

async function assertEnrolled(agent: AgentUnderTest, count: number): Promise<void> {
  const enabled = (await agent.pods()).filter(({ status }) => status === 'enabled').length;
  if (enabled !== count) throw new Error(`${enabled} of ${count} members are enrolled`);
}

function table(rows: readonly Row[]): string {
  const cpu = ['plugin CPU ms', 'agent CPU ms', 'ztunnel CPU ms', 'agent later', 'ztunnel later'];
  const header = ['', 'p50 ms', 'p90 ms', 'p99 ms', 'most ms', ...cpu, 'ADDs/s'];
  const lines = rows.map(row => [
    row.row,
    ...[row.p50Ms, row.p90Ms, row.p99Ms, row.maxMs].map(value => value.toFixed(1)),
    ...[row.cpuMs.plugin, row.cpuMs.agent, row.cpuMs.ztunnel].map(value => value.toFixed(1)),
    ...[row.laterCpuMs.agent, row.laterCpuMs.ztunnel].map(value => value.toFixed(1)),
    (row.adds / row.seconds).toFixed(0),
  ]);
  return [header, ...lines]
    .map(([first = '', ...rest]) => first.padEnd(28) + rest.map(each => each.padStart(15)).join(''))
    .join('\n');
}

process.exitCode = await main();
