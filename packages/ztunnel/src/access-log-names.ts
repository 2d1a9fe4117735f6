// What access-log lines and spans call workloads, and which requests count as failed. Pure.
import type { WorkloadSummary } from '@ambit/mesh';
import type { L7Request } from '@ambit/proxy';

/** Pod name; a source known by baggage alone has none, and upstream then shows its canonical service. */
export function nameOfSource(workload: WorkloadSummary | undefined): string | undefined {
  return firstText(workload?.name, workload?.canonicalName, workload?.workloadName);
}

/** Pod name; of a destination known by baggage alone upstream shows the workload's name. */
export function nameOfDestination(workload: WorkloadSummary | undefined): string | undefined {
  return firstText(workload?.name, workload?.workloadName, workload?.canonicalName);
}

/** gRPC statuses that tell of the server or the way to it, by the semantic conventions for gRPC server spans. */
const GRPC_FAULTS: ReadonlySet<number> = new Set([2, 4, 12, 13, 14, 15]);

/** Whether it failed, and not by the client's own doing. */
export function serverFault({ protocol, status, grpcStatus, flags, error }: L7Request): boolean {
  if (flags === 'UC') return true;
  if (protocol === 'grpc') return grpcStatus === undefined ? status !== 200 : GRPC_FAULTS.has(grpcStatus);
  if (protocol === 'http') return status >= 500;
  return error !== undefined;
}

export function firstText(...texts: readonly (string | undefined)[]): string | undefined {
  return texts.find(text => text !== undefined && text !== '');
}
