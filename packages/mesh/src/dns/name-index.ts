// Services by the names DNS knows them by, in lower case, with wildcards apart, so that no question looks through the mesh.
// Follows the mesh change by change once somebody asks, and notes which names a change concerns: only what an answer
// depends on counts, so pods that come and go behind a service with an address of its own concern none.
import type { NetworkAddress, Service } from '../service.ts';
import { serviceKey } from '../service.ts';
import { MultiMap } from '../multi-map.ts';
import type { ServiceEndpoint } from '../view.ts';
import type { Workload } from '../workload.ts';
import type { ServiceNames } from './service-names.ts';
import type { StaleNames } from './types.ts';

export interface NameIndexDeps {
  readonly serviceByKey: (key: string) => Service | undefined;
  readonly endpoints: (service: Service) => readonly ServiceEndpoint[];
}

type EndpointsByName = ReadonlyMap<string, readonly ServiceEndpoint[]>;

const WILDCARD = '*.';
/** Labels noted before everything counts as stale; above this a set costs more than asking again. */
const MAX_LABELS = 4096;
const NO_ENDPOINTS: readonly ServiceEndpoint[] = [];

export class NameIndex implements ServiceNames {
  readonly #deps: NameIndexDeps;
  readonly #exact = new MultiMap<string, Service>();
  /** By what follows `*.`. */
  readonly #wildcards = new MultiMap<string, Service>();
  /** Services that list endpoints themselves: those do not name them in return. */
  readonly #declaring = new Set<Service>();
  /** Endpoints of services without an address, by their own names; made when first asked for. */
  readonly #endpointNames = new Map<string, EndpointsByName>();
  #staleLabels: Set<string> | 'all' = new Set();

  constructor(deps: NameIndexDeps, services: Iterable<Service>) {
    this.#deps = deps;
    for (const service of services) this.#exchange(undefined, service);
  }

  named(name: string): readonly Service[] {
    return this.#exact.get(name);
  }

  covering(suffix: string): readonly Service[] {
    return this.#wildcards.get(suffix);
  }

  get hasWildcards(): boolean {
    return this.#wildcards.size > 0;
  }

  endpointsNamed(service: Service, name: string): readonly ServiceEndpoint[] {
    const key = serviceKey(service);
    let names = this.#endpointNames.get(key);
    if (names === undefined) {
      names = namesOf(this.#deps.endpoints(service));
      this.#endpointNames.set(key, names);
    }
    return names.get(name) ?? NO_ENDPOINTS;
  }

  /** A service was added, replaced (both given; their keys are equal) or removed. */
  serviceChanged(previous: Service | undefined, next: Service | undefined): void {
    this.#exchange(previous, next);
    const service = next ?? previous;
    if (service === undefined || (previous !== undefined && next !== undefined && answersAlike(previous, next))) return;
    this.#note(service);
  }

  /** A workload was added, replaced or removed. */
  workloadChanged(previous: Workload | undefined, next: Workload | undefined): void {
    const workload = next ?? previous;
    if (workload === undefined || (previous !== undefined && next !== undefined && isKnownAlike(previous, next)))
      return;
    for (const key of previous?.services.keys() ?? []) this.#noteEndpointsOf(this.#deps.serviceByKey(key));
    for (const key of next?.services.keys() ?? []) this.#noteEndpointsOf(this.#deps.serviceByKey(key));
    for (const service of this.#declaring) if (service.endpoints.has(workload.uid)) this.#noteEndpointsOf(service);
  }

  /** What changed since the last call; undefined when nothing did that an answer could depend on. */
  takeStale(): StaleNames | undefined {
    const labels = this.#staleLabels;
    if (labels !== 'all' && labels.size === 0) return undefined;
    this.#staleLabels = new Set();
    return labels === 'all' ? { kind: 'all' } : { kind: 'labels', labels };
  }

  #exchange(previous: Service | undefined, next: Service | undefined): void {
    const host = (next ?? previous)?.hostname.toLowerCase() ?? '';
    const isWildcard = host.startsWith(WILDCARD);
    const index = isWildcard ? this.#wildcards : this.#exact;
    const key = isWildcard ? host.slice(WILDCARD.length) : host;
    if (previous !== undefined && next !== undefined) index.replace(key, previous, next);
    else if (previous !== undefined) index.delete(key, previous);
    else if (next !== undefined) index.add(key, next);
    if (previous !== undefined) this.#declaring.delete(previous);
    if (next !== undefined && next.endpoints.size > 0) this.#declaring.add(next);
  }

  #noteEndpointsOf(service: Service | undefined): void {
    // Of a service that is not here yet nobody was told anything; when it comes it is noted itself.
    if (service !== undefined && service.vips.length === 0) this.#note(service);
  }

  #note(service: Service): void {
    this.#endpointNames.delete(serviceKey(service));
    if (this.#staleLabels === 'all') return;
    const [first = ''] = service.hostname.toLowerCase().split('.', 1);
    if (first === '*' || this.#staleLabels.size >= MAX_LABELS) this.#staleLabels = 'all';
    else this.#staleLabels.add(first);
  }
}

function namesOf(endpoints: readonly ServiceEndpoint[]): EndpointsByName {
  const names = new Map<string, ServiceEndpoint[]>();
  for (const endpoint of endpoints) {
    const { name, hostname } = endpoint.workload;
    for (const each of new Set([name.toLowerCase(), hostname.toLowerCase()])) {
      if (each === '') continue;
      const present = names.get(each);
      if (present === undefined) names.set(each, [endpoint]);
      else present.push(endpoint);
    }
  }
  return names;
}

function answersAlike(a: Service, b: Service): boolean {
  return (
    a.canonical === b.canonical &&
    a.visibility === b.visibility &&
    a.ipFamilies === b.ipFamilies &&
    a.loadBalancer?.healthPolicy === b.loadBalancer?.healthPolicy &&
    (a.endpoints === b.endpoints || (a.endpoints.size === 0 && b.endpoints.size === 0)) &&
    isSameList(a.vips, b.vips, (x: NetworkAddress, y) => x.ip === y.ip && x.network === y.network)
  );
}

function isKnownAlike(a: Workload, b: Workload): boolean {
  return (
    a.name === b.name &&
    a.hostname === b.hostname &&
    a.status === b.status &&
    a.network === b.network &&
    isSameList(a.workloadIps, b.workloadIps, (x, y) => x === y) &&
    (a.services === b.services ||
      (a.services.size === b.services.size && [...a.services.keys()].every(key => b.services.has(key))))
  );
}

function isSameList<T>(a: readonly T[], b: readonly T[], isSame: (x: T, y: T) => boolean): boolean {
  return (
    a === b ||
    (a.length === b.length &&
      a.every((x, index) => {
        const y = b[index];
        return y !== undefined && isSame(x, y);
      }))
  );
}
