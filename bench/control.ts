// Measures the control plane: a mesh of 100 000 pods, 50 nodes in another process, single pods that change. Prints a table
// and JSON. Run as `node bench/control.ts [--workloads N] [--clients N] [--changes N]`; ends in about half a minute.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { FromClients, FromServer, ToClients, ToServer } from './control-messages.ts';
import { cpuSeconds, residentKib } from './proc.ts';

const PATIENCE_MS = 30_000;

interface Figures {
  readonly node: string;
  readonly cores: number;
  readonly workloads: number;
  readonly addresses: number;
  readonly clients: number;
  readonly changes: number;
  readonly modelSeconds: number;
  readonly syncSeconds: number;
  readonly firstSyncSeconds: number;
  readonly syncMibPerClient: number;
  readonly syncCpuSeconds: number;
  readonly restMib: number;
  readonly peakMib: number;
  readonly connectedMib: number;
  /** From the object's change to a node's having it: over all changes and nodes. */
  readonly toOneMsP50: number;
  readonly toOneMsP99: number;
  /** From the object's change to the last node's having it. */
  readonly toAllMsP50: number;
  readonly toAllMsP99: number;
  readonly toAllMsMax: number;
  readonly cpuMsPerChange: number;
}

function start(file: string, args: readonly number[]): ChildProcess {
  return fork(join(import.meta.dirname, file), args.map(String), { execArgv: [] });
}

/** The next message of a kind. @throws Error when the process ends, or says nothing for long */
async function hear<M extends { readonly kind: string }, K extends M['kind']>(
  child: ChildProcess,
  kind: K,
): Promise<Extract<M, { readonly kind: K }>> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(new Error(`no ${kind} in ${PATIENCE_MS} ms`)), PATIENCE_MS);
  const onExit = () => abort.abort(new Error(`the process that was to say ${kind} has ended`));
  child.once('exit', onExit);
  try {
    for (;;) {
      const [message] = (await once(child, 'message', { signal: abort.signal })) as [M];
      if (message.kind === kind) return message as Extract<M, { readonly kind: K }>;
    }
  } finally {
    clearTimeout(timer);
    child.off('exit', onExit);
  }
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

async function measure(workloads: number, clients: number, changes: number): Promise<Figures> {
  const server = start('control-server.ts', [workloads, clients]);
  let nodes: ChildProcess | undefined;
  try {
    const pid = server.pid ?? 0;
    const memory = () => residentKib([pid]) / 1024;
    const cpu = () => cpuSeconds([pid]);
    const ready = await hear<FromServer, 'ready'>(server, 'ready');
    await pause(3_000);
    const restMib = memory();
    const cpuBefore = cpu();
    let peakMib = restMib;
    const watch = setInterval(() => (peakMib = Math.max(peakMib, memory())), 100);
    nodes = start('control-clients.ts', [ready.port, clients]);
    const synced = await hear<FromClients, 'synced'>(nodes, 'synced');
    clearInterval(watch);
    const syncCpuSeconds = cpu() - cpuBefore;
    await pause(3_000);
    const connectedMib = memory();
    const cpuAtRest = cpu();
    const toOne: number[] = [];
    const toAll: number[] = [];
    for (let index = 0; index < changes; index++) {
      const received = hear<FromClients, 'received'>(nodes, 'received');
      server.send({ kind: 'change', index } satisfies ToServer);
      const { at, name } = await hear<FromServer, 'changed'>(server, 'changed');
      nodes.send({ kind: 'expect', name } satisfies ToClients);
      const times = (await received).at.map(time => (time - at) / 1e6);
      toOne.push(...times);
      toAll.push(Math.max(...times));
    }
    const cpuMsPerChange = ((cpu() - cpuAtRest) * 1_000) / changes;
    server.send({ kind: 'status' } satisfies ToServer);
    const status = await hear<FromServer, 'status'>(server, 'status');
    if (status.clients !== clients || status.dropped > 0)
      throw new Error(`clients were lost: ${JSON.stringify(status)}`);
    toOne.sort((a, b) => a - b);
    toAll.sort((a, b) => a - b);
    return {
      node: process.versions.node,
      cores: cpus().length,
      workloads,
      addresses: ready.addresses,
      clients,
      changes,
      modelSeconds: ready.modelMs / 1_000,
      syncSeconds: synced.tookMs / 1_000,
      firstSyncSeconds: synced.firstMs / 1_000,
      syncMibPerClient: synced.bytesPerClient / 1024 / 1024,
      syncCpuSeconds,
      restMib,
      peakMib,
      connectedMib,
      toOneMsP50: quantile(toOne, 0.5),
      toOneMsP99: quantile(toOne, 0.99),
      toAllMsP50: quantile(toAll, 0.5),
      toAllMsP99: quantile(toAll, 0.99),
      toAllMsMax: toAll.at(-1) ?? Number.NaN,
      cpuMsPerChange,
    };
  } finally {
    server.kill();
    nodes?.kill();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

const { values } = parseArgs({
  options: {
    workloads: { type: 'string', default: '100000' },
    clients: { type: 'string', default: '50' },
    changes: { type: 'string', default: '200' },
  },
});
const figures = await measure(Number(values.workloads), Number(values.clients), Number(values.changes));
const rows = Object.entries(figures).map(([name, value]) => [
  name,
  typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(2) : String(value),
]);
process.stderr.write(
  `${rows.map(([name = '', value = '']) => `${name.padEnd(20)}${value.padStart(12)}`).join('\n')}\n`,
);
process.stdout.write(`${JSON.stringify(figures, undefined, 1)}\n`);
