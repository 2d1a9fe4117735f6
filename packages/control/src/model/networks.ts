// Networks: which one this cluster is on, and the gateways into others. Gateways are the local Gateways of class
// `istio-remote` with a network label; each address is one, and a workload of its own that clients can look up.
import { ipToBytes, parseIp } from '@ambit/mesh';
import type { GatewayObject, NamespaceObject } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { workloadResource } from './draft.ts';
import type { GatewayAddressParts } from './gateway-address.ts';
import { addressOf } from './network-address.ts';
import type { XdsResource } from './resource.ts';
import { ANNOTATION, LABEL, REMOTE_GATEWAY_CLASS } from './well-known.ts';

export interface NetworkGateway {
  readonly uid: string;
  readonly network: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  /** As written: an IP address or a host name. */
  readonly address: string;
  readonly hbonePort: number;
}

export function localNetwork(settings: MeshSettings, rootNamespace: NamespaceObject | undefined): string {
  return settings.network ?? rootNamespace?.metadata.labels[LABEL.network] ?? '';
}

export function networkGatewaysOf({ metadata, spec, status }: GatewayObject): NetworkGateway[] {
  const network = metadata.labels[LABEL.network] ?? '';
  if (network === '' || spec.gatewayClassName !== REMOTE_GATEWAY_CLASS) return [];
  const hbonePort = spec.listeners.find(({ protocol }) => protocol === 'HBONE')?.port ?? 0;
  if (hbonePort === 0) return [];
  const { namespace, name, annotations } = metadata;
  const serviceAccount = annotations[ANNOTATION.gatewayServiceAccount] || `${name}-${spec.gatewayClassName}`;
  return status.addresses
    .filter(({ type }) => type === 'IPAddress' || type === 'Hostname')
    .map(({ value }) => ({
      uid: `NetworkGateway/${network}/${value}/${hbonePort}`,
      network,
      namespace,
      serviceAccount,
      address: value,
      hbonePort,
    }));
}

/** In the one order that everybody sees; two Gateways for one address count once. */
export function orderedGateways(all: Iterable<NetworkGateway>): NetworkGateway[] {
  const sorted = [...all].sort((a, b) => compare(sortKey(a), sortKey(b)));
  return [...new Map(sorted.toReversed().map(gateway => [gateway.uid, gateway])).values()].toReversed();
}

function sortKey(gateway: NetworkGateway): string {
  return `${gateway.network}\0${gateway.namespace}\0${gateway.serviceAccount}\0${gateway.uid}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

export function gatewayAddressOf({ address, network, namespace, hbonePort }: NetworkGateway): GatewayAddressParts {
  const ip = parseIp(address);
  return {
    destination:
      ip === undefined
        ? { case: 'hostname', value: { namespace, hostname: address } }
        : { case: 'address', value: { network, address: ipToBytes(ip) } },
    hboneMtlsPort: hbonePort,
  };
}

export function networkGatewayResource(gateway: NetworkGateway, trustDomain: string): XdsResource {
  const { uid, namespace, serviceAccount, network } = gateway;
  const ip = parseIp(gateway.address);
  const address = ip === undefined ? undefined : addressOf(network, ip);
  const value = {
    uid,
    name: uid,
    namespace,
    serviceAccount,
    network,
    trustDomain,
    addresses: address === undefined ? [] : [address.address],
    hostname: address === undefined ? gateway.address : '',
  };
  return workloadResource(uid, value, address === undefined ? [] : [address.alias], [], '');
}
