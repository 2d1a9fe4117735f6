// `ambit ps`: what runs in the mesh of this machine, commands and containers; with --watch as it changes.
import { setTimeout as delay } from 'node:timers/promises';
import type { ContainerView, WorkloadView } from '@ambit/local';
import { columns } from '../render/columns.ts';
import { type Output, processOutput } from '../render/output.ts';
import { ageText, directoriesOf, listMesh, type MeshFlags, type MeshListing, tell } from './local-mesh.ts';

export interface PsFlags extends MeshFlags {
  readonly namespace?: string;
  readonly watch?: boolean;
  readonly output: 'table' | 'wide' | 'json';
}

const PERIOD_MS = 1_000;
/** To the first cell of the terminal, and all after it away: no flicker, as a cleared screen has. */
const REDRAW = ['\u001B[H', '\u001B[J'] as const;

export async function ps(flags: PsFlags): Promise<number> {
  const output = processOutput();
  try {
    if (flags.watch === true) await watch(output, flags);
    else output.answer(listingText(await list(flags), flags));
    return 0;
  } catch (error) {
    return tell(output, error);
  }
}

/** On a terminal the one table, redrawn each second; elsewhere whatever changed it, as it does. Until Ctrl-C, or its end. */
async function watch(output: Output, flags: PsFlags): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const isDrawn = process.stdout.isTTY && flags.output !== 'json';
  let before: string | undefined;
  while (!stop.signal.aborted) {
    const listing = await list(flags);
    const now = JSON.stringify(listing);
    if (isDrawn) output.answer(`${REDRAW[0]}${listingText(listing, flags).replaceAll('\n', '\u001B[K\n')}${REDRAW[1]}`);
    else if (flags.output === 'json') output.answer(now === before ? '' : `${now}\n`);
    else if (now !== before) output.answer(`${before === undefined ? '' : '\n'}${listingText(listing, flags)}`);
    before = now;
    await delay(PERIOD_MS, undefined, { signal: stop.signal }).catch(() => undefined);
  }
}

async function list(flags: PsFlags): Promise<MeshListing> {
  const { workloads, containers } = await listMesh(directoriesOf(flags));
  const isShown = (namespace: string) => flags.namespace === undefined || namespace === flags.namespace;
  return {
    workloads: workloads.filter(({ namespace }) => isShown(namespace)),
    containers: containers.filter(({ pod }) => isShown(pod.namespace)),
  };
}

function listingText(listing: MeshListing, { output }: PsFlags): string {
  return output === 'json' ? `${JSON.stringify(listing, undefined, 2)}\n` : table(listing, output === 'wide');
}

function table({ workloads, containers }: MeshListing, isWide: boolean): string {
  const header = ['NAMESPACE', 'NAME', 'ACCOUNT', 'ADDRESS', 'PORTS', 'MESH', 'AGE'];
  const rows = [
    ...workloads.map(each => workloadRow(each, isWide)),
    ...containers.map(each => containerRow(each, isWide)),
  ];
  return columns(isWide ? [...header, 'ADDRESS6', 'PID', 'COMMAND'] : header, rows);
}

function workloadRow(workload: WorkloadView, isWide: boolean): string[] {
  const { namespace, name, serviceAccount, ip4, ip6, isMember, status, createdAt } = workload;
  const row = [
    namespace,
    name,
    serviceAccount,
    ip4,
    portsText(workload),
    meshText(isMember, status),
    ageText(createdAt),
  ];
  return isWide ? [...row, ip6 ?? '', String(workload.process.pid), printable(workload.command.join(' '))] : row;
}

function containerRow({ pod, status, createdAt }: ContainerView, isWide: boolean): string[] {
  const { namespace, name, serviceAccount, ips } = pod;
  const row = [namespace, name, serviceAccount, ips[0] ?? '', '', meshText(true, status), ageText(createdAt)];
  return isWide ? [...row, ips[1] ?? '', '', 'container'] : row;
}

function portsText({ publish, services }: WorkloadView): string {
  return [
    ...publish.map(({ ip, hostPort, port }) => `${ip === '127.0.0.1' ? '' : `${ip}:`}${hostPort}→${port}`),
    ...services.map(({ name, port, targetPort }) => `${name}:${port}${port === targetPort ? '' : `→${targetPort}`}`),
  ].join(' ');
}

function meshText(isMember: boolean, status: WorkloadView['status']): string {
  if (!isMember) return 'outside';
  return status === 'enabled' ? 'protected' : 'waiting';
}

/** Others' words on a terminal: what would move its cursor is shown as a dot. */
function printable(text: string): string {
  return text.replaceAll(/\p{C}/gu, '·');
}
