// Shares equal values between workloads. A decoder makes a fresh string for every field of every resource; the pods of
// one deployment differ only in name, uid, address and node, so keeping one copy of the rest saves most of the memory
// of a large mesh. Pools are bounded: a full pool is emptied, which costs sharing and never correctness.
import { formatGatewayDestination, type GatewayAddress } from './gateway.ts';
import { createWorkload, type Locality, type PortMap, type Workload } from './workload.ts';

const POOL_LIMIT = 65_536;

class Pool<V> {
  readonly #values = new Map<string, V>();

  share(key: string, value: V): V {
    const present = this.#values.get(key);
    if (present !== undefined) return present;
    if (this.#values.size >= POOL_LIMIT) this.#values.clear();
    this.#values.set(key, value);
    return value;
  }
}

export class WorkloadInterner {
  readonly #texts = new Pool<string>();
  readonly #localities = new Pool<Locality>();
  readonly #portMaps = new Pool<PortMap>();
  readonly #serviceMaps = new Pool<ReadonlyMap<string, PortMap>>();
  readonly #gateways = new Pool<GatewayAddress>();
  readonly #lists = new Pool<readonly string[]>();

  /** An equal workload whose repeated parts are shared with others. */
  share(workload: Workload): Workload {
    return createWorkload({
      uid: workload.uid,
      name: workload.name,
      namespace: this.#text(workload.namespace),
      serviceAccount: this.#text(workload.serviceAccount),
      trustDomain: this.#text(workload.trustDomain),
      clusterId: this.#text(workload.clusterId),
      workloadIps: workload.workloadIps,
      protocol: workload.protocol,
      networkMode: workload.networkMode,
      network: this.#text(workload.network),
      node: this.#text(workload.node),
      hostname: workload.hostname,
      workloadName: this.#text(workload.workloadName),
      workloadType: this.#text(workload.workloadType),
      canonicalName: this.#text(workload.canonicalName),
      canonicalRevision: this.#text(workload.canonicalRevision),
      nativeTunnel: workload.nativeTunnel,
      applicationTunnel: workload.applicationTunnel,
      authorizationPolicies: this.#list(workload.authorizationPolicies),
      status: workload.status,
      locality: this.#locality(workload.locality),
      capacity: workload.capacity,
      waypoint: this.#gateway(workload.waypoint),
      networkGateway: this.#gateway(workload.networkGateway),
      services: this.#services(workload.services),
    });
  }

  #text(text: string): string {
    return text === '' ? '' : this.#texts.share(text, text);
  }

  #list(list: readonly string[]): readonly string[] {
    return this.#lists.share(JSON.stringify(list), list);
  }

  #locality(locality: Locality): Locality {
    return this.#localities.share(JSON.stringify([locality.region, locality.zone, locality.subzone]), locality);
  }

  #gateway(gateway: GatewayAddress | undefined): GatewayAddress | undefined {
    if (gateway === undefined) return undefined;
    const { destination } = gateway;
    const key = `${destination.kind} ${gateway.hboneMtlsPort} ${formatGatewayDestination(destination)}`;
    return this.#gateways.share(key, gateway);
  }

  #services(services: ReadonlyMap<string, PortMap>): ReadonlyMap<string, PortMap> {
    const shared = new Map<string, PortMap>();
    const keys: string[] = [];
    for (const [service, ports] of services) {
      const portsKey = [...ports].join(' ');
      shared.set(this.#text(service), this.#portMaps.share(portsKey, ports));
      keys.push(service, portsKey);
    }
    return this.#serviceMaps.share(JSON.stringify(keys), shared);
  }
}
