// ServiceEntry -> one service for each of its hosts that is in force, and one workload for each of its endpoints.
import { Visibility } from '@ambit/wire/resources';
import { type Ip, parseIp } from '@ambit/mesh';
import type { Diagnostic } from '../diagnostic.ts';
import { refOf, type ServiceEntryObject, type WorkloadEntrySpec } from '../objects/types.ts';
import { ingressUsesWaypoint, serviceAttachment } from './attachment.ts';
import { serviceResource, type Translation } from './draft.ts';
import { loadBalancingOfServiceEntry } from './load-balancing.ts';
import { addressOf, addressOfCidr, type NetworkAddressParts } from './network-address.ts';
import { appProtocolOfEntry } from './ports.ts';
import type { XdsResource } from './resource.ts';
import { wireAddresses, wireWaypoints } from './service.ts';
import type { BoundService, Surroundings } from './surroundings.ts';
import { LABEL } from './well-known.ts';
import { handWrittenWorkload } from './workload-entry.ts';
import { placeBehindWaypoint } from './workload-parts.ts';

const DNS_RESOLUTIONS: ReadonlySet<string> = new Set(['DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS']);

/** The hosts it claims: all, each once; none when an address of it cannot be read, because then it is no service. */
export function hostsOfServiceEntry({ spec }: ServiceEntryObject): readonly string[] {
  if (spec.addresses.some(text => addressOfCidr('', text) === undefined)) return [];
  return [...new Set(spec.hosts)];
}

/** The hosts that want an automatic address of ours: nobody gave them one, and one would be of use. */
export function hostsToAllocate(entry: ServiceEntryObject): readonly string[] {
  return hostsOfServiceEntry(entry).filter(
    host => mayAllocate(entry, host) && statusAddresses(entry, host).length === 0,
  );
}

/** Single addresses that the object itself names: they are not given to others. */
export function addressesNamedBy({ spec, status }: ServiceEntryObject): readonly Ip[] {
  return [...spec.addresses, ...status.addresses.map(({ value }) => value)].map(parseIp).filter(ip => ip !== undefined);
}

function mayAllocate({ metadata, spec }: ServiceEntryObject, host: string): boolean {
  if (spec.addresses.length > 0 || spec.resolution === 'NONE') return false;
  if (metadata.labels[LABEL.autoAllocate]?.toLowerCase() === 'false') return false;
  return !host.startsWith('*') || spec.resolution === 'DYNAMIC_DNS';
}

function statusAddresses({ status }: ServiceEntryObject, host: string): readonly Ip[] {
  return status.addresses
    .filter(address => address.host === host)
    .map(({ value }) => parseIp(value))
    .filter(ip => ip !== undefined);
}

export function translateServiceEntry(entry: ServiceEntryObject, around: Surroundings): Translation {
  const bad = entry.spec.addresses.find(text => addressOfCidr('', text) === undefined);
  if (bad !== undefined) return { resources: [], diagnostics: [badAddress(entry, bad)] };
  const bound = around.servicesOfEntry(entry.metadata.namespace, entry.metadata.name);
  const services = serviceResources(entry, bound, around);
  const endpoints = endpointResources(entry, bound, around);
  return {
    resources: [...services.resources, ...endpoints.resources],
    diagnostics: [...displaced(entry, bound), ...services.diagnostics, ...endpoints.diagnostics],
  };
}

function serviceResources(
  entry: ServiceEntryObject,
  bound: readonly BoundService[],
  around: Surroundings,
): Translation {
  const { metadata, spec } = entry;
  const { namespace, name, labels, annotations } = metadata;
  const attachment = serviceAttachment({ ref: refOf(entry), labels, annotations, traffic: 'service' }, around);
  const owner = around.namespace(namespace)?.metadata;
  const own = spec.addresses.map(text => addressOfCidr(around.network, text)).filter(address => address !== undefined);
  const resources = bound.map(({ key }): XdsResource => {
    const hostname = key.slice(namespace.length + 1);
    const addresses = own.length > 0 ? own : automaticAddresses(entry, hostname, key, around);
    const value = {
      name,
      namespace,
      hostname,
      addresses: wireAddresses(addresses),
      ports: spec.ports.map(port => ({
        servicePort: port.number,
        targetPort: port.targetPort === 0 ? port.number : port.targetPort,
        appProtocol: appProtocolOfEntry(port.protocol),
      })),
      subjectAltNames: [...spec.subjectAltNames],
      ...wireWaypoints(attachment),
      loadBalancing: loadBalancingOfServiceEntry(entry, owner?.annotations ?? {}),
      canonical: around.standing('ServiceEntry', namespace, name, hostname) === 'canonical',
      ingressUseWaypoint: attachment.waypoint !== undefined && ingressUsesWaypoint(labels, owner?.labels ?? {}),
      visibility: Visibility.PUBLIC,
    };
    return serviceResource(
      key,
      value,
      addresses.map(({ alias }) => alias),
    );
  });
  return { resources, diagnostics: attachment.diagnostics };
}

function automaticAddresses(
  entry: ServiceEntryObject,
  host: string,
  key: string,
  around: Surroundings,
): readonly NetworkAddressParts[] {
  if (!mayAllocate(entry, host)) return [];
  const written = statusAddresses(entry, host);
  return (written.length > 0 ? written : around.allocatedAddresses(key)).map(ip => addressOf(around.network, ip));
}

function endpointResources(
  entry: ServiceEntryObject,
  bound: readonly BoundService[],
  around: Surroundings,
): Translation {
  const { metadata } = entry;
  const resources = new Map<string, XdsResource>();
  const diagnostics: Diagnostic[] = [];
  for (const { endpoint, services, isImplicit, index } of endpointsOf(entry, bound)) {
    const uid = `${around.settings.clusterId}/networking.istio.io/ServiceEntry/${metadata.namespace}/${metadata.name}/${endpoint.address}`;
    if (resources.has(uid)) diagnostics.push(duplicate(entry, endpoint.address, index));
    const place = isImplicit
      ? { waypoint: undefined, tunnel: undefined, diagnostics: [] }
      : placeBehindWaypoint(refOf(entry), endpoint.labels, around);
    diagnostics.push(...place.diagnostics);
    const { name, namespace, labels, annotations } = metadata;
    const from = { uid, name, namespace, workloadName: name, labels, annotations, spec: endpoint, services };
    resources.set(uid, handWrittenWorkload({ ...from, waypoint: place.waypoint, tunnel: place.tunnel }, around));
  }
  return { resources: [...resources.values()], diagnostics };
}

interface EndpointOfEntry {
  readonly endpoint: WorkloadEntrySpec;
  readonly services: readonly BoundService[];
  readonly isImplicit: boolean;
  readonly index: number;
}

/** What is written down; else, for names that DNS resolves, each host is its own endpoint. */
function endpointsOf({ metadata, spec }: ServiceEntryObject, bound: readonly BoundService[]): EndpointOfEntry[] {
  // All hosts of it lost against others: its endpoints answer for nothing.
  if (bound.length === 0) return [];
  if (spec.endpoints.length > 0) {
    return spec.endpoints.map((endpoint, index) => ({ endpoint, services: bound, isImplicit: false, index }));
  }
  if (spec.workloadSelector !== undefined || !DNS_RESOLUTIONS.has(spec.resolution)) return [];
  return bound.map((service, index) => ({
    endpoint: {
      address: service.key.slice(metadata.namespace.length + 1),
      ports: {},
      labels: {},
      network: '',
      locality: '',
      weight: 0,
      serviceAccount: '',
    },
    services: [service],
    isImplicit: true,
    index,
  }));
}

function displaced(entry: ServiceEntryObject, bound: readonly BoundService[]): Diagnostic[] {
  const inForce = new Set(bound.map(({ key }) => key));
  const lost = hostsOfServiceEntry(entry).filter(host => !inForce.has(`${entry.metadata.namespace}/${host}`));
  return lost.map(host => ({
    code: 'service_entry.host_taken',
    severity: 'error',
    message: `host ${host} belongs to a Service or an older ServiceEntry of the same namespace`,
    remedy: 'remove the host here, or the other object',
    ref: refOf(entry),
    path: 'spec.hosts',
  }));
}

function badAddress(entry: ServiceEntryObject, text: string): Diagnostic {
  return {
    code: 'service_entry.bad_address',
    severity: 'error',
    message: `"${text}" is neither an IP address nor a CIDR block, so the whole object has no effect`,
    remedy: 'correct or remove the address',
    ref: refOf(entry),
    path: `spec.addresses[${entry.spec.addresses.indexOf(text)}]`,
  };
}

function duplicate(entry: ServiceEntryObject, address: string, index: number): Diagnostic {
  return {
    code: 'service_entry.duplicate_endpoint',
    severity: 'warning',
    message: `endpoint "${address}" is there twice; the last one counts`,
    remedy: 'remove one of the two',
    ref: refOf(entry),
    path: `spec.endpoints[${index}].address`,
  };
}
