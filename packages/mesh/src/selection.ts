// Which endpoints of a service may serve a connection, on which port, and which address of a workload to use. Says how
// many endpoints were left out and why, because "no healthy upstream" alone helps nobody.
import { type Ip, ipFamily } from './address.ts';
import { tierByLocality } from './balancing.ts';
import type { IpFamilies, Service } from './service.ts';
import { FIRST_TIER_LIMIT, LATER_TIER_LIMIT, limitTier } from './tier-limit.ts';
import type { MeshView } from './view.ts';
import type { PortMap, Workload } from './workload.ts';

/**
 * `standard` for user traffic and network gateways: the service must define the port. `waypoint` also accepts endpoints
 * with an application tunnel for ports the service does not define.
 */
export type SelectionMode = 'standard' | 'waypoint';

/** A workload that could be connected to, and how it was found. */
export interface Upstream {
  readonly workload: Workload;
  /** The service it was found through. */
  readonly service: Service | undefined;
  readonly port: number;
  /** Greater than 0. */
  readonly weight: number;
}

export interface Selection {
  /** Best first, no empty tier. */
  readonly tiers: readonly (readonly Upstream[])[];
  /** What was looked at, for people. */
  readonly summary: string;
}

interface Exclusions {
  unhealthy: number;
  portless: number;
  addressless: number;
  weightless: number;
}

export function selectEndpoints(
  view: MeshView,
  service: Service,
  port: number,
  mode: SelectionMode,
  client: Workload,
): Selection {
  const endpoints = view.endpoints(service);
  const allowUnhealthy = service.loadBalancer?.healthPolicy === 'AllowAll';
  const excluded: Exclusions = { unhealthy: 0, portless: 0, addressless: 0, weightless: 0 };
  const candidates: Upstream[] = [];
  for (const endpoint of endpoints) {
    const { workload } = endpoint;
    if (!endpoint.isHealthy && !allowUnhealthy) {
      excluded.unhealthy++;
      continue;
    }
    if (!isReachable(workload, client)) {
      excluded.addressless++;
      continue;
    }
    const target = endpointPort(service, endpoint.ports, workload, port, mode);
    if (target === undefined) excluded.portless++;
    else if (workload.capacity <= 0) excluded.weightless++;
    else candidates.push({ workload, service, port: target, weight: workload.capacity });
  }
  const ranked = tierByLocality(candidates, service.loadBalancer, client);
  const tiers = ranked.map((tier, index) =>
    limitTier(tier, index === 0 ? FIRST_TIER_LIMIT : LATER_TIER_LIMIT, client.uid),
  );
  return { tiers, summary: summarize(endpoints.length, excluded, ranked) };
}

function isReachable(workload: Workload, client: Workload): boolean {
  if (workload.workloadIps.length > 0 || workload.hostname !== '') return true;
  return workload.network !== client.network && workload.networkGateway !== undefined;
}

function endpointPort(
  service: Service,
  endpointPorts: PortMap,
  workload: Workload,
  port: number,
  mode: SelectionMode,
): number | undefined {
  const declared = service.ports.get(port);
  if (declared === undefined && (mode === 'standard' || workload.applicationTunnel === undefined)) return undefined;
  // Target 0 is a named port: only the endpoint knows its number.
  if (declared === 0 && mode === 'standard') return endpointPorts.get(port);
  return targetPort(service, endpointPorts, workload, port);
}

/** The port to dial for a service port: what the endpoint maps, what the service maps, or the same behind a tunnel with a port. */
export function targetPort(
  service: Service,
  endpointPorts: PortMap,
  workload: Workload,
  port: number,
): number | undefined {
  const mapped = endpointPorts.get(port);
  if (mapped !== undefined) return mapped;
  const declared = service.ports.get(port);
  if (declared !== undefined && declared > 0) return declared;
  return workload.applicationTunnel?.port === undefined ? undefined : port;
}

function summarize(total: number, excluded: Exclusions, tiers: readonly (readonly Upstream[])[]): string {
  const parts = [`${total} ${total === 1 ? 'endpoint' : 'endpoints'}`];
  if (excluded.unhealthy > 0) parts.push(`${excluded.unhealthy} unhealthy`);
  if (excluded.portless > 0) parts.push(`${excluded.portless} without this port`);
  if (excluded.addressless > 0) parts.push(`${excluded.addressless} without an address`);
  if (excluded.weightless > 0) parts.push(`${excluded.weightless} with capacity 0`);
  const sizes = tiers.map(tier => tier.length);
  const usable = sizes.reduce((sum, size) => sum + size, 0);
  if (usable !== total || tiers.length > 1) parts.push(`${usable} usable`);
  if (tiers.length > 1) parts.push(`${sizes[0]} of them closest`);
  return parts.join(', ');
}

export type AddressChoice =
  | { readonly kind: 'ip'; readonly ip: Ip }
  | { readonly kind: 'name'; readonly hostname: string }
  | { readonly kind: 'none' };

/**
 * Which address of the workload to dial for a client that dialled `dialled`: that very one, or one the service's families
 * permit, of the same family if there is one; else its host name.
 */
export function chooseAddress(workload: Workload, families: IpFamilies | undefined, dialled: Ip): AddressChoice {
  if (workload.workloadIps.includes(dialled)) return { kind: 'ip', ip: dialled };
  const wanted = ipFamily(dialled);
  let fallback: Ip | undefined;
  for (const ip of workload.workloadIps) {
    const family = ipFamily(ip);
    if (!permits(families, family)) continue;
    if (family === wanted) return { kind: 'ip', ip };
    fallback ??= ip;
  }
  if (fallback !== undefined) return { kind: 'ip', ip: fallback };
  return workload.hostname === '' ? { kind: 'none' } : { kind: 'name', hostname: workload.hostname };
}

function permits(families: IpFamilies | undefined, family: 'ipv4' | 'ipv6'): boolean {
  switch (families) {
    case 'IPv4':
      return family === 'ipv4';
    case 'IPv6':
      return family === 'ipv6';
    case 'Dual':
    case undefined:
      return true;
  }
}

/** What stands behind an address. */
export type UpstreamSearch =
  | { readonly kind: 'found'; readonly selection: Selection; readonly service: Service | undefined }
  /** A service that wants its connections left alone. */
  | { readonly kind: 'passthrough'; readonly service: Service }
  | { readonly kind: 'none' };

/** Service by address first, then workload by address; a workload keeps the port that was dialled. */
export function findUpstream(
  view: MeshView,
  network: string,
  ip: Ip,
  port: number,
  mode: SelectionMode,
  client: Workload,
): UpstreamSearch {
  const service = view.serviceByVip(network, ip, client.namespace);
  if (service !== undefined) {
    if (service.loadBalancer?.mode === 'Passthrough') return { kind: 'passthrough', service };
    return { kind: 'found', selection: selectEndpoints(view, service, port, mode, client), service };
  }
  const workload = view.workloadByAddress(network, ip);
  if (workload === undefined) return { kind: 'none' };
  return { kind: 'found', selection: soleUpstream(workload, port), service: undefined };
}

/** A workload that was addressed itself: no balancing, so its capacity plays no part. */
export function soleUpstream(workload: Workload, port: number): Selection {
  return { tiers: [[{ workload, service: undefined, port, weight: 1 }]], summary: 'one workload' };
}
