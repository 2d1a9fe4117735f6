import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMatch, createWorkload, MeshState, policyKey } from '@ambit/mesh';
import { makeLeaf, makeRoot } from '../../../native/test/certificates.ts';
import { parseConfig } from '../config.ts';
import type { IdentityReport } from '../identity/certificate-state.ts';
import { readLocalConfig } from '../local-config/reader.ts';
import { configDump, type DumpDeps } from './config-dump.ts';
import type { ConnectionShape } from './live-connections.ts';
import type { PodReport } from './pod-shapes.ts';
import { Slicer } from './slicer.ts';
import type { WorkerAnswer } from './worker-questions.ts';

// The mesh of a recorded run of upstream, and what its /config_dump said of it.
const LOCAL = `
workloads:
- {uid: Kubernetes//Pod/shop/web-1, name: web-1, namespace: shop, serviceAccount: web, canonicalName: web, canonicalRevision: v1, workloadName: web, workloadType: deployment, clusterId: Kubernetes, workloadIps: ["10.77.0.1"], protocol: HBONE, node: n1, network: "", services: {}}
- {uid: Kubernetes//Pod/shop/cart-1, name: cart-1, namespace: shop, serviceAccount: cart, canonicalName: cart, canonicalRevision: v2, workloadName: cart, workloadType: deployment, clusterId: Kubernetes, workloadIps: ["10.77.0.2"], protocol: HBONE, node: n2, network: "", authorizationPolicies: [], services: {"shop/cart.shop.svc.cluster.local": {80: 5281}}}
policies:
- {name: no-5299, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: [[[{destinationPorts: [5299]}]]]}
services:
- {name: cart, namespace: shop, hostname: cart.shop.svc.cluster.local, vips: ["/10.96.0.11"], ports: {80: 5281}, canonical: true}
`;
const ENV = {
  PROXY_MODE: 'dedicated',
  PROXY_WORKLOAD_INFO: 'shop/cart-1/cart',
  NODE_NAME: 'n2',
  XDS_ADDRESS: '',
  IPV6_ENABLED: 'false',
  ENABLE_ORIG_SRC: 'false',
  ZTUNNEL_WORKER_THREADS: '2',
};
const base = { capacity: 1, clusterId: 'Kubernetes', namespace: 'shop', networkMode: 'Standard', protocol: 'HBONE' };
const UPSTREAM = {
  config: {
    adminAddr: { Localhost: [false, 15000] },
    altCaHostname: null,
    altXdsHostname: null,
    caAddress: null,
    caHeaders: [],
    clusterDomain: 'cluster.local',
    clusterId: 'Kubernetes',
    connectionWindowSize: 16777216,
    crlPath: null,
    enableEnhancedBaggage: true,
    frameSize: 1048576,
    inboundAddr: '0.0.0.0:15008',
    inboundPlaintextAddr: '0.0.0.0:15006',
    inpodPortReuse: true,
    inpodUds: '/var/run/ztunnel/ztunnel.sock',
    ipv6Enabled: false,
    localNode: 'n2',
    localhostAppTunnel: true,
    network: '',
    numWorkerThreads: 2,
    outboundAddr: '0.0.0.0:15001',
    packetMark: null,
    poolMaxStreamsPerConn: 100,
    poolUnusedReleaseTimeout: { nanos: 0, secs: 300 },
    preferedServiceNamespace: null,
    proxy: true,
    proxyMetadata: {},
    proxyMode: 'Dedicated',
    proxyWorkloadInformation: { name: 'cart-1', namespace: 'shop', serviceAccount: 'cart' },
    readinessAddr: { SocketAddr: '0.0.0.0:15021' },
    requireOriginalSource: false,
    secretTtl: { nanos: 0, secs: 86400 },
    selfTerminationDeadline: { nanos: 0, secs: 5 },
    socketConfig: {
      keepaliveEnabled: true,
      keepaliveInterval: { nanos: 0, secs: 180 },
      keepaliveRetries: 9,
      keepaliveTime: { nanos: 0, secs: 180 },
      userTimeoutEnabled: false,
    },
    socks5Addr: null,
    xdsAddress: null,
    xdsHeaders: [],
    xdsOnDemand: false,
  },
  policies: [
    {
      action: 'Deny',
      dryRun: false,
      name: 'no-5299',
      namespace: 'shop',
      rules: [[[{ destinationPorts: [5299] }]]],
      scope: 'Namespace',
    },
  ],
  services: [
    {
      canonical: true,
      endpoints: {
        'Kubernetes//Pod/shop/cart-1': {
          port: { 80: 5281 },
          status: 'Healthy',
          workloadUid: 'Kubernetes//Pod/shop/cart-1',
        },
      },
      hostname: 'cart.shop.svc.cluster.local',
      name: 'cart',
      namespace: 'shop',
      ports: { 80: 5281 },
      subjectAltNames: [],
      vips: ['/10.96.0.11'],
      visibility: 'Public',
    },
  ],
  workloads: [
    {
      ...base,
      canonicalName: 'cart',
      canonicalRevision: 'v2',
      name: 'cart-1',
      node: 'n2',
      serviceAccount: 'cart',
      status: 'Healthy',
      uid: 'Kubernetes//Pod/shop/cart-1',
      workloadIps: ['10.77.0.2'],
      workloadName: 'cart',
      workloadType: 'deployment',
    },
    {
      ...base,
      canonicalName: 'web',
      canonicalRevision: 'v1',
      name: 'web-1',
      node: 'n1',
      serviceAccount: 'web',
      status: 'Healthy',
      uid: 'Kubernetes//Pod/shop/web-1',
      workloadIps: ['10.77.0.1'],
      workloadName: 'web',
      workloadType: 'deployment',
    },
  ],
};

interface Dump {
  readonly certificates: readonly Record<string, unknown>[];
  readonly config: Record<string, unknown>;
  readonly policies: readonly unknown[];
  readonly services: readonly unknown[];
  readonly workloads: readonly Record<string, unknown>[];
  readonly xds: unknown;
  readonly stagedServices: unknown;
  readonly staticConfig: Record<string, unknown>;
  readonly workloadState: Record<string, unknown>;
}

function depsFor(state: MeshState, reports: readonly IdentityReport[] = [], env: NodeJS.ProcessEnv = ENV): DumpDeps {
  const config = parseConfig(env, { cores: 2, exists: () => false });
  return {
    state,
    config,
    certificates: { identityStates: () => reports },
    pods: () => [],
    workers: { count: 0, ask: async () => [] },
    staticMesh: async () => undefined,
    xds: () => undefined,
    version: '1',
  };
}

async function textOf(deps: DumpDeps): Promise<string> {
  let text = '';
  for await (const piece of configDump(deps, new Slicer())) text += piece;
  return text;
}

async function dump(deps: DumpDeps): Promise<Dump> {
  return JSON.parse(await textOf(deps)) as Dump;
}

function loadState(): MeshState {
  const mesh = readLocalConfig(LOCAL, 'local.yaml');
  const state = new MeshState();
  state.replaceAll({ ...mesh, policies: mesh.policies.map(policy => ({ key: policyKey(policy), policy })) });
  return state;
}

test('mesh and configuration are what upstream showed for the same input', async () => {
  const { config, policies, services, workloads } = await dump(depsFor(loadState()));
  assert.deepEqual(policies, UPSTREAM.policies);
  assert.deepEqual(services, UPSTREAM.services);
  // Of workloads from a file upstream forgets which services they are endpoints of; from xDS it shows them.
  assert.deepEqual(workloads[0]?.services, ['shop/cart.shop.svc.cluster.local']);
  assert.deepEqual(
    workloads.map(({ services: _services, ...rest }) => rest),
    UPSTREAM.workloads,
  );
  for (const [name, value] of Object.entries(UPSTREAM.config)) assert.deepEqual(config[name], value, name);
});

test('the text is pretty printed with keys in order at every level', async () => {
  const text = await textOf(depsFor(loadState()));
  const inOrder = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(inOrder);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return Object.fromEntries(entries.map(([key, each]) => [key, inOrder(each)]));
  };
  assert.equal(text, `${JSON.stringify(inOrder(JSON.parse(text)), undefined, 2)}\n`);
});

test('certificates show chain, roots, dates, decimal serial, next renewal and last error', async () => {
  const root = await makeRoot();
  const leaf = await makeLeaf(root, {
    notBefore: new Date('2026-01-02T03:04:05Z'),
    notAfter: new Date('2026-01-03T03:04:05Z'),
  });
  const report: IdentityReport = {
    identity: 'spiffe://td/ns/a/sa/b',
    state: 'available',
    priority: 'Background',
    certChainPem: leaf.certChainPem,
    rootsPem: root.certPem,
    notBeforeMs: 0,
    notAfterMs: 1,
    nextRenewalMs: Date.parse('2026-01-02T15:00:00.9Z'),
    lastError: { message: 'away', code: 'ca.unreachable', atMs: Date.parse('2026-01-02T14:00:00Z') },
  };
  const unavailable: IdentityReport = {
    ...report,
    state: 'unavailable',
    certChainPem: '',
    rootsPem: '',
    nextRenewalMs: undefined,
  };
  const { certificates } = await dump(depsFor(new MeshState(), [report, unavailable]));
  const [first, second] = certificates;
  assert.deepEqual(Object.keys(first ?? {}), [
    'certChain',
    'identity',
    'lastError',
    'nextRenewal',
    'rootCerts',
    'state',
  ]);
  assert.equal(first?.state, 'Available');
  assert.equal(first?.nextRenewal, '2026-01-02T15:00:00Z');
  assert.deepEqual(first?.lastError, { at: '2026-01-02T14:00:00Z', code: 'ca.unreachable', message: 'away' });
  const chain = (first?.certChain ?? []) as Readonly<Record<string, string>>[];
  const [shown] = chain;
  assert.deepEqual([shown?.validFrom, shown?.expirationTime], ['2026-01-02T03:04:05Z', '2026-01-03T03:04:05Z']);
  assert.match(shown?.serialNumber ?? '', /^\d+$/);
  const pem = Buffer.from(shown?.pem ?? '', 'base64').toString();
  assert.equal(pem.replaceAll('\n', ''), leaf.certChainPem.replaceAll('\n', ''));
  // Upstream writes the text itself, in shorter lines than OpenSSL.
  const [head = '', first60 = '', ...rest] = pem.split('\n');
  assert.deepEqual(
    [head, first60.length, rest.at(-2), rest.at(-1)],
    ['-----BEGIN CERTIFICATE-----', 60, '-----END CERTIFICATE-----', ''],
  );
  assert.equal(second?.state, 'Unavailable: away');
  assert.deepEqual(second?.certChain, []);
});

test('secrets of the configuration are not in it', async () => {
  const env = {
    NODE_NAME: 'n',
    AUTH_TOKEN: 'token-of-mine',
    XDS_HEADER_X_KEY: 'xds-secret',
    CA_HEADER_X_KEY: 'ca-secret',
  };
  const text = await textOf(depsFor(new MeshState(), [], env));
  assert.ok(text.includes('(secret)') && text.includes('https://localhost:15012'));
  for (const secret of ['token-of-mine', 'xds-secret', 'ca-secret']) assert.ok(!text.includes(secret), secret);
});

test('every kind of match has its form', async () => {
  const state = new MeshState();
  const match = createMatch({
    principals: [
      { kind: 'exact', value: 'a' },
      { kind: 'prefix', value: 'b' },
      { kind: 'suffix', value: 'c' },
      { kind: 'presence' },
      { kind: 'invalid', text: '?' },
    ],
    notServiceAccounts: [{ namespace: 'n', serviceAccount: 's' }],
    sourceIps: [{ kind: 'invalid', text: '!' }],
  });
  const policy = {
    name: 'p',
    namespace: 'n',
    scope: 'Global',
    action: 'Allow',
    dryRun: true,
    rules: [[[match]]],
  } as const;
  state.applyBatch({ upsertPolicies: [{ key: 'n/p', policy }] });
  const [shown] = (await dump(depsFor(state))).policies as { rules: unknown }[];
  assert.deepEqual(shown?.rules, [
    [
      [
        {
          notServiceAccounts: [{ namespace: 'n', serviceAccount: 's' }],
          principals: [{ Exact: 'a' }, { Prefix: 'b' }, { Suffix: 'c' }, { Presence: [] }, { Invalid: '?' }],
          sourceIps: [{ Invalid: '!' }],
        },
      ],
    ],
  ]);
});

test('a large mesh lets the event loop run in between, comes in order, and survives changes meanwhile', async () => {
  const state = new MeshState();
  const names = Array.from({ length: 20_000 }, (_, i) => `w-${(i * 7919) % 20_000}`);
  state.applyBatch({ upsertWorkloads: names.map(name => createWorkload({ uid: name, name, namespace: 'n' })) });
  let turns = 0;
  let isDone = false;
  const turn = (): void => {
    turns++;
    state.applyBatch({ removeWorkloads: [`w-${turns}`] });
    if (!isDone) setImmediate(turn);
  };
  setImmediate(turn);
  const { workloads } = await dump(depsFor(state));
  isDone = true;
  assert.ok(turns >= 5, String(turns));
  const uids = workloads.map(({ uid }) => String(uid));
  assert.deepEqual(uids, [...uids].sort());
  assert.ok(uids.length > 15_000);
});

test('pods are shown with the connections of all workers, pending ones without', async () => {
  const pod = (uid: string): PodReport['pod'] => ({ uid, name: `${uid}-1`, namespace: 'shop', serviceAccount: uid });
  const connection = (src: string): ConnectionShape => ({
    actualDst: '10.0.1.2:8080',
    originalDst: null,
    protocol: 'HBONE',
    src,
  });
  const answer = (inbound: readonly ConnectionShape[]): WorkerAnswer => ({
    kind: 'connections',
    pods: [{ uid: 'cart', inbound, outbound: [] }],
    leftOut: 0,
  });
  const { workloadState } = await dump({
    ...depsFor(new MeshState()),
    pods: () => [
      { pod: pod('cart'), state: 'Up' },
      { pod: pod('web'), state: 'Pending' },
      { pod: pod('cart'), state: 'Draining' },
    ],
    workers: {
      count: 2,
      ask: async () => [
        { worker: 0, answer: answer([connection('10.0.0.1:1')]) },
        { worker: 1, answer: answer([connection('10.0.0.1:2')]) },
      ],
    },
  });
  assert.deepEqual(workloadState, {
    cart: {
      connections: { inbound: [connection('10.0.0.1:1'), connection('10.0.0.1:2')], outbound: [] },
      info: { name: 'cart-1', namespace: 'shop', serviceAccount: 'cart' },
      state: 'Up',
    },
    web: { info: { name: 'web-1', namespace: 'shop', serviceAccount: 'web' }, state: 'Pending' },
  });
});

test('services that only workloads know are staged', async () => {
  const state = new MeshState();
  const services = new Map([['shop/cart.shop', new Map([[80, 8080]])]]);
  state.applyBatch({ upsertWorkloads: [createWorkload({ uid: 'w', name: 'w', namespace: 'shop', services })] });
  const { stagedServices } = await dump(depsFor(state));
  assert.deepEqual(stagedServices, {
    'shop/cart.shop': { w: { port: { 80: 8080 }, status: 'Healthy', workloadUid: 'w' } },
  });
});

test('the local configuration is shown as it is written now, or why it cannot be read', async () => {
  const mesh = readLocalConfig(LOCAL, 'local.yaml');
  const { staticConfig } = await dump({ ...depsFor(new MeshState()), staticMesh: async () => mesh });
  assert.deepEqual(staticConfig.policies, UPSTREAM.policies);
  assert.deepEqual(Object.keys(staticConfig), ['policies', 'services', 'workloads']);
  const broken = await dump({
    ...depsFor(new MeshState()),
    staticMesh: () => Promise.reject(new Error('local.yaml:3: unknown key')),
  });
  assert.deepEqual(broken.staticConfig, {
    error: 'local.yaml:3: unknown key',
    policies: [],
    services: [],
    workloads: [],
  });
});
