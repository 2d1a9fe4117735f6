// References to waypoints and network gateways, as control planes send them: by address or by name, with the port that
// speaks HBONE. A reference may point at nothing; resolving it is routing's business.
import { type Ip, parseIp } from './address.ts';

export type GatewayDestination =
  | { readonly kind: 'address'; readonly network: string; readonly ip: Ip }
  | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string };

export interface GatewayAddress {
  readonly destination: GatewayDestination;
  /** The port of the gateway that terminates HBONE, 0..65535. */
  readonly hboneMtlsPort: number;
}

/** One of several waypoints that share a service's connections in proportion to their weights. */
export interface WeightedWaypoint {
  readonly destination: GatewayAddress;
  readonly weight: number;
}

/** Reads `network/ip`, or else `namespace/hostname`, split at the first slash. */
export function parseGatewayDestination(text: string): GatewayDestination | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const scope = text.slice(0, slash);
  const target = text.slice(slash + 1);
  if (target === '') return undefined;
  const ip = parseIp(target);
  if (ip !== undefined) return { kind: 'address', network: scope, ip };
  return target.includes('/') ? undefined : { kind: 'hostname', namespace: scope, hostname: target };
}

export function formatGatewayDestination(destination: GatewayDestination): string {
  switch (destination.kind) {
    case 'address':
      return `${destination.network}/${destination.ip}`;
    case 'hostname':
      return `${destination.namespace}/${destination.hostname}`;
  }
}
