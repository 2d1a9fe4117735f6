// WorkloadEntry -> workload, and what endpoints of ServiceEntries share with it: both describe a machine by hand.
import { WorkloadStatus, WorkloadType } from '@ambit/wire/resources';
import { parseIp } from '@ambit/mesh';
import { type Labels, refOf, type WorkloadEntryObject, type WorkloadEntrySpec } from '../objects/types.ts';
import { type Translation, type WorkloadInit, workloadResource } from './draft.ts';
import { localityOfText } from './locality.ts';
import { canonicalName, canonicalRevision } from './names.ts';
import { addressOf } from './network-address.ts';
import { portsOnEntry } from './ports.ts';
import type { BoundService, Surroundings } from './surroundings.ts';
import type { Waypoint } from './waypoint.ts';
import { ANNOTATION, LABEL } from './well-known.ts';
import { placeBehindWaypoint, policiesOf, serviceMap, tunnelOf, wireTrustDomain } from './workload-parts.ts';

export interface HandWritten {
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly workloadName: string;
  /** For policies, tunnel and telemetry. */
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly spec: WorkloadEntrySpec;
  readonly services: readonly BoundService[];
  readonly waypoint: Waypoint | undefined;
  readonly tunnel: WorkloadInit['applicationTunnel'];
}

/** Labels of the object and of its body count alike; the object's own win. */
export function entryLabels({ metadata, spec }: WorkloadEntryObject): Labels {
  return Object.keys(spec.labels).length === 0 ? metadata.labels : { ...spec.labels, ...metadata.labels };
}

export function translateWorkloadEntry(entry: WorkloadEntryObject, around: Surroundings): Translation {
  const { namespace, name, annotations } = entry.metadata;
  const labels = entryLabels(entry);
  const place = placeBehindWaypoint(refOf(entry), labels, around);
  const resource = handWrittenWorkload(
    {
      uid: `${around.settings.clusterId}/networking.istio.io/WorkloadEntry/${namespace}/${name}`,
      name,
      namespace,
      workloadName: annotations[ANNOTATION.autoRegistrationGroup] ?? labels[LABEL.workloadName] ?? name,
      labels,
      annotations,
      spec: entry.spec,
      services: around.servicesSelecting(namespace, labels),
      waypoint: place.waypoint,
      tunnel: place.tunnel,
    },
    around,
  );
  return { resources: [resource], diagnostics: place.diagnostics };
}

export function handWrittenWorkload(from: HandWritten, around: Surroundings): Translation['resources'][number] {
  const { spec, namespace, labels, waypoint } = from;
  // An own network is this endpoint's alone; upstream lets it leak to the endpoints after it, which is a bug.
  const network = spec.network === '' ? around.network : spec.network;
  const ip = parseIp(spec.address);
  const address = ip === undefined ? undefined : addressOf(network, ip);
  const { keys, map } = serviceMap(from.services, service => portsOnEntry(service.ports, spec.ports));
  const value = {
    uid: from.uid,
    name: from.name,
    namespace,
    addresses: address === undefined ? [] : [address.address],
    hostname: address === undefined ? spec.address : '',
    network,
    ...tunnelOf(labels, from.annotations),
    trustDomain: wireTrustDomain(around),
    serviceAccount: spec.serviceAccount,
    waypoint: waypoint?.address,
    canonicalName: canonicalName(labels, from.workloadName),
    canonicalRevision: canonicalRevision(labels),
    workloadType: WorkloadType.POD,
    workloadName: from.workloadName,
    authorizationPolicies: policiesOf(namespace, labels, from.services, waypoint, around),
    status: WorkloadStatus.HEALTHY,
    clusterId: around.settings.clusterId,
    networkGateway: around.networkGateway(network),
    services: map,
    applicationTunnel: from.tunnel,
    locality: localityOfText(spec.locality),
    ...(spec.weight > 0 ? { capacity: spec.weight } : {}),
  };
  return workloadResource(from.uid, value, address === undefined ? [] : [address.alias], keys, '');
}
