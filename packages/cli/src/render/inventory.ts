// What `ambit get` lists, as rows. `wide` adds what is rarely wanted: addresses, identities, uids, serial numbers.
import {
  formatGatewayDestination,
  type MeshView,
  type Service,
  serviceKey,
  type Workload,
  workloadSpiffeText,
} from '@ambit/mesh';
import { columns } from './columns.ts';

/** A certificate as far as both the control plane and a ztunnel tell. Times are RFC 3339. */
export interface CertificateRow {
  readonly identity: string;
  readonly serial: string;
  readonly notBefore: string;
  readonly notAfter: string;
  /** Of a control plane. */
  readonly node: string;
  /** `valid`, `expired`, `revoked`, or a ztunnel's own word. */
  readonly state: string;
}

export interface ListOptions {
  readonly namespace: string | undefined;
  readonly isWide: boolean;
}

const byName = (a: { readonly namespace: string; readonly name: string }, b: typeof a): number => {
  const [left, right] = [`${a.namespace}/${a.name}`, `${b.namespace}/${b.name}`];
  return left < right ? -1 : Number(left > right);
};

export function listWorkloads(view: MeshView, { namespace }: ListOptions): readonly Workload[] {
  return [...view.workloads()].filter(item => namespace === undefined || item.namespace === namespace).toSorted(byName);
}

export function listServices(view: MeshView, { namespace }: ListOptions): readonly Service[] {
  return [...view.services()].filter(item => namespace === undefined || item.namespace === namespace).toSorted(byName);
}

export function listPolicies(view: MeshView, { namespace }: ListOptions) {
  return [...view.policies()]
    .map(([, policy]) => policy)
    .filter(policy => namespace === undefined || policy.namespace === namespace)
    .toSorted(byName);
}

export function workloadTable(view: MeshView, options: ListOptions): string {
  const header = ['WORKLOAD', 'ADDRESS', 'NODE', 'PROTOCOL', 'HEALTH', 'WAYPOINT'];
  const rows = listWorkloads(view, options).map(workload => [
    `${workload.namespace}/${workload.name}`,
    workload.workloadIps.join(',') || workload.hostname,
    workload.node,
    workload.protocol,
    workload.status,
    workload.waypoint === undefined ? 'none' : formatGatewayDestination(workload.waypoint.destination),
    ...(options.isWide ? [workloadSpiffeText(workload), workload.authorizationPolicies.join(','), workload.uid] : []),
  ]);
  return columns(options.isWide ? [...header, 'IDENTITY', 'POLICIES', 'UID'] : header, rows);
}

export function serviceTable(view: MeshView, options: ListOptions): string {
  const header = ['SERVICE', 'ADDRESS', 'PORTS', 'ENDPOINTS', 'WAYPOINT'];
  const rows = listServices(view, options).map(service => {
    const endpoints = view.endpoints(service);
    const healthy = endpoints.filter(({ isHealthy }) => isHealthy).length;
    return [
      `${service.namespace}/${service.name}`,
      service.vips.map(({ ip }) => ip).join(','),
      [...service.ports].map(([from, to]) => (to === 0 ? `${from}:named` : `${from}:${to}`)).join(','),
      `${healthy}/${endpoints.length}`,
      service.waypoint === undefined ? 'none' : formatGatewayDestination(service.waypoint.destination),
      ...(options.isWide ? [serviceKey(service)] : []),
    ];
  });
  return columns(options.isWide ? [...header, 'KEY'] : header, rows);
}

export function policyTable(view: MeshView, options: ListOptions): string {
  const header = ['POLICY', 'ACTION', 'SCOPE', 'RULES', 'DRY RUN'];
  const rows = listPolicies(view, options).map(policy => [
    `${policy.namespace}/${policy.name}`,
    policy.action.toUpperCase(),
    policy.scope,
    String(policy.rules.length),
    policy.dryRun ? 'yes' : 'no',
    ...(options.isWide ? [String(selectedBy(view, `${policy.namespace}/${policy.name}`))] : []),
  ]);
  return columns(options.isWide ? [...header, 'LISTED BY'] : header, rows);
}

function selectedBy(view: MeshView, key: string): number {
  return [...view.workloads()].filter(workload => workload.authorizationPolicies.includes(key)).length;
}

/** Keeps those of a namespace, in order of identity. */
export function listCertificates(
  all: readonly CertificateRow[],
  { namespace }: ListOptions,
): readonly CertificateRow[] {
  return all
    .filter(({ identity }) => namespace === undefined || identity.split('/ns/')[1]?.split('/')[0] === namespace)
    .toSorted((a, b) => (a.identity < b.identity ? -1 : Number(a.identity > b.identity)));
}

export function certificateTable(all: readonly CertificateRow[], options: ListOptions): string {
  const header = ['IDENTITY', 'STATE', 'NOT AFTER', 'NODE'];
  const rows = listCertificates(all, options).map(({ identity, state, notAfter, node, serial, notBefore }) => [
    identity,
    state,
    notAfter,
    node,
    ...(options.isWide ? [notBefore, serial] : []),
  ]);
  return columns(options.isWide ? [...header, 'NOT BEFORE', 'SERIAL'] : header, rows);
}

/** Maps as objects, so that nothing is lost in JSON. */
export function toJsonText(value: unknown): string {
  return JSON.stringify(
    value,
    (_, item: unknown): unknown => (item instanceof Map ? Object.fromEntries<unknown>(item) : item),
    2,
  );
}
