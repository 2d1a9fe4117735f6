// EndpointSlice -> workloads for the endpoints that are no pods: addresses somebody wrote down, of which nothing is known
// but that they answer for a Service. They may be shared, so they count as host-network addresses.
import { NetworkMode, WorkloadStatus } from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import { type EndpointSliceObject, type PodObject, refOf } from '../objects/types.ts';
import { NO_TRANSLATION, type Translation, workloadResource } from './draft.ts';
import { addressOf, parseAll } from './network-address.ts';
import { type BoundPort, type PortPair, portsOfService } from './ports.ts';
import type { XdsResource } from './resource.ts';
import { hostnameOf, isMeshService } from './service.ts';
import type { Surroundings } from './surroundings.ts';
import { LABEL } from './well-known.ts';
import { wireTrustDomain } from './workload-parts.ts';

/** The Service a slice belongs to, by name; undefined when it belongs to none that the mesh could use. */
export function serviceNameOf(slice: EndpointSliceObject): string | undefined {
  return slice.addressType === 'FQDN' ? undefined : slice.metadata.labels[LABEL.serviceName];
}

export function translateEndpointSlice(slice: EndpointSliceObject, around: Surroundings): Translation {
  const { namespace, name } = slice.metadata;
  const serviceName = serviceNameOf(slice);
  if (serviceName === undefined || slice.endpoints.every(isPod)) return NO_TRANSLATION;
  const service = around.service(namespace, serviceName);
  if (service === undefined || !isMeshService(service)) return NO_TRANSLATION;
  const { settings, network } = around;
  const key = `${namespace}/${hostnameOf(namespace, serviceName, settings.clusterDomain)}`;
  const ports = joinedPorts(slice, portsOfService(service));
  const resources = new Map<string, XdsResource>();
  const diagnostics: Diagnostic[] = [];
  for (const [index, endpoint] of slice.endpoints.entries()) {
    const [first] = endpoint.addresses;
    if (isPod(endpoint) || first === undefined) continue;
    const uid = `${settings.clusterId}/discovery.k8s.io/EndpointSlice/${namespace}/${name}/${first}`;
    if (resources.has(uid)) continue;
    const parsed = parseAll(endpoint.addresses);
    if ('bad' in parsed) {
      diagnostics.push(badAddress(slice, index, parsed.bad));
      continue;
    }
    const addresses = parsed.ips.map(ip => addressOf(network, ip));
    const value = {
      uid,
      name,
      namespace,
      addresses: addresses.map(({ address }) => address),
      network,
      trustDomain: wireTrustDomain(around),
      status: endpoint.ready === false ? WorkloadStatus.UNHEALTHY : WorkloadStatus.HEALTHY,
      clusterId: settings.clusterId,
      services: { [key]: { ports } },
      networkMode: NetworkMode.HOST_NETWORK,
    };
    const aliases = addresses.map(({ alias }) => alias);
    resources.set(uid, workloadResource(uid, value, aliases, [key], ''));
  }
  return { resources: [...resources.values()], diagnostics };
}

/** The pods that a slice of a Service names, in whatever namespace; a pod may be there twice. */
export function podsNamedBy(slice: EndpointSliceObject): readonly PodTarget[] {
  if (serviceNameOf(slice) === undefined) return [];
  return slice.endpoints.flatMap(({ targetRef }) => (targetRef?.kind === 'Pod' ? [targetRef] : []));
}

/** Whether a slice means this pod: a pod of the same name may have come after the one it means. */
export function namesPod(slice: EndpointSliceObject, { metadata }: PodObject): boolean {
  return slice.endpoints.some(
    ({ targetRef }) =>
      targetRef?.kind === 'Pod' &&
      targetRef.name === metadata.name &&
      targetRef.namespace === metadata.namespace &&
      targetRef.uid === metadata.uid,
  );
}

type PodTarget = NonNullable<EndpointSliceObject['endpoints'][number]['targetRef']>;

function isPod({ targetRef }: EndpointSliceObject['endpoints'][number]): boolean {
  return targetRef?.kind === 'Pod';
}

/** A slice's ports carry the Service's port names and the real target numbers. */
function joinedPorts(slice: EndpointSliceObject, servicePorts: readonly BoundPort[]): PortPair[] {
  const pairs: PortPair[] = [];
  for (const { name, port, protocol } of slice.ports) {
    if (protocol !== 'TCP') continue;
    const match = servicePorts.find(servicePort => servicePort.name === name);
    if (match !== undefined) pairs.push({ servicePort: match.servicePort, targetPort: port });
  }
  return pairs;
}

function badAddress(slice: EndpointSliceObject, index: number, text: string): Diagnostic {
  return {
    code: 'endpoint_slice.bad_address',
    severity: 'error',
    message: `"${text}" is not an IP address, so this endpoint is left out`,
    remedy: 'correct the address',
    ref: refOf(slice),
    path: `endpoints[${index}].addresses`,
  };
}
