// Prints what decisions cost, for comparing two revisions on one machine; it asserts nothing. Run it with
// `node --expose-gc packages/mesh/bench/mesh.ts`. The names follow the upstream benchmarks they answer.
import {
  authorize,
  compilePolicies,
  createMatch,
  createService,
  createWorkload,
  type Ip,
  MeshState,
  type Policy,
  parseIp,
  pickHop,
  resolveName,
  resolveOutbound,
  type Service,
  type Workload,
} from '../src/index.ts';

const WARM_UP_MS = 100;
const MEASURE_MS = 400;

function ip(text: string): Ip {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
}

function measure(name: string, run: () => unknown): void {
  const until = (deadline: number): number => {
    let runs = 0;
    while (performance.now() < deadline) {
      run();
      runs++;
    }
    return runs;
  };
  until(performance.now() + WARM_UP_MS);
  const start = performance.now();
  const runs = until(start + MEASURE_MS);
  const microseconds = ((performance.now() - start) * 1000) / runs;
  console.log(`${name.padEnd(44)} ${microseconds.toPrecision(3).padStart(9)} µs`);
}

/** Strings as a decoder makes them: fresh for each workload. */
function fresh(text: string): string {
  return Buffer.from(text).toString();
}

function endpoint(index: number, serviceOf: string): Workload {
  return createWorkload({
    uid: fresh(`Kubernetes//Pod/shop/cart-${index}`),
    name: fresh(`cart-${index}`),
    namespace: fresh('shop'),
    serviceAccount: fresh('cart'),
    trustDomain: fresh('cluster.local'),
    clusterId: fresh('Kubernetes'),
    workloadIps: [ip(`10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`)],
    protocol: 'HBONE',
    network: fresh('network'),
    node: fresh(`node-${index % 500}`),
    workloadName: fresh('cart'),
    workloadType: fresh('deployment'),
    canonicalName: fresh('cart'),
    canonicalRevision: fresh('v1'),
    locality: { region: fresh('r'), zone: fresh(`z${index % 3}`), subzone: '' },
    services: new Map([[fresh(serviceOf), new Map([[80, 8080]])]]),
  });
}

function cart(index: number, more: Partial<Service> = {}): Service {
  return createService({
    name: `cart-${index}`,
    namespace: 'shop',
    hostname: `cart-${index}.shop`,
    vips: [{ network: 'network', ip: ip(`172.16.${(index >> 8) & 255}.${index & 255}`) }],
    ports: new Map([[80, 8080]]),
    ...more,
  });
}

function balancing(): void {
  for (const size of [10, 1000, 10_000]) {
    for (const locality of [false, true]) {
      const loadBalancer = {
        routingPreferences: ['Network', 'Region', 'Zone', 'Subzone'] as const,
        mode: 'Failover' as const,
        healthPolicy: 'OnlyHealthy' as const,
      };
      const state = new MeshState();
      state.applyBatch({
        upsertServices: [cart(0, locality ? { loadBalancer } : {})],
        upsertWorkloads: Array.from({ length: size }, (_, index) => endpoint(index, 'shop/cart-0.shop')),
      });
      const self = state.workloadByUid('Kubernetes//Pod/shop/cart-0');
      const input = {
        source: { ip: ip('10.0.0.0'), port: 1 },
        destination: { ip: ip('172.16.0.0'), port: 80 },
        pod: { name: 'cart-0', namespace: 'shop', serviceAccount: 'cart' },
        self,
        network: 'network',
        illegalPorts: new Set<number>(),
      };
      const kind = locality ? 'locality' : 'basic';
      measure(`load_balance/${kind}-${size} route (once, then cached)`, () => resolveOutbound(state, input));
      const route = resolveOutbound(state, input);
      if (route.kind !== 'hops') throw new Error('no route');
      measure(`load_balance/${kind}-${size} draw (each connection)`, () => pickHop(route, Math.random));
    }
  }
}

function addresses(): void {
  const count = 10_000;
  const exact = new MeshState();
  exact.applyBatch({ upsertServices: Array.from({ length: count }, (_, index) => cart(index)) });
  const blocks = new MeshState();
  blocks.applyBatch({
    upsertServices: Array.from({ length: count }, (_, index) =>
      cart(index, {
        vips: [],
        cidrVips: [
          {
            network: 'network',
            cidr: { ip: ip(`${20 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}.0`), length: 24 },
          },
        ],
      }),
    ),
  });
  const [hit, inBlock, miss] = [ip('172.16.3.4'), ip('20.7.7.7'), ip('9.9.9.9')];
  measure(`vip_match/exact-hit-${count}`, () => exact.serviceByVip('network', hit, 'shop'));
  measure(`vip_match/exact-miss-${count}`, () => exact.serviceByVip('network', miss, 'shop'));
  measure(`vip_match/cidr-hit-${count}`, () => blocks.serviceByVip('network', inBlock, 'shop'));
  measure(`vip_match/cidr-miss-${count}`, () => blocks.serviceByVip('network', miss, 'shop'));
}

function policies(): void {
  const request = {
    sourceIp: ip('10.0.0.1'),
    identity: { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' },
    destinationIp: ip('10.0.0.2'),
    destinationPort: 8080,
  };
  const deny = (index: number, matchOf: (rule: number) => ReturnType<typeof createMatch>): Policy => ({
    name: `p${index}`,
    namespace: 'shop',
    scope: 'Namespace',
    action: 'Deny',
    dryRun: false,
    rules: Array.from({ length: 10 }, (_, rule) => [[matchOf(rule)]]),
  });
  const shapes = {
    'by principal': (rule: number) => createMatch({ principals: [{ kind: 'exact', value: `x/ns/a/sa/b${rule}` }] }),
    'by namespace': (rule: number) => createMatch({ namespaces: [{ kind: 'exact', value: `other-${rule}` }] }),
    'by block (no index helps)': (rule: number) =>
      createMatch({ sourceIps: [{ ip: ip(`192.168.${rule}.0`), length: 24 }] }),
  };
  for (const [name, matchOf] of Object.entries(shapes)) {
    const all = Array.from({ length: 10_000 }, (_, index) => deny(index, matchOf));
    const set = compilePolicies(all);
    measure(`rbac/10000 DENY x 10 rules, ${name}`, () => authorize(set, request));
  }
}

function memory(): void {
  const collect = globalThis.gc;
  const state = new MeshState();
  collect?.();
  const before = process.memoryUsage().heapUsed;
  const start = performance.now();
  const total = 100_000;
  for (let first = 0; first < total; first += 1000) {
    state.applyBatch({
      upsertWorkloads: Array.from({ length: 1000 }, (_, index) =>
        endpoint(first + index, `shop/cart-${(first + index) % 5000}.shop`),
      ),
    });
  }
  const elapsedMs = performance.now() - start;
  collect?.();
  const perWorkload = (process.memoryUsage().heapUsed - before) / total;
  console.log(`insert 100 000 workloads in ${elapsedMs.toFixed(0)} ms, ${perWorkload.toFixed(0)} bytes of heap each`);
  const churn = endpoint(5, 'shop/cart-5.shop');
  measure('replace one workload of 100 000', () => state.applyBatch({ upsertWorkloads: [churn] }));
}

/** The bar: what a question costs that a worker has not kept the answer of, with 20 000 services and 100 wildcards. */
function names(): void {
  const at = (index: number): { readonly vips: readonly [{ readonly network: string; readonly ip: Ip }] } => ({
    vips: [{ network: 'network', ip: ip(`10.96.${index >> 8}.${index & 255}`) }],
  });
  const kube = (index: number): Service =>
    cart(index, {
      ...at(index),
      namespace: `ns-${index % 200}`,
      hostname: `cart-${index}.ns-${index % 200}.svc.cluster.local`,
    });
  const state = new MeshState();
  state.applyBatch({
    upsertServices: Array.from({ length: 20_100 }, (_, index) =>
      index < 20_000 ? kube(index) : cart(index, { ...at(index), hostname: `*.w${index}.example.com` }),
    ),
  });
  const start = performance.now();
  void state.names;
  console.log(`index 20 100 host names in ${(performance.now() - start).toFixed(0)} ms`);
  const client = { namespace: 'ns-5', network: 'network' };
  const settings = {
    clusterDomain: 'cluster.local',
    ipv6: true,
    preferredNamespace: undefined,
    searchDomains: undefined,
  };
  const ask = (name: string) => () => resolveName(state, client, { name, type: 'A' }, settings);
  measure('names/20000 as asked', ask('cart-205.ns-5.svc.cluster.local'));
  measure('names/20000 short', ask('cart-205'));
  measure('names/20000 with a search domain', ask('cart-206.ns-6.ns-5.svc.cluster.local'));
  measure('names/20000 wildcard', ask('a.b.w20050.example.com'));
  measure('names/20000 unknown', ask('www.example.org'));
  measure('names/20000 unknown, with a search domain', ask('www.example.org.ns-5.svc.cluster.local'));
  const replaced = kube(7);
  measure('names/20000 replace one service', () => {
    state.applyBatch({ upsertServices: [replaced] });
    return state.takeStaleNames();
  });
}

memory();
names();
balancing();
addresses();
policies();
