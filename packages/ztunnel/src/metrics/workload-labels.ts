// The labels that say who talked to whom, as upstream's ztunnel fills them: names of workloads by canonical service and
// revision, `unknown` for what is not known. Principals are what TLS proved, but for the destination's, which is what the
// mesh says of the workload, also for plaintext. Order as upstream exposes them. Pure.
import { formatSpiffeId, type WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord, RecordPeer } from '@ambit/proxy';
import type { LabelValue } from './label-text.ts';

export const UNKNOWN = 'unknown';

export const SOURCE_LABELS = [
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
] as const;

/** `reporter`, the source, the service, the destination. */
export const PEER_LABELS = [
  'reporter',
  ...SOURCE_LABELS,
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_cluster',
] as const;

export const LOCALITY_LABELS = ['source_region', 'source_zone', 'destination_region', 'destination_zone'] as const;

export type Reporter = 'source' | 'destination';

export function reporterOf(record: ConnectionRecord): Reporter {
  return record.direction === 'outbound' ? 'source' : 'destination';
}

/** Values of `SOURCE_LABELS`. */
export function sourceLabels(workload: WorkloadSummary | undefined, principal: string | undefined): LabelValue[] {
  const revision = known(workload?.canonicalRevision);
  return [
    known(workload?.workloadName),
    known(workload?.canonicalName),
    revision,
    known(workload?.namespace),
    known(principal),
    appOf(workload),
    revision,
    known(workload?.cluster),
  ];
}

/** Values of `PEER_LABELS`; the array is the caller's. */
export function peerLabels(record: ConnectionRecord): LabelValue[] {
  const { service, destination } = record;
  const { workload } = destination;
  const revision = known(workload?.canonicalRevision);
  const labels: LabelValue[] = [reporterOf(record), ...sourceLabels(record.source.workload, sourcePrincipal(record))];
  labels.push(
    known(service?.hostname),
    known(service?.namespace),
    known(service?.name),
    known(workload?.workloadName),
    known(workload?.canonicalName),
    revision,
    known(workload?.namespace),
    destinationPrincipal(record.protocol, destination),
    appOf(workload),
    revision,
    known(workload?.cluster),
  );
  return labels;
}

/** Values of `LOCALITY_LABELS`; absent when nothing is known of either side. */
export function localityLabels({ source, destination }: ConnectionRecord): LabelValue[] {
  if (source.workload === undefined && destination.workload === undefined) return NO_LOCALITY;
  return [
    known(source.workload?.region),
    known(source.workload?.zone),
    known(destination.workload?.region),
    known(destination.workload?.zone),
  ];
}

const NO_LOCALITY: LabelValue[] = LOCALITY_LABELS.map(() => undefined);

export function securityPolicy(record: ConnectionRecord): 'mutual_tls' | 'unknown' {
  return record.protocol === 'TCP' ? 'unknown' : 'mutual_tls';
}

/** What a pod would present, or did. A tunnel that could not be made has nothing proven yet. */
function sourcePrincipal({ protocol, direction, source }: ConnectionRecord): string | undefined {
  if (protocol === 'TCP') return undefined;
  if (source.identity !== undefined || direction === 'inbound') return source.identity;
  return source.workload === undefined ? undefined : formatSpiffeId(source.workload);
}

function destinationPrincipal(protocol: ConnectionRecord['protocol'], { workload, identity }: RecordPeer): string {
  // Behind a gateway the mesh here knows nobody: what the inner TLS proved is all there is.
  if (protocol === 'DOUBLEHBONE' && identity !== undefined) return identity;
  return workload === undefined || workload.serviceAccount === '' ? UNKNOWN : formatSpiffeId(workload);
}

/** A workload known by baggage alone has no pod name; its application is then its workload. */
function appOf(workload: WorkloadSummary | undefined): string {
  return known(workload?.name === '' ? workload.workloadName : workload?.canonicalName);
}

function known(text: string | undefined): string {
  return text === undefined || text === '' ? UNKNOWN : text;
}
