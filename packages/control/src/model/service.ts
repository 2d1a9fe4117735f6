// Kubernetes Service -> service, and the pieces that ServiceEntries share with it.
import { parseIp } from '@ambit/mesh';
import { IPFamilies } from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import { refOf, type ServiceObject } from '../objects/types.ts';
import { type Attachment, ingressUsesWaypoint, serviceAttachment } from './attachment.ts';
import { NO_TRANSLATION, type ServiceInit, serviceResource, type Translation } from './draft.ts';
import { loadBalancingOfService } from './load-balancing.ts';
import { addressOf, type NetworkAddressParts } from './network-address.ts';
import { appProtocolOfService } from './ports.ts';
import type { Surroundings } from './surroundings.ts';

export function hostnameOf(namespace: string, name: string, clusterDomain: string): string {
  return `${name}.${namespace}.svc.${clusterDomain}`;
}

/** Whether it is a service of the mesh: not a mere alias, and all its addresses can be read. */
export function isMeshService(service: ServiceObject): boolean {
  return service.spec.type !== 'ExternalName' && badAddressOf(service) === undefined;
}

export function translateService(service: ServiceObject, around: Surroundings): Translation {
  const { metadata, spec } = service;
  const { namespace, name, labels, annotations } = metadata;
  if (spec.type === 'ExternalName') return NO_TRANSLATION;
  const bad = badAddressOf(service);
  if (bad !== undefined) return { resources: [], diagnostics: [badAddress(service, bad)] };
  const hostname = hostnameOf(namespace, name, around.settings.clusterDomain);
  const addresses = virtualAddresses(service)
    .map(parseIp)
    .filter(ip => ip !== undefined)
    .map(ip => addressOf(around.network, ip));
  const attachment = serviceAttachment({ ref: refOf(service), labels, annotations, traffic: 'service' }, around);
  const owner = around.namespace(namespace)?.metadata;
  const value = {
    name,
    namespace,
    hostname,
    addresses: wireAddresses(addresses),
    ports: spec.ports.map(port => ({
      servicePort: port.port,
      targetPort: typeof port.targetPort === 'string' ? 0 : (port.targetPort ?? port.port),
      appProtocol: appProtocolOfService(port),
    })),
    ...wireWaypoints(attachment),
    loadBalancing: loadBalancingOfService(service, owner?.annotations ?? {}),
    ipFamilies: ipFamilies(spec.ipFamilies),
    canonical: around.standing('Service', namespace, name, hostname) === 'canonical',
    ingressUseWaypoint: attachment.waypoint !== undefined && ingressUsesWaypoint(labels, owner?.labels ?? {}),
  };
  const aliases = addresses.map(({ alias }) => alias);
  return {
    resources: [serviceResource(`${namespace}/${hostname}`, value, aliases)],
    diagnostics: attachment.diagnostics,
  };
}

export function wireAddresses(addresses: readonly NetworkAddressParts[]): NonNullable<ServiceInit['addresses']> {
  return addresses.map(({ network, address, length }) =>
    length === undefined ? { network, address } : { network, address, length },
  );
}

/** The first waypoint, and with a canary both with their shares of 100. */
export function wireWaypoints({
  waypoint,
  canary,
}: Pick<Attachment, 'waypoint' | 'canary'>): Pick<ServiceInit, 'waypoint' | 'weightedWaypoints'> {
  if (waypoint === undefined) return {};
  if (canary === undefined) return { waypoint: waypoint.address };
  return {
    waypoint: waypoint.address,
    weightedWaypoints: [
      { destination: waypoint.address, weight: 100 - canary.weight },
      { destination: canary.waypoint.address, weight: canary.weight },
    ],
  };
}

function virtualAddresses({ spec }: ServiceObject): string[] {
  return spec.clusterIPs.filter(text => text !== '' && text !== 'None');
}

function badAddressOf(service: ServiceObject): string | undefined {
  return virtualAddresses(service).find(text => parseIp(text) === undefined);
}

function ipFamilies(families: readonly string[]): IPFamilies {
  if (families.length === 2) return IPFamilies.DUAL;
  if (families.length !== 1) return IPFamilies.AUTOMATIC;
  return families[0] === 'IPv4' ? IPFamilies.IPV4_ONLY : IPFamilies.IPV6_ONLY;
}

function badAddress(service: ServiceObject, text: string): Diagnostic {
  return {
    code: 'service.bad_address',
    severity: 'error',
    message: `"${text}" is not an IP address, so the service is not in the mesh`,
    remedy: 'correct spec.clusterIPs',
    ref: refOf(service),
    path: 'spec.clusterIPs',
  };
}
