// Services by key, name, address and block, and who their endpoints are. Endpoints are kept apart from the service they
// belong to and never filtered here: a service that is pushed again, deleted and re-added, or changes its health policy
// finds all of them again.
import type { Ip } from './address.ts';
import { CidrIndex } from './cidr-index.ts';
import { MultiMap, NetworkMultiMap } from './multi-map.ts';
import { type NetworkAddress, type Service, serviceKey } from './service.ts';
import type { Workload } from './workload.ts';

const NO_CONTRIBUTIONS: ReadonlyMap<string, Workload> = new Map();

export class ServiceIndex {
  readonly #byKey = new Map<string, Service>();
  readonly #byHostname = new MultiMap<string, Service>();
  readonly #byVip = new NetworkMultiMap<Ip, Service>();
  readonly #byCidr = new CidrIndex<Service>();
  readonly #contributions = new Map<string, Map<string, Workload>>();

  /** What stays the same of a service that is there is exchanged in place: see `MultiMap.replace`. */
  upsert(service: Service): void {
    const key = serviceKey(service);
    const previous = this.#byKey.get(key);
    this.#byKey.set(key, service);
    if (previous === undefined) this.#byHostname.add(service.hostname, service);
    else this.#byHostname.replace(service.hostname, previous, service);
    const before = previous === undefined ? [] : uniqueVips(previous);
    const after = uniqueVips(service);
    for (const vip of after) {
      if (previous !== undefined && hasVip(before, vip)) this.#byVip.replace(vip.network, vip.ip, previous, service);
      else this.#byVip.add(vip.network, vip.ip, service);
    }
    if (previous !== undefined) {
      for (const vip of before) if (!hasVip(after, vip)) this.#byVip.delete(vip.network, vip.ip, previous);
      for (const block of previous.cidrVips) this.#byCidr.delete(block.network, block.cidr, previous);
    }
    for (const block of service.cidrVips) this.#byCidr.add(block.network, block.cidr, service);
  }

  remove(key: string): Service | undefined {
    const service = this.#byKey.get(key);
    if (service === undefined) return undefined;
    this.#byKey.delete(key);
    this.#byHostname.delete(service.hostname, service);
    for (const vip of uniqueVips(service)) this.#byVip.delete(vip.network, vip.ip, service);
    for (const block of service.cidrVips) this.#byCidr.delete(block.network, block.cidr, service);
    return service;
  }

  /** Replaces what one workload contributes to services. */
  moveEndpoints(previous: Workload | undefined, next: Workload | undefined): void {
    for (const key of previous?.services.keys() ?? []) {
      const members = this.#contributions.get(key);
      // A service the workload stays with has its entry overwritten below.
      if (members === undefined || previous === undefined || next?.services.has(key) === true) continue;
      members.delete(previous.uid);
      if (members.size === 0) this.#contributions.delete(key);
    }
    for (const key of next?.services.keys() ?? []) {
      if (next === undefined) continue;
      let members = this.#contributions.get(key);
      if (members === undefined) {
        members = new Map();
        this.#contributions.set(key, members);
      }
      members.set(next.uid, next);
    }
  }

  /** The workloads that name the service, by uid. */
  contributors(key: string): ReadonlyMap<string, Workload> {
    return this.#contributions.get(key) ?? NO_CONTRIBUTIONS;
  }

  byKey(key: string): Service | undefined {
    return this.#byKey.get(key);
  }

  byHostname(hostname: string): readonly Service[] {
    return this.#byHostname.get(hostname);
  }

  bestByHostname(hostname: string, clientNamespace: string | undefined): Service | undefined {
    return bestOf(this.#byHostname.get(hostname), clientNamespace);
  }

  bestByVip(network: string, ip: Ip, clientNamespace: string | undefined): Service | undefined {
    const exact = bestOf(this.#byVip.get(network, ip), clientNamespace);
    if (exact !== undefined) return exact;
    let best: Service | undefined;
    let bestLength = -1;
    for (const { value, length } of this.#byCidr.find(network, ip)) {
      if (!isVisible(value, clientNamespace)) continue;
      if (best === undefined || compareClaims(value, length, best, bestLength, clientNamespace) < 0) {
        best = value;
        bestLength = length;
      }
    }
    return best;
  }

  values(): Iterable<Service> {
    return this.#byKey.values();
  }

  get size(): number {
    return this.#byKey.size;
  }
}

/** A service that lists an address twice must not be indexed twice, or removing it would have to be told so. */
function uniqueVips(service: Service): readonly NetworkAddress[] {
  if (service.vips.length < 2) return service.vips;
  return service.vips.filter((vip, index) => service.vips.findIndex(other => isSameVip(other, vip)) === index);
}

function hasVip(vips: readonly NetworkAddress[], vip: NetworkAddress): boolean {
  return vips.some(other => isSameVip(other, vip));
}

function isSameVip(a: NetworkAddress, b: NetworkAddress): boolean {
  return a.ip === b.ip && a.network === b.network;
}

function bestOf(candidates: readonly Service[], clientNamespace: string | undefined): Service | undefined {
  let best: Service | undefined;
  for (const candidate of candidates) {
    if (!isVisible(candidate, clientNamespace)) continue;
    if (best === undefined || compareClaims(candidate, 0, best, 0, clientNamespace) < 0) best = candidate;
  }
  return best;
}

function isVisible(service: Service, clientNamespace: string | undefined): boolean {
  return service.visibility === 'Public' || clientNamespace === undefined || service.namespace === clientNamespace;
}

/**
 * Negative when `a` has the better claim: the client's namespace, then the longer prefix, then canonical. The key decides
 * what is left, so that every node gives the same answer whatever order it was told in.
 */
function compareClaims(
  a: Service,
  aLength: number,
  b: Service,
  bLength: number,
  namespace: string | undefined,
): number {
  const byNamespace = Number(b.namespace === namespace) - Number(a.namespace === namespace);
  if (byNamespace !== 0) return byNamespace;
  if (aLength !== bLength) return bLength - aLength;
  const byCanonical = Number(b.canonical) - Number(a.canonical);
  if (byCanonical !== 0) return byCanonical;
  return serviceKey(a) < serviceKey(b) ? -1 : 1;
}
