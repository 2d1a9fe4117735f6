// What all workloads share, whatever object they come from: network, trust domain, tunnel, services, waypoint policies.
import { TunnelProtocol } from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import type { Labels, ObjectRef } from '../objects/types.ts';
import { attachmentOf } from './attachment.ts';
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

/**
 * The waypoint of a workload with these labels; or, if it is an instance of a gateway, no waypoint and the tunnel which
 * that gateway wants. A gateway that is not there, or has no address yet, has no instances.
 */
export function placeBehindWaypoint(
  ref: ObjectRef,
  labels: Labels,
  around: Surroundings,
): {
  readonly waypoint: Waypoint | undefined;
  readonly tunnel: WorkloadInit['applicationTunnel'];
  readonly diagnostics: readonly Diagnostic[];
} {
  const gateway = labels[LABEL.gatewayName] ?? '';
  if (gateway !== '' && around.waypoint(ref.namespace, gateway) !== undefined) {
    return { waypoint: undefined, tunnel: around.applicationTunnel(ref.namespace, gateway), diagnostics: [] };
  }
  const { waypoint, diagnostics } = attachmentOf({ ref, labels, annotations: {}, traffic: 'workload' }, around);
  return { waypoint, tunnel: undefined, diagnostics };
}

/** Policies of a workload, then those that let its waypoints through (its services' and last its own). */
export function policiesOf(
  namespace: string,
  labels: Labels,
  services: readonly BoundService[],
  waypoint: Waypoint | undefined,
  around: Surroundings,
): string[] {
  const policies = [...around.policies(namespace, labels)];
  if (!around.settings.autoAllowWaypoints) return policies;
  const own = waypoint === undefined ? '' : allowPolicyKey(waypoint);
  const others = new Set(services.map(({ waypointPolicy }) => waypointPolicy));
  others.delete(own);
  return [...policies, ...[...others].sort(), own].filter(key => key !== '');
}
