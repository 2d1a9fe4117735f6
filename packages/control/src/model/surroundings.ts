// What a translation may ask about the rest of the mesh. Everything it asks here is a dependency, and dependents.ts must
// know it: a translation that looks elsewhere would miss changes.
import type { ApplicationTunnel_Protocol } from '@ambit/wire/resources';
import type { Ip } from '@ambit/mesh';
import type { Labels, NamespaceObject, NodeObject, PodObject, ServiceObject } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import type { GatewayAddressParts } from './gateway-address.ts';
import type { BoundPort } from './ports.ts';
import type { Waypoint } from './waypoint.ts';

/** A service in force that a workload may be an endpoint of. */
export interface BoundService {
  /** `namespace/hostname`. */
  readonly key: string;
  readonly isServiceEntry: boolean;
  readonly ports: readonly BoundPort[];
  /** `namespace/name` of the policy that lets its waypoint through; empty when there is none. */
  readonly waypointPolicy: string;
}

/** Whether a host name of a Service or ServiceEntry is in force. */
export type HostStanding = 'displaced' | 'local' | 'canonical';

export interface Surroundings {
  readonly settings: MeshSettings;
  /** This cluster's network; often empty. */
  readonly network: string;
  namespace(name: string): NamespaceObject | undefined;
  node(name: string): NodeObject | undefined;
  service(namespace: string, name: string): ServiceObject | undefined;
  waypoint(namespace: string, name: string): Waypoint | undefined;
  /** What the gateway of that name wants for its own instances. */
  applicationTunnel(
    namespace: string,
    gateway: string,
  ): { readonly protocol: ApplicationTunnel_Protocol; readonly port: number } | undefined;
  networkGateway(network: string): GatewayAddressParts | undefined;
  /** Services of a namespace whose selector matches; the order says nothing. */
  servicesSelecting(namespace: string, labels: Labels): readonly BoundService[];
  /** Services, of any namespace, whose endpoint slices name the pod and that are not among those whose selector found it. */
  servicesNaming(pod: PodObject, selecting: readonly BoundService[]): readonly BoundService[];
  /** The hosts in force of one ServiceEntry, in its own order. */
  servicesOfEntry(namespace: string, name: string): readonly BoundService[];
  standing(kind: 'Service' | 'ServiceEntry', namespace: string, name: string, hostname: string): HostStanding;
  /** Policies that a workload must list, in the order they are sent. */
  policies(namespace: string, labels: Labels): readonly string[];
  allocatedAddresses(hostKey: string): readonly Ip[];
}
