// Who is related to whom: the indexes that translations look things up in, and that tell who must be translated again.
// They hold references between entries and nothing derived, so replacing an object keeps them right by itself.
import { isDeepStrictEqual } from 'node:util';
import type { EndpointSliceObject, KubeObject, Labels, ServiceEntryObject } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { AddressPool } from './address-pool.ts';
import { namedCanary, namedWaypoint } from './attachment.ts';
import { podsNamedBy, serviceNameOf } from './endpoint-slice.ts';
import { GroupMap } from './group-map.ts';
import { type HostClaim, HostTable } from './host-table.ts';
import type { AnyEntry, Entry } from './object-store.ts';
import { SelectorIndex } from './selector-index.ts';
import { hostnameOf, isMeshService } from './service.ts';
import { addressesNamedBy, hostsOfServiceEntry, hostsToAllocate } from './service-entry.ts';
import { LABEL } from './well-known.ts';

export type ServiceLike = Entry<'Service'> | Entry<'ServiceEntry'>;

export class Relations {
  readonly hosts = new HostTable();
  readonly pool = new AddressPool();
  readonly podsOfNode = new GroupMap<Entry<'Pod'>>();
  /** By `namespace/service`. */
  readonly slicesOfService = new GroupMap<Entry<'EndpointSlice'>>();
  /** By namespace and name of a pod: the slices that name it. */
  readonly #slicesOfPod = new Map<string, GroupMap<Entry<'EndpointSlice'>>>();
  /** By `namespace/gateway`: who names it as a waypoint or is an instance of it, by labels of its own. */
  readonly usersOfGateway = new GroupMap<AnyEntry>();
  /** By `namespace/gateway`: namespaces whose label names it. */
  readonly namespacesOfGateway = new GroupMap<string>();
  readonly gatewaysOfClass = new GroupMap<Entry<'Gateway'>>();
  readonly #selecting = new Map<string, SelectorIndex<ServiceLike>>();
  readonly #settings: MeshSettings;

  constructor(settings: MeshSettings) {
    this.#settings = settings;
  }

  /** Services and ServiceEntries of a namespace whose non-empty selector matches. */
  selecting(namespace: string, labels: Labels): readonly ServiceLike[] {
    return this.#selecting.get(namespace)?.matching(labels) ?? [];
  }

  /** Slices of Services that name a pod so, whichever pod of that name they mean. */
  slicesNaming(namespace: string, pod: string): Iterable<Entry<'EndpointSlice'>> {
    return this.#slicesOfPod.get(namespace)?.get(pod) ?? [];
  }

  /** Tells that the entry's object was `before` and is `after`; undefined: it was, or is, not there. */
  replace(entry: AnyEntry, before: KubeObject | undefined, after: KubeObject | undefined): void {
    if (before !== undefined) this.#forEach(entry, before, 'remove');
    if (after !== undefined) this.#forEach(entry, after, 'add');
    if (isServiceLike(entry)) this.#reclaim(entry, before, after);
    this.#reallocate(before, after);
  }

  #forEach(entry: AnyEntry, object: KubeObject, verb: 'add' | 'remove'): void {
    const { name, labels } = object.metadata;
    for (const gateway of gatewaysNamedBy(object)) this.usersOfGateway[verb](gateway, entry);
    switch (entry.object.kind) {
      case 'Namespace':
        for (const gateway of gatewaysNamedIn(labels, name)) this.namespacesOfGateway[verb](gateway, name);
        break;
      case 'Pod':
        if (object.kind === 'Pod') this.podsOfNode[verb](object.spec.nodeName, entry as Entry<'Pod'>);
        break;
      case 'EndpointSlice':
        if (object.kind === 'EndpointSlice') this.#slice(entry as Entry<'EndpointSlice'>, object, verb);
        break;
      case 'Gateway':
        if (object.kind === 'Gateway')
          this.gatewaysOfClass[verb](object.spec.gatewayClassName, entry as Entry<'Gateway'>);
        break;
      case 'Service':
      case 'ServiceEntry':
        this.#select(entry as ServiceLike, object, verb);
        break;
      default:
    }
  }

  #slice(entry: Entry<'EndpointSlice'>, object: EndpointSliceObject, verb: 'add' | 'remove'): void {
    const service = serviceNameOf(object);
    if (service === undefined) return;
    this.slicesOfService[verb](`${object.metadata.namespace}/${service}`, entry);
    for (const { namespace, name } of podsNamedBy(object)) {
      let slices = this.#slicesOfPod.get(namespace);
      if (slices === undefined) this.#slicesOfPod.set(namespace, (slices = new GroupMap()));
      slices[verb](name, entry);
      if (slices.isEmpty) this.#slicesOfPod.delete(namespace);
    }
  }

  #select(entry: ServiceLike, object: KubeObject, verb: 'add' | 'remove'): void {
    const { namespace } = object.metadata;
    const selector = selectorOf(object);
    if (selector === undefined) return;
    let index = this.#selecting.get(namespace);
    if (index === undefined) this.#selecting.set(namespace, (index = new SelectorIndex()));
    index[verb](entry, selector);
    if (index.isEmpty) this.#selecting.delete(namespace);
  }

  /** Claims of hosts that stay are kept, so that a change of something else does not look like a change of standing. */
  #reclaim(entry: ServiceLike, before: KubeObject | undefined, after: KubeObject | undefined): void {
    const hostnames = after === undefined ? [] : hostnamesOf(after, this.#settings);
    const old = new Map(entry.claims.map(claim => [claim.hostname, claim]));
    const isSameAge = before?.metadata.creationTime === after?.metadata.creationTime;
    entry.claims = hostnames.map((hostname): HostClaim => {
      const kept = old.get(hostname);
      if (kept !== undefined) {
        old.delete(hostname);
        if (!isSameAge) this.hosts.touch(kept);
        return kept;
      }
      const { namespace } = entry.object.metadata;
      const key = `${namespace}/${hostname}`;
      const claim: HostClaim = { hostname, namespace, key, entry, survives: false, isCanonical: false };
      this.hosts.add(claim);
      return claim;
    });
    for (const claim of old.values()) this.hosts.remove(claim);
  }

  /** New wishes first: a host that keeps its wish then never loses its address in between. */
  #reallocate(before: KubeObject | undefined, after: KubeObject | undefined): void {
    if (after?.kind === 'ServiceEntry') {
      for (const ip of addressesNamedBy(after)) this.pool.reserve(ip);
      for (const key of keysToAllocate(after)) this.pool.acquire(key);
    }
    if (before?.kind === 'ServiceEntry') {
      for (const key of keysToAllocate(before)) this.pool.release(key);
      for (const ip of addressesNamedBy(before)) this.pool.unreserve(ip);
    }
  }
}

export function isServiceLike(entry: AnyEntry): entry is ServiceLike {
  return entry.object.kind === 'Service' || entry.object.kind === 'ServiceEntry';
}

/** The non-empty selector of a Service or ServiceEntry: an empty one selects nothing. */
export function selectorOf(object: KubeObject): Labels | undefined {
  const selector =
    object.kind === 'Service'
      ? object.spec.selector
      : object.kind === 'ServiceEntry'
        ? object.spec.workloadSelector
        : undefined;
  return selector === undefined || Object.keys(selector).length === 0 ? undefined : selector;
}

/**
 * Whether workloads are bound to two states of a Service or ServiceEntry in the same way. A claim that gains or loses
 * against another one is told by the host table; one that is given up (ExternalName, an unreadable address) is told here.
 */
export function bindsAlike(a: KubeObject, b: KubeObject): boolean {
  if (a.kind === 'Service' && b.kind === 'Service') {
    if (isMeshService(a) !== isMeshService(b)) return false;
    return isDeepStrictEqual([a.spec.selector, a.spec.ports], [b.spec.selector, b.spec.ports]);
  }
  if (a.kind === 'ServiceEntry' && b.kind === 'ServiceEntry') {
    const parts = ({ spec }: ServiceEntryObject): unknown => [
      spec.workloadSelector,
      spec.ports,
      spec.hosts,
      spec.addresses,
    ];
    return isDeepStrictEqual(parts(a), parts(b));
  }
  return false;
}

function hostnamesOf(object: KubeObject, settings: MeshSettings): readonly string[] {
  if (object.kind === 'ServiceEntry') return hostsOfServiceEntry(object);
  if (object.kind !== 'Service' || !isMeshService(object)) return [];
  return [hostnameOf(object.metadata.namespace, object.metadata.name, settings.clusterDomain)];
}

function keysToAllocate(entry: ServiceEntryObject): string[] {
  return hostsToAllocate(entry).map(host => `${entry.metadata.namespace}/${host}`);
}

function gatewaysNamedBy(object: KubeObject): ReadonlySet<string> {
  const { namespace, labels } = object.metadata;
  switch (object.kind) {
    case 'Pod':
    case 'Service':
      return gatewaysNamedIn(labels, namespace);
    case 'WorkloadEntry':
      return gatewaysNamedIn({ ...labels, ...object.spec.labels }, namespace);
    case 'ServiceEntry': {
      const found = new Set(gatewaysNamedIn(labels, namespace));
      for (const endpoint of object.spec.endpoints) {
        for (const gateway of gatewaysNamedIn(endpoint.labels, namespace)) found.add(gateway);
      }
      return found;
    }
    default:
      return NO_GATEWAYS;
  }
}

const NO_GATEWAYS: ReadonlySet<string> = new Set();

function gatewaysNamedIn(labels: Labels, namespace: string): ReadonlySet<string> {
  const primary = namedWaypoint(labels, namespace);
  const canary = namedCanary(labels, namespace);
  const instanceOf = labels[LABEL.gatewayName] ?? '';
  if (primary === undefined && canary === undefined && instanceOf === '') return NO_GATEWAYS;
  const found = new Set<string>();
  if (primary !== undefined && primary !== 'none') found.add(`${primary.namespace}/${primary.name}`);
  if (canary !== undefined) found.add(`${canary.namespace}/${canary.name}`);
  if (instanceOf !== '') found.add(`${namespace}/${instanceOf}`);
  return found;
}
