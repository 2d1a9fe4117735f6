// Short ways to say what tests are about: addresses, ports, workloads, services and meshes made of them.
import {
  createService,
  createWorkload,
  type GatewayAddress,
  type Ip,
  type LoadBalancer,
  MeshState,
  type MeshStateOptions,
  type NetworkAddress,
  type Policy,
  type PortMap,
  parseGatewayDestination,
  parseIp,
  parseSocketAddress,
  policyKey,
  type Service,
  type SocketAddress,
  type Workload,
} from '../src/index.ts';

export function ip(text: string): Ip {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
}

export function at(text: string): SocketAddress {
  const parsed = parseSocketAddress(text);
  if (parsed === undefined) throw new Error(`not a socket address: ${text}`);
  return parsed;
}

export function ports(entries: Readonly<Record<number, number>>): PortMap {
  return new Map(Object.entries(entries).map(([from, to]) => [Number(from), to]));
}

/** `network/ip` or `namespace/hostname`. */
export function gateway(destination: string, hboneMtlsPort = 15008): GatewayAddress {
  const parsed = parseGatewayDestination(destination);
  if (parsed === undefined) throw new Error(`not a gateway: ${destination}`);
  return { destination: parsed, hboneMtlsPort };
}

/** `network/ip`, as in local files. */
export function vip(text: string): NetworkAddress {
  const slash = text.indexOf('/');
  return { network: text.slice(0, slash), ip: ip(text.slice(slash + 1)) };
}

type WorkloadFields = Omit<Partial<Workload>, 'workloadIps' | 'services'> & {
  readonly ips?: readonly string[];
  readonly services?: Readonly<Record<string, Readonly<Record<number, number>>>>;
};

/** A pod in namespace `ns` with the identity spiffe://cluster.local/ns/ns/sa/NAME. */
export function pod(name: string, fields: WorkloadFields = {}): Workload {
  const { ips = [], services = {}, ...rest } = fields;
  const namespace = rest.namespace ?? 'ns';
  return createWorkload({
    uid: `cluster1//Pod/${namespace}/${name}`,
    name,
    namespace,
    serviceAccount: name,
    trustDomain: 'cluster.local',
    workloadIps: ips.map(ip),
    services: new Map(Object.entries(services).map(([key, map]) => [key, ports(map)])),
    ...rest,
  });
}

type ServiceFields = Omit<Partial<Service>, 'vips' | 'ports'> & {
  readonly vips?: readonly string[];
  readonly ports?: Readonly<Record<number, number>>;
};

/** A service `name.ns.svc.cluster.local` in namespace `ns`. */
export function service(name: string, fields: ServiceFields = {}): Service {
  const { vips = [], ports: portFields = {}, ...rest } = fields;
  const namespace = rest.namespace ?? 'ns';
  return createService({
    name,
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    vips: vips.map(vip),
    ports: ports(portFields),
    ...rest,
  });
}

export function balancer(
  mode: LoadBalancer['mode'],
  routingPreferences: LoadBalancer['routingPreferences'] = [],
  healthPolicy: LoadBalancer['healthPolicy'] = 'OnlyHealthy',
): LoadBalancer {
  return { mode, routingPreferences, healthPolicy };
}

export function mesh(
  content: {
    readonly workloads?: readonly Workload[];
    readonly services?: readonly Service[];
    readonly policies?: readonly Policy[];
  },
  options?: MeshStateOptions,
): MeshState {
  const state = new MeshState(options);
  state.applyBatch({
    upsertWorkloads: content.workloads ?? [],
    upsertServices: content.services ?? [],
    upsertPolicies: (content.policies ?? []).map(policy => ({ key: policyKey(policy), policy })),
  });
  return state;
}

/** Uniform numbers from a seed (mulberry32): a failing draw can be repeated. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
