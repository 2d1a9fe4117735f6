// What all workloads share, whatever object they come from: network, trust domain, tunnel, services, waypoint policies.
import { TunnelProtocol } from '@ambit/wire/resources';
import type { Labels } from '../objects/types.ts';
import type { WorkloadInit } from './draft.ts';
import type { PortPair } from './ports.ts';
import type { BoundService, Surroundings } from './surroundings.ts';
import type { Waypoint } from './waypoint.ts';
import { allowPolicyKey } from './waypoint-policy.ts';
import { ANNOTATION, LABEL } from './well-known.ts';

/** Empty stands for `cluster.local` on the wire. */
export function wireTrustDomain({ settings }: Surroundings): string {
  return settings.trustDomain === 'cluster.local' ? '' : settings.trustDomain;
}

/** A workload says itself that it tunnels (the label, set on proxies), or its node agent says it captured it. */
export function tunnelOf(labels: Labels, annotations: Labels): Pick<WorkloadInit, 'tunnelProtocol' | 'nativeTunnel'> {
  const tunnels = (labels[LABEL.tunnel] ?? '').split(',');
  if (tunnels.includes('http')) return { tunnelProtocol: TunnelProtocol.HBONE, nativeTunnel: true };
  if (annotations[ANNOTATION.redirection] === 'enabled') return { tunnelProtocol: TunnelProtocol.HBONE };
  return { tunnelProtocol: TunnelProtocol.NONE };
}

/** The service map with its keys in order, so that equal workloads encode equally. */
export function serviceMap(
  services: readonly BoundService[],
  portsOn: (service: BoundService) => PortPair[],
): { readonly keys: readonly string[]; readonly map: Record<string, { ports: PortPair[] }> } {
  if (services.length === 0) return { keys: NO_KEYS, map: {} };
  const sorted = services.length === 1 ? services : services.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const map: Record<string, { ports: PortPair[] }> = {};
  for (const service of sorted) map[service.key] = { ports: portsOn(service) };
  return { keys: sorted.map(({ key }) => key), map };
}

const NO_KEYS: readonly string[] = [];

/** Policies of a workload, then those that let its waypoints through (its services' and its own). */
export function policiesOf(
  namespace: string,
  labels: Labels,
  services: readonly BoundService[],
  waypoint: Waypoint | undefined,
  around: Surroundings,
): string[] {
  const policies = [...around.policies(namespace, labels)];
  if (!around.settings.autoAllowWaypoints) return policies;
  const allow = new Set(services.map(({ waypointPolicy }) => waypointPolicy));
  if (waypoint !== undefined) allow.add(allowPolicyKey(waypoint));
  allow.delete('');
  return [...policies, ...[...allow].sort()];
}
