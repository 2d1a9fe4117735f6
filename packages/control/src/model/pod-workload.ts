// Pod -> workload. A pod that has ended or has no address yet is none; one that is still starting is one, unhealthy.
import { NetworkMode, WorkloadStatus, WorkloadType } from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import { type PodObject, refOf } from '../objects/types.ts';
import { NO_TRANSLATION, type Translation, workloadResource } from './draft.ts';
import { localityOfNode } from './locality.ts';
import { canonicalName, canonicalRevision, podWorkloadName } from './names.ts';
import { addressOf, parseAll } from './network-address.ts';
import { portsOnPod } from './ports.ts';
import type { Surroundings } from './surroundings.ts';
import { placeBehindWaypoint, policiesOf, serviceMap, tunnelOf, wireTrustDomain } from './workload-parts.ts';

/** Whether the pod is over and will not run again. */
export function hasEnded({ status }: PodObject): boolean {
  return status.phase === 'Succeeded' || status.phase === 'Failed';
}

export function translatePod(pod: PodObject, around: Surroundings): Translation {
  const { metadata, spec, status } = pod;
  if (hasEnded(pod) || status.podIPs.length === 0) return NO_TRANSLATION;
  const parsed = parseAll(status.podIPs);
  if ('bad' in parsed) return { resources: [], diagnostics: [badAddress(pod, parsed.bad)] };
  const { labels, annotations, namespace, name } = metadata;
  const { settings, network } = around;
  const addresses = parsed.ips.map(ip => addressOf(network, ip));
  const selecting = around.servicesSelecting(namespace, labels);
  const services = [...selecting, ...around.servicesNaming(pod, selecting)];
  const { keys, map } = serviceMap(services, service => portsOnPod(service.ports, service.isServiceEntry, spec.ports));
  const { waypoint, tunnel, diagnostics } = placeBehindWaypoint(refOf(pod), labels, around);
  const workloadName = podWorkloadName(pod);
  const uid = `${settings.clusterId}//Pod/${namespace}/${name}`;
  const value = {
    uid,
    name,
    namespace,
    addresses: addresses.map(({ address }) => address),
    network,
    ...tunnelOf(labels, annotations),
    trustDomain: wireTrustDomain(around),
    serviceAccount: spec.serviceAccountName,
    waypoint: waypoint?.address,
    node: spec.nodeName,
    canonicalName: canonicalName(labels, workloadName),
    canonicalRevision: canonicalRevision(labels),
    workloadType: WorkloadType.POD,
    workloadName,
    authorizationPolicies: policiesOf(namespace, labels, services, waypoint, around),
    status: status.isReady && !metadata.isDeleting ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: settings.clusterId,
    networkGateway: around.networkGateway(network),
    services: map,
    applicationTunnel: tunnel,
    locality: localityOfNode(around.node(spec.nodeName)),
    networkMode: spec.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
  };
  const aliases = addresses.map(({ alias }) => alias);
  return { resources: [workloadResource(uid, value, aliases, keys, spec.nodeName)], diagnostics };
}

function badAddress(pod: PodObject, text: string): Diagnostic {
  return {
    code: 'pod.bad_address',
    severity: 'error',
    message: `"${text}" is not an IP address, so the pod is not in the mesh`,
    remedy: 'write an IPv4 or IPv6 address in status.podIPs',
    ref: refOf(pod),
    path: 'status.podIPs',
  };
}
