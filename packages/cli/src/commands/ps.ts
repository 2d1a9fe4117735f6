// `ambit ps`: what runs in the mesh of this machine.
import type { WorkloadView } from '@ambit/local';
import { columns } from '../render/columns.ts';
import { processOutput } from '../render/output.ts';
import { ageText, directoriesOf, listWorkloads, type MeshFlags, tell } from './local-mesh.ts';

export interface PsFlags extends MeshFlags {
  readonly namespace?: string;
  readonly output: 'table' | 'wide' | 'json';
}

export async function ps(flags: PsFlags): Promise<number> {
  const output = processOutput();
  try {
    const all = await listWorkloads(directoriesOf(flags));
    const shown = all.filter(({ namespace }) => flags.namespace === undefined || namespace === flags.namespace);
    output.answer(
      flags.output === 'json'
        ? `${JSON.stringify({ workloads: shown }, undefined, 2)}\n`
        : table(shown, flags.output === 'wide'),
    );
    return 0;
  } catch (error) {
    return tell(output, error);
  }
}

function table(workloads: readonly WorkloadView[], isWide: boolean): string {
  const header = ['NAMESPACE', 'NAME', 'ACCOUNT', 'ADDRESS', 'PORTS', 'MESH', 'AGE'];
  const rows = workloads.map(workload => [
    workload.namespace,
    workload.name,
    workload.serviceAccount,
    workload.ip4,
    portsText(workload),
    meshText(workload),
    ageText(workload.createdAt),
    ...(isWide ? [workload.ip6 ?? '', String(workload.process.pid), workload.command.join(' ')] : []),
  ]);
  return columns(isWide ? [...header, 'ADDRESS6', 'PID', 'COMMAND'] : header, rows);
}

function portsText({ publish, services }: WorkloadView): string {
  return [
    ...publish.map(({ ip, hostPort, port }) => `${ip === '127.0.0.1' ? '' : `${ip}:`}${hostPort}→${port}`),
    ...services.map(({ name, port, targetPort }) => `${name}:${port}${port === targetPort ? '' : `→${targetPort}`}`),
  ].join(' ');
}

function meshText({ isMember, status }: WorkloadView): string {
  if (!isMember) return 'outside';
  return status === 'enabled' ? 'protected' : 'waiting';
}
