// `ambit ps`: what runs in the mesh of this machine, commands and containers.
import type { ContainerView, WorkloadView } from '@ambit/local';
import { columns } from '../render/columns.ts';
import { processOutput } from '../render/output.ts';
import { ageText, directoriesOf, listMesh, type MeshFlags, type MeshListing, tell } from './local-mesh.ts';

export interface PsFlags extends MeshFlags {
  readonly namespace?: string;
  readonly output: 'table' | 'wide' | 'json';
}

export async function ps(flags: PsFlags): Promise<number> {
  const output = processOutput();
  try {
    const { workloads, containers } = await listMesh(directoriesOf(flags));
    const isShown = (namespace: string) => flags.namespace === undefined || namespace === flags.namespace;
    const shown = {
      workloads: workloads.filter(({ namespace }) => isShown(namespace)),
      containers: containers.filter(({ pod }) => isShown(pod.namespace)),
    };
    const isJson = flags.output === 'json';
    output.answer(isJson ? `${JSON.stringify(shown, undefined, 2)}\n` : table(shown, flags.output === 'wide'));
    return 0;
  } catch (error) {
    return tell(output, error);
  }
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
