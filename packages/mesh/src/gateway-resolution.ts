// From a reference to a waypoint or network gateway to the workloads behind it, and the reverse question an inbound
// proxy has: is this workload the one that reference means?
import type { Ip } from './address.ts';
import type { GatewayAddress, WeightedWaypoint } from './gateway.ts';
import { findUpstream, type Selection, type SelectionMode, selectEndpoints, soleUpstream } from './selection.ts';
import type { MeshView } from './view.ts';
import { sameSpiffeId } from './identity.ts';
import { type Workload, workloadIdentity } from './workload.ts';

export interface ResolvedGateway {
  readonly selection: Selection;
  /** Whose family the gateway's address should have. */
  readonly familyTarget: Ip;
}

/** Undefined when nothing is there or it has no usable endpoint. */
export function resolveGateway(
  view: MeshView,
  gateway: GatewayAddress,
  mode: SelectionMode,
  client: Workload,
  originalIp: Ip,
): ResolvedGateway | undefined {
  const { destination, hboneMtlsPort: port } = gateway;
  if (destination.kind === 'address') {
    const found = findUpstream(view, destination.network, destination.ip, port, mode, client);
    if (found.kind !== 'found' || found.selection.tiers.length === 0) return undefined;
    return { selection: found.selection, familyTarget: destination.ip };
  }
  const service = view.service(destination.namespace, destination.hostname);
  if (service !== undefined) {
    const selection = selectEndpoints(view, service, port, mode, client);
    return selection.tiers.length === 0 ? undefined : { selection, familyTarget: originalIp };
  }
  const workload = view.workloadByHostname(destination.namespace, destination.hostname);
  return workload === undefined ? undefined : { selection: soleUpstream(workload, port), familyTarget: originalIp };
}

/** Whether the reference leads to the workload `uid` or to the address `ip` that a connection was made to. */
export function isGatewayFor(view: MeshView, gateway: GatewayAddress, uid: string, ip: Ip): boolean {
  const { destination } = gateway;
  if (destination.kind === 'hostname') {
    const service = view.service(destination.namespace, destination.hostname);
    if (service !== undefined) return view.isEndpoint(service, uid);
    return view.workloadByHostname(destination.namespace, destination.hostname)?.workloadIps.includes(ip) ?? false;
  }
  const owner = view.findAddress(destination.network, destination.ip, undefined);
  switch (owner?.kind) {
    case 'workload':
      return owner.workload.workloadIps.includes(ip);
    case 'service':
      return view.isEndpoint(owner.service, uid);
    case undefined:
      return false;
  }
}

/** Any of the waypoints of a workload or service, weighted ones included. */
export function waypointsOf(owner: {
  readonly waypoint: GatewayAddress | undefined;
  readonly weightedWaypoints?: readonly WeightedWaypoint[];
}): readonly GatewayAddress[] {
  const weighted = (owner.weightedWaypoints ?? []).map(entry => entry.destination);
  return owner.waypoint === undefined ? weighted : [...weighted, owner.waypoint];
}

/**
 * Whether the client *is* the waypoint of that workload, so that its traffic must not be sent back to it: some workload the
 * reference leads to has the client's identity and the connection's source address.
 */
export function isOwnWaypoint(view: MeshView, workload: Workload, client: Workload, sourceIp: Ip): boolean {
  if (workload.waypoint === undefined) return false;
  const identity = workloadIdentity(client);
  const isClient = (candidate: Workload): boolean =>
    candidate.workloadIps.includes(sourceIp) && sameSpiffeId(workloadIdentity(candidate), identity);
  const { destination } = workload.waypoint;
  if (destination.kind === 'address') {
    const owner = view.findAddress(destination.network, destination.ip, undefined);
    if (owner === undefined) return false;
    if (owner.kind === 'workload') return isClient(owner.workload);
    return view.endpoints(owner.service).some(endpoint => isClient(endpoint.workload));
  }
  const service = view.service(destination.namespace, destination.hostname);
  if (service !== undefined) return view.endpoints(service).some(endpoint => isClient(endpoint.workload));
  const named = view.workloadByHostname(destination.namespace, destination.hostname);
  return named !== undefined && isClient(named);
}
