// The answers to what translations ask (surroundings.ts), from the store, its relations, and the little that is derived
// once for everybody: waypoints, network, gateways of networks, which policies workloads list.
import type { Ip } from '@ambit/mesh';
import { type AuthorizationInit, Scope } from '@ambit/wire/resources';
import {
  type Labels,
  type NamespaceObject,
  type NodeObject,
  type PeerAuthenticationObject,
  type PodObject,
  refOf,
  type ServiceObject,
} from '../objects/types.ts';
import { peerAuthenticationAttachments } from '../policies/index.ts';
import type { MeshSettings } from '../settings.ts';
import { serviceAttachment } from './attachment.ts';
import { namesPod, serviceNameOf } from './endpoint-slice.ts';
import type { GatewayAddressParts } from './gateway-address.ts';
import type { ObjectStore } from './object-store.ts';
import { type BoundPort, portsOfService, portsOfServiceEntry } from './ports.ts';
import type { Relations, ServiceLike } from './relations.ts';
import { SelectorIndex } from './selector-index.ts';
import type { BoundService, HostStanding, Surroundings } from './surroundings.ts';
import { inboundBinding, type InboundBinding, type Waypoint } from './waypoint.ts';
import { allowPolicyKey } from './waypoint-policy.ts';

export class Lookup implements Surroundings {
  readonly settings: MeshSettings;
  network = '';
  /** By `namespace/gateway`. */
  readonly waypoints = new Map<string, Waypoint>();
  readonly networkGateways = new Map<string, GatewayAddressParts>();
  readonly #store: ObjectStore;
  readonly #relations: Relations;
  readonly #policies = new Map<string, SelectorIndex<string>>();
  readonly #peerAuthentications = new Map<string, readonly PeerAuthenticationObject[]>();
  readonly #ports = new WeakMap<object, readonly BoundPort[]>();

  constructor(settings: MeshSettings, store: ObjectStore, relations: Relations) {
    this.settings = settings;
    this.#store = store;
    this.#relations = relations;
  }

  namespace(name: string): NamespaceObject | undefined {
    return this.#store.get('Namespace', '', name)?.object;
  }

  node(name: string): NodeObject | undefined {
    return this.#store.get('Node', '', name)?.object;
  }

  service(namespace: string, name: string): ServiceObject | undefined {
    return this.#store.get('Service', namespace, name)?.object;
  }

  waypoint(namespace: string, name: string): Waypoint | undefined {
    return this.waypoints.get(`${namespace}/${name}`);
  }

  applicationTunnel(namespace: string, gateway: string): InboundBinding | undefined {
    const found = this.#store.get('Gateway', namespace, gateway)?.object;
    // Before it has an address nothing is sent through it, so its instances are ordinary pods.
    if (found === undefined || !this.waypoints.has(`${namespace}/${gateway}`)) return undefined;
    return inboundBinding(found, this.#store.get('GatewayClass', '', found.spec.gatewayClassName)?.object);
  }

  networkGateway(network: string): GatewayAddressParts | undefined {
    return this.networkGateways.get(network);
  }

  servicesSelecting(namespace: string, labels: Labels): readonly BoundService[] {
    const found = this.#relations.selecting(namespace, labels);
    return found.length === 0 ? NO_SERVICES : found.flatMap(entry => this.#boundServices(entry));
  }

  servicesNaming(pod: PodObject, selecting: readonly BoundService[]): readonly BoundService[] {
    const { namespace, name } = pod.metadata;
    let found: Map<string, BoundService> | undefined;
    for (const { object: slice } of this.#relations.slicesNaming(namespace, name)) {
      const service = this.#store.get('Service', slice.metadata.namespace, serviceNameOf(slice) ?? '');
      const [bound] = service === undefined ? [] : this.#boundServices(service);
      // The usual case: a slice that Kubernetes made of the selector.
      if (bound === undefined || selecting.some(({ key }) => key === bound.key) || !namesPod(slice, pod)) continue;
      (found ??= new Map()).set(bound.key, bound);
    }
    return found === undefined ? NO_SERVICES : [...found.values()];
  }

  servicesOfEntry(namespace: string, name: string): readonly BoundService[] {
    const entry = this.#store.get('ServiceEntry', namespace, name);
    return entry === undefined ? NO_SERVICES : this.#boundServices(entry);
  }

  standing(kind: 'Service' | 'ServiceEntry', namespace: string, name: string, hostname: string): HostStanding {
    const claim = this.#store.get(kind, namespace, name)?.claims.find(one => one.hostname === hostname);
    if (claim?.survives !== true) return 'displaced';
    return claim.isCanonical ? 'canonical' : 'local';
  }

  policies(namespace: string, labels: Labels): readonly string[] {
    const { rootNamespace } = this.settings;
    const own = this.#policies.get(namespace)?.matching(labels) ?? [];
    const root = namespace === rootNamespace ? [] : (this.#policies.get(rootNamespace)?.matching(labels) ?? []);
    const listed = [...own, ...root].sort();
    const relevant = this.#relevantPeerAuthentications(namespace);
    if (relevant.length === 0) return listed;
    return [...listed, ...peerAuthenticationAttachments({ namespace, labels }, relevant, this.settings)];
  }

  allocatedAddresses(hostKey: string): readonly Ip[] {
    return this.settings.allocateAddresses ? this.#relations.pool.addressesOf(hostKey) : NOTHING;
  }

  listPolicy(namespace: string, key: string, selector: Labels): void {
    let index = this.#policies.get(namespace);
    if (index === undefined) this.#policies.set(namespace, (index = new SelectorIndex()));
    index.add(key, selector);
  }

  unlistPolicy(namespace: string, key: string, selector: Labels): void {
    const index = this.#policies.get(namespace);
    index?.remove(key, selector);
    if (index?.isEmpty === true) this.#policies.delete(namespace);
  }

  forgetPeerAuthentications(): void {
    this.#peerAuthentications.clear();
  }

  #relevantPeerAuthentications(namespace: string): readonly PeerAuthenticationObject[] {
    let relevant = this.#peerAuthentications.get(namespace);
    if (relevant === undefined) {
      const { rootNamespace } = this.settings;
      const entries = [...this.#store.in('PeerAuthentication', namespace)];
      if (namespace !== rootNamespace) entries.push(...this.#store.in('PeerAuthentication', rootNamespace));
      relevant = entries.map(({ object }) => object);
      this.#peerAuthentications.set(namespace, relevant);
    }
    return relevant;
  }

  #boundServices(entry: ServiceLike): BoundService[] {
    const inForce = entry.claims.filter(({ survives }) => survives);
    if (inForce.length === 0) return [];
    const { object } = entry;
    const ports = this.#portsOf(object);
    const waypointPolicy = this.settings.autoAllowWaypoints ? this.#waypointPolicy(entry) : '';
    const isServiceEntry = object.kind === 'ServiceEntry';
    return inForce.map(({ key }) => ({ key, isServiceEntry, ports, waypointPolicy }));
  }

  #portsOf(object: ServiceLike['object']): readonly BoundPort[] {
    let ports = this.#ports.get(object);
    if (ports === undefined) {
      ports = object.kind === 'Service' ? portsOfService(object) : portsOfServiceEntry(object);
      this.#ports.set(object, ports);
    }
    return ports;
  }

  #waypointPolicy({ object }: ServiceLike): string {
    const { labels, annotations } = object.metadata;
    const { waypoint } = serviceAttachment({ ref: refOf(object), labels, annotations, traffic: 'service' }, this);
    return waypoint === undefined ? '' : allowPolicyKey(waypoint);
  }
}

/** The selector by which workloads list a policy; undefined when they do not list it. */
export function listedSelector(
  authorization: AuthorizationInit | undefined,
  selector: Labels | undefined,
): Labels | undefined {
  return authorization?.scope === Scope.WORKLOAD_SELECTOR ? (selector ?? undefined) : undefined;
}

const NO_SERVICES: readonly BoundService[] = [];

const NOTHING: readonly never[] = [];
