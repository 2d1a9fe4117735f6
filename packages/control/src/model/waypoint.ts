// What a Gateway is as a waypoint: where it is reached, whose traffic it takes, and who may use it. A Gateway without an
// address is none (yet). Whether somebody uses it is in attachment.ts.
import { ipToBytes, parseIp } from '@ambit/mesh';
import { ApplicationTunnel_Protocol } from '@ambit/wire/resources';
import type {
  GatewayClassObject,
  GatewayListener,
  GatewayObject,
  LabelExpression,
  Labels,
  NamespaceObject,
} from '../objects/types.ts';
import type { GatewayAddressParts } from './gateway-address.ts';
import { matches } from './selector-index.ts';
import { ANNOTATION, HBONE_PORT, LABEL } from './well-known.ts';

export interface Waypoint {
  readonly namespace: string;
  readonly name: string;
  readonly address: GatewayAddressParts;
  /** `service`, `workload`, `all`, `none`, or what somebody wrote instead. */
  readonly trafficType: string;
  readonly allowedRoutes: GatewayListener['allowedRoutes'];
  /** Of its pods, sorted, for the policies that let it through; empty when nobody asked for those. */
  readonly serviceAccounts: readonly string[];
}

/** How a gateway's own instances want to be handed the tunnel's content. */
export interface InboundBinding {
  readonly protocol: ApplicationTunnel_Protocol;
  /** 0: no port was named. */
  readonly port: number;
}

const SAME_NAMESPACE: GatewayListener['allowedRoutes'] = { from: 'Same', selector: undefined };
const PROXY_LISTENER = 'istio.io/PROXY';

export function waypointOf(
  gateway: GatewayObject,
  gatewayClass: GatewayClassObject | undefined,
  network: string,
  serviceAccounts: readonly string[],
): Waypoint | undefined {
  const { namespace, name, labels } = gateway.metadata;
  const address = addressOf(gateway, network);
  if (address === undefined) return undefined;
  return {
    namespace,
    name,
    address,
    trafficType: labels[LABEL.waypointFor] ?? gatewayClass?.metadata.labels[LABEL.waypointFor] ?? 'service',
    allowedRoutes: allowedRoutes(gateway, inboundBinding(gateway, gatewayClass)),
    serviceAccounts,
  };
}

/** A host name is preferred: addresses may change under it. */
function addressOf({ metadata, status }: GatewayObject, network: string): GatewayAddressParts | undefined {
  const hostname = status.addresses.find(({ type }) => type === 'Hostname')?.value;
  if (hostname !== undefined) {
    return {
      destination: { case: 'hostname', value: { namespace: metadata.namespace, hostname } },
      hboneMtlsPort: HBONE_PORT,
    };
  }
  for (const { type, value } of status.addresses) {
    const ip = type === 'IPAddress' ? parseIp(value) : undefined;
    if (ip === undefined) continue;
    return {
      destination: { case: 'address', value: { network, address: ipToBytes(ip) } },
      hboneMtlsPort: HBONE_PORT,
    };
  }
  return undefined;
}

/** Reads `NONE`, `PROXY`, or either with `/port` (unreadable: 0); undefined when there is none, or none that is known. */
export function inboundBinding(
  gateway: GatewayObject,
  gatewayClass: GatewayClassObject | undefined,
): InboundBinding | undefined {
  const text =
    gateway.metadata.annotations[ANNOTATION.inboundBinding] ??
    gatewayClass?.metadata.annotations[ANNOTATION.inboundBinding];
  const parts = /^(NONE|PROXY)(?:\/([^/]*))?$/.exec(text ?? '');
  if (parts === null) return undefined;
  const port = /^\d{1,10}$/.test(parts[2] ?? '') ? Number(parts[2]) : 0;
  const protocol = parts[1] === 'PROXY' ? ApplicationTunnel_Protocol.PROXY : ApplicationTunnel_Protocol.NONE;
  return { protocol, port: port > 0xffff_ffff ? 0 : port };
}

function allowedRoutes(gateway: GatewayObject, binding: InboundBinding | undefined): GatewayListener['allowedRoutes'] {
  const { listeners } = gateway.spec;
  const bound = listeners.find(listener => {
    if (binding === undefined) return false;
    if (binding.port !== 0) return listener.port === binding.port;
    return binding.protocol === ApplicationTunnel_Protocol.PROXY && listener.protocol === PROXY_LISTENER;
  });
  const tunnel = listeners.find(({ protocol, port }) => protocol === 'HBONE' && port === HBONE_PORT);
  return (bound ?? tunnel)?.allowedRoutes ?? SAME_NAMESPACE;
}

/**
 * Whether objects of a namespace may use the waypoint. A selector that cannot be read allows nobody. The label with the
 * namespace's name, which the API server sets, counts for namespaces in files too.
 */
export function allowsNamespace(waypoint: Waypoint, namespace: string, object: NamespaceObject | undefined): boolean {
  const { from, selector, expressions = [] } = waypoint.allowedRoutes;
  if (from === 'All') return true;
  if (from !== 'Selector') return waypoint.namespace === namespace;
  if (selector === undefined || object === undefined) return false;
  const labels = { [LABEL.namespaceName]: namespace, ...object.metadata.labels };
  return matches(selector, labels) && expressions.every(expression => holds(expression, labels));
}

function holds({ key, operator, values }: LabelExpression, labels: Labels): boolean {
  const value = labels[key];
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
