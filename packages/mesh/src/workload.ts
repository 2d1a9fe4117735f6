// A workload: one pod, VM or external endpoint as the control plane describes it (xDS `istio.workload.Workload`, local
// YAML, config_dump). Plain data that survives structured cloning. Nothing here says whether a value makes sense;
// routing does.
import type { Ip } from './address.ts';
import type { GatewayAddress } from './gateway.ts';
import type { SpiffeId } from './identity.ts';
import { formatSpiffeId } from './identity.ts';

/** Service port to target port. Target 0 in a service means a named port: only the endpoint knows the number. */
export type PortMap = ReadonlyMap<number, number>;

export type WorkloadProtocol = 'TCP' | 'HBONE';
export type NetworkMode = 'Standard' | 'HostNetwork';
export type HealthStatus = 'Healthy' | 'Unhealthy';

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** How a proxy behind ours (a waypoint) wants its connections: on another port, and perhaps with a PROXY v2 header. */
export interface ApplicationTunnel {
  readonly protocol: 'NONE' | 'PROXY';
  /** Undefined keeps the port the client asked for. */
  readonly port: number | undefined;
}

export interface Workload {
  /** Primary key, opaque. Istio's pods have `cluster//Pod/namespace/name`. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly workloadIps: readonly Ip[];
  readonly protocol: WorkloadProtocol;
  /** A host-network workload shares its node's address and is therefore never found by address. */
  readonly networkMode: NetworkMode;
  readonly network: string;
  readonly node: string;
  /** Resolved on demand when there is no address. */
  readonly hostname: string;
  readonly workloadName: string;
  /** Lower case: `deployment`, `cronjob`, `pod`, `job`, or whatever a local file says. */
  readonly workloadType: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly nativeTunnel: boolean;
  readonly applicationTunnel: ApplicationTunnel | undefined;
  /** Keys (xDS resource names) of the policies that select this workload. */
  readonly authorizationPolicies: readonly string[];
  readonly status: HealthStatus;
  readonly locality: Locality;
  /** Load-balancing weight; 0 is never chosen through a service. */
  readonly capacity: number;
  readonly waypoint: GatewayAddress | undefined;
  readonly networkGateway: GatewayAddress | undefined;
  /** The services this workload is an endpoint of: `namespace/hostname` to its port map for that service. */
  readonly services: ReadonlyMap<string, PortMap>;
}

/** What records, metrics and logs need to know of a workload. Plain text fields only; empty means unknown. */
export interface WorkloadSummary {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly trustDomain: string;
  readonly workloadName: string;
  readonly workloadType: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly cluster: string;
  readonly node: string;
  readonly region: string;
  readonly zone: string;
}

const NO_LOCALITY: Locality = Object.freeze({ region: '', zone: '', subzone: '' });
const NO_SERVICES: ReadonlyMap<string, PortMap> = new Map();

/** Fields without a default of their own. */
export type WorkloadFields = Pick<Workload, 'uid' | 'name' | 'namespace'> & Partial<Workload>;

/**
 * A complete workload from the fields that are known. Defaults are those of the local configuration file: everything
 * empty, TCP, healthy, capacity 1. A wire decoder fills in the wire's own defaults (`cluster.local`, `default`) first.
 */
export function createWorkload(fields: WorkloadFields): Workload {
  // Every property is written, in one order, so that all workloads share one hidden class.
  return {
    uid: fields.uid,
    name: fields.name,
    namespace: fields.namespace,
    serviceAccount: fields.serviceAccount ?? '',
    trustDomain: fields.trustDomain ?? '',
    clusterId: fields.clusterId ?? '',
    workloadIps: fields.workloadIps ?? [],
    protocol: fields.protocol ?? 'TCP',
    networkMode: fields.networkMode ?? 'Standard',
    network: fields.network ?? '',
    node: fields.node ?? '',
    hostname: fields.hostname ?? '',
    workloadName: fields.workloadName ?? '',
    workloadType: fields.workloadType ?? '',
    canonicalName: fields.canonicalName ?? '',
    canonicalRevision: fields.canonicalRevision ?? '',
    nativeTunnel: fields.nativeTunnel ?? false,
    applicationTunnel: fields.applicationTunnel,
    authorizationPolicies: fields.authorizationPolicies ?? [],
    status: fields.status ?? 'Healthy',
    locality: fields.locality ?? NO_LOCALITY,
    capacity: fields.capacity ?? 1,
    waypoint: fields.waypoint,
    networkGateway: fields.networkGateway,
    services: fields.services ?? NO_SERVICES,
  };
}

/** The identity a workload's certificate carries. */
export function workloadIdentity(workload: Workload): SpiffeId {
  return {
    trustDomain: workload.trustDomain,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
  };
}

export function workloadSpiffeText(workload: Workload): string {
  return formatSpiffeId(workload);
}

export function summarizeWorkload(workload: Workload): WorkloadSummary {
  return {
    uid: workload.uid,
    name: workload.name,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
    trustDomain: workload.trustDomain,
    workloadName: workload.workloadName,
    workloadType: workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    cluster: workload.clusterId,
    node: workload.node,
    region: workload.locality.region,
    zone: workload.locality.zone,
  };
}

/** Upstream's way to name a workload in an error. */
export function describeWorkload(workload: Workload): string {
  return `Workload{${workload.name} with uid ${workload.uid} (${workload.protocol})}`;
}
