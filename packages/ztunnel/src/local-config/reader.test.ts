import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ZtunnelError } from '../errors.ts';
import { readLocalConfig } from './reader.ts';

const read = (text: string) => readLocalConfig(text, 'mesh.yaml');

function refused(text: string, message: RegExp): void {
  assert.throws(
    () => read(text),
    error => {
      assert.ok(error instanceof ZtunnelError, String(error));
      assert.equal(error.code, 'config.invalid');
      assert.match(error.message, message);
      return true;
    },
  );
}

const GOLDEN = `workloads:
- {uid: Kubernetes//Pod/shop/web-1, name: web-1, namespace: shop, serviceAccount: web, canonicalName: web, canonicalRevision: v1, workloadName: web, workloadType: deployment, clusterId: Kubernetes, workloadIps: ["10.77.0.1"], protocol: HBONE, node: n1, network: "", services: {}}
- {uid: Kubernetes//Pod/shop/cart-1, name: cart-1, namespace: shop, serviceAccount: cart, workloadIps: ["10.77.0.2"], protocol: HBONE, node: n2, network: "", authorizationPolicies: [], services: {"shop/cart.shop.svc.cluster.local": {80: 5281}}}
policies:
- {name: no-5299, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: [[[{destinationPorts: [5299]}]]]}
services:
- {name: cart, namespace: shop, hostname: cart.shop.svc.cluster.local, vips: ["/10.96.0.11"], ports: {80: 5281}, canonical: true}
`;

test('the file that upstream was recorded with reads as upstream dumped it', () => {
  const mesh = read(GOLDEN);
  const [web, cart] = mesh.workloads;
  assert.equal(web?.uid, 'Kubernetes//Pod/shop/web-1');
  assert.equal(web?.workloadType, 'deployment');
  assert.equal(web?.capacity, 1);
  assert.equal(web?.trustDomain, '');
  assert.deepEqual(cart?.services.get('shop/cart.shop.svc.cluster.local'), new Map([[80, 5281]]));
  assert.deepEqual(mesh.policies[0]?.rules[0]?.[0]?.[0]?.destinationPorts, [5299]);
  assert.deepEqual(mesh.services[0]?.vips, [{ network: '', ip: '10.96.0.11' }]);
  assert.deepEqual(mesh.services[0]?.ports, new Map([[80, 5281]]));
});

test('defaults are those of the file format, not of the wire', () => {
  const workload = read('workloads: [{namespace: a, workloadIps: [], services: {}}]').workloads[0];
  assert.equal(workload?.serviceAccount, '');
  assert.equal(workload?.trustDomain, '');
  assert.equal(workload?.clusterId, '');
  assert.equal(workload?.protocol, 'TCP');
  assert.equal(workload?.networkMode, 'Standard');
  assert.equal(workload?.status, 'Healthy');
  assert.deepEqual(read('{}'), { workloads: [], policies: [], services: [] });
});

test('every documented field is understood', () => {
  const mesh = read(`
workloads:
- uid: u
  namespace: default
  workloadIps: ["127.0.0.1", "fd00::1"]
  networkMode: HostNetwork
  nativeTunnel: true
  applicationTunnel: {protocol: PROXY, port: null}
  status: Unhealthy
  locality: {region: r, zone: z, subzone: s}
  capacity: 3
  waypoint: {destination: "net/10.0.0.1", hboneMtlsPort: 15008}
  networkGateway: {destination: "ns/gw.example.com", hboneMtlsPort: 15009}
  services: {}
services:
- name: s
  namespace: default
  hostname: example.com
  vips: ["net/127.10.0.1"]
  cidrVips: [{network: "", cidr: 10.0.0.0/24}]
  ports: {80: 0}
  endpoints: {u: {workloadUid: u, port: {80: 8080}, status: Unhealthy}}
  subjectAltNames: ["spiffe://x/ns/a/sa/b"]
  weightedWaypoints: [{destination: {destination: "ns/w", hboneMtlsPort: 1}, weight: 50}]
  loadBalancer: {routingPreferences: [Network, Region], mode: Failover, healthPolicy: OnlyHealthy}
  ipFamilies: Dual
  visibility: Namespace
`);
  const workload = mesh.workloads[0];
  assert.deepEqual(workload?.waypoint?.destination, { kind: 'address', network: 'net', ip: '10.0.0.1' });
  assert.deepEqual(workload?.networkGateway?.destination, {
    kind: 'hostname',
    namespace: 'ns',
    hostname: 'gw.example.com',
  });
  assert.deepEqual(workload?.applicationTunnel, { protocol: 'PROXY', port: undefined });
  const service = mesh.services[0];
  assert.equal(service?.endpoints.get('u')?.port.get(80), 8080);
  assert.deepEqual(service?.cidrVips, [{ network: '', cidr: { ip: '10.0.0.0', length: 24 } }]);
  assert.equal(service?.loadBalancer?.mode, 'Failover');
  assert.equal(service?.weightedWaypoints[0]?.weight, 50);
});

const policyWith = (match: string) =>
  `policies: [{name: p, namespace: n, scope: Global, action: Allow, dryRun: false, rules: [[[${match}]]]}]`;

test('string matches come from tags, and from plain objects in JSON', () => {
  const kinds = (text: string) => read(policyWith(text)).policies[0]?.rules[0]?.[0]?.[0]?.namespaces;
  assert.deepEqual(kinds('{namespaces: [!Exact a, !Prefix b, !Suffix c, !Presence []]}'), [
    { kind: 'exact', value: 'a' },
    { kind: 'prefix', value: 'b' },
    { kind: 'suffix', value: 'c' },
    { kind: 'presence' },
  ]);
  assert.deepEqual(kinds('{"namespaces": [{"Exact": "a"}, {"Presence": []}]}'), [
    { kind: 'exact', value: 'a' },
    { kind: 'presence' },
  ]);
});

test('an exact match on a number-like text stays text', () => {
  const match = read(policyWith('{namespaces: [!Exact 123]}')).policies[0]?.rules[0]?.[0]?.[0];
  assert.deepEqual(match?.namespaces, [{ kind: 'exact', value: '123' }]);
});

test('a misspelt tag is an error and never a weaker match', () => {
  refused(policyWith('{namespaces: [!Exakt a]}'), /^mesh\.yaml:1:\d+: .*!Exakt/);
  refused(policyWith('{namespaces: [a]}'), /expected a string match/);
  refused(policyWith('{namespace: [!Exact a]}'), /unknown key; did you mean namespaces\?/);
});

test('a policy has no defaults', () => {
  refused(
    'policies:\n- {name: a, namespace: b, scope: Global, dryRun: false, rules: []}',
    /mesh\.yaml:2:3: policies\[0\]\.action/,
  );
  refused(
    'policies:\n- {name: a, namespace: b, scope: Global, action: Allow, rules: []}',
    /policies\[0\]\.dryRun: missing/,
  );
});

test('mistakes carry line, column, place and the nearest valid word', () => {
  const head = 'workloads:\n- namespace: a\n  workloadIps: []\n  services: {}\n';
  refused(
    `${head}  protcol: HBONE\n`,
    /^mesh\.yaml:5:3: workloads\[0\]\.protcol: unknown key; did you mean protocol\?$/,
  );
  refused(
    `${head}  protocol: HBONES\n`,
    /^mesh\.yaml:5:3: workloads\[0\]\.protocol: expected TCP or HBONE; did you mean HBONE\?$/,
  );
  refused(
    `${head}  waypoint: {destination: x, hboneMtlsPort: 1}\n`,
    /^mesh\.yaml:5:14: workloads\[0\]\.waypoint\.destination: expected network\/ip/,
  );
  refused(
    'workloads:\n- namespace: a\n  workloadIps: [10.0.0.256]\n  services: {}\n',
    /^mesh\.yaml:3:17: workloads\[0\]\.workloadIps\[0\]: expected an IP address, got "10\.0\.0\.256"$/,
  );
  refused('workload: []', /mesh\.yaml:1:1: workload: unknown key; did you mean workloads\?/);
  refused('workloads:\n- {namespace: a, workloadIps: [], services: {x/y: {99999: 1}}}', /expected a port, got "99999"/);
  refused('workloads:\n- {namespace: a, workloadIps: []}', /mesh\.yaml:2:3: workloads\[0\]\.services: missing/);
  refused('workloads: [', /^mesh\.yaml:1:\d+: /);
  refused('a: 1\n---\nb: 2\n', /^mesh\.yaml:\d+:\d+: /);
  refused('', /the file is empty/);
  refused('# nothing\n', /the file is empty/);
});

test('two workloads with one uid are refused', () => {
  const one = '{uid: u, namespace: a, workloadIps: [], services: {}}';
  refused(
    `workloads:\n- ${one}\n- ${one}\n`,
    /^mesh\.yaml:3:4: workloads\[1\]\.uid: "u" is already the uid of workloads\[0\]$/,
  );
});

test('aliases are bounded', () => {
  const levels = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (const [of, key] of ['ab', 'bc', 'cd', 'de', 'ef'].map(pair => pair.split(''))) {
    levels.push(`${key}: &${key} [${`*${of},`.repeat(9)}]`);
  }
  const bomb = levels.join('\n');
  refused(bomb, /alias/i);
});

test('any text either reads or is a config error with a position', () => {
  const alphabet = [
    ...'{ } [ ] : , - ! & * | > \' " #'.split(' '),
    '\n',
    '  ',
    'workloads',
    'policies',
    'services',
    'namespace',
    '!Exact',
    '__proto__',
    '80',
    'null',
    '"a/b"',
  ];
  const soup = fc.array(fc.constantFrom(...alphabet), { maxLength: 60 }).map(parts => parts.join(''));
  fc.assert(
    fc.property(fc.oneof(soup, fc.string({ unit: 'binary', maxLength: 200 })), text => {
      try {
        const mesh = read(text);
        assert.ok(Array.isArray(mesh.workloads));
      } catch (error) {
        assert.ok(error instanceof ZtunnelError, String(error));
        assert.match(error.message, /^mesh\.yaml:\d+:\d+: /);
      }
    }),
    { seed: 11, numRuns: 2000 },
  );
});

test('a valid file with one damaged value never reads as something else', () => {
  const names = ['namespace', 'workloadIps', 'services', 'protocol', 'capacity', 'waypoint'];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.jsonValue(), (name, value) => {
      const workload: Record<string, unknown> = { namespace: 'a', workloadIps: [], services: {}, [name]: value };
      try {
        const mesh = read(JSON.stringify({ workloads: [workload] }));
        assert.equal(mesh.workloads.length, 1);
        if (name === 'namespace') assert.equal(mesh.workloads[0]?.namespace, value);
      } catch (error) {
        assert.ok(error instanceof ZtunnelError, String(error));
        assert.match(error.message, /^mesh\.yaml:1:\d+: workloads\[0\]/);
      }
    }),
    { seed: 12, numRuns: 500 },
  );
});
