import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, test } from 'node:test';
import fc from 'fast-check';
import type { Diagnostic } from '../diagnostic.ts';
import { readObjects } from '../objects/index.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { lint, render } from './index.ts';

const GOLDEN = join(import.meta.dirname, '../../test/golden');
const SHOP = join(import.meta.dirname, '../../../../examples/shop');

async function* bytes(text: string): AsyncIterable<Uint8Array> {
  yield Buffer.from(text);
}

/** Everything but `info`, as `severity code path`. */
async function said(...documents: readonly string[]): Promise<string[]> {
  const { diagnostics } = await lint(['-'], DEFAULT_SETTINGS, bytes(documents.join('\n---\n')));
  return diagnostics.filter(({ severity }) => severity !== 'info').map(line);
}

function line({ severity, code, path }: Diagnostic): string {
  return `${severity} ${code} ${path ?? ''}`.trimEnd();
}

const shop = '{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}';
const plain = '{apiVersion: v1, kind: Namespace, metadata: {name: plain}}';
const account = '{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}';

function pod(
  name: string,
  more: { namespace?: string; sa?: string; labels?: string; captured?: boolean } = {},
): string {
  const { namespace = 'shop', sa = 'web', labels = '', captured = true } = more;
  return `
apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  namespace: ${namespace}
  labels: {app: ${name}, ${labels}}
  annotations: {${captured ? 'ambient.istio.io/redirection: enabled' : ''}}
spec:
  serviceAccountName: ${sa}
  containers: [{ports: [{name: http, containerPort: 8080}]}]
status: {phase: Running, podIP: 10.0.0.${name.length}}`;
}

function service(spec: string): string {
  return `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {${spec}}}`;
}

function policy(spec: string, namespace = 'shop'): string {
  return `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: ${namespace}}, spec: {${spec}}}`;
}

function from(source: string, action = 'ALLOW'): string {
  return policy(`action: ${action}, rules: [{from: [{source: {${source}}}]}]`);
}

const base = [shop, plain, account, pod('web')];

describe('references that lead nowhere', () => {
  it('are told for namespaces (once each), accounts, nodes, services, gateways and targets', async () => {
    assert.deepEqual(
      await said(shop, account, pod('a', { namespace: 'x', sa: 'default' }), pod('bb', { namespace: 'x' })),
      [
        'warning config.no_such_namespace metadata.namespace',
        'warning config.no_such_service_account spec.serviceAccountName',
      ],
    );
    const node = '{apiVersion: v1, kind: Node, metadata: {name: n1}}';
    assert.deepEqual(await said(...base, node, pod('a').replace('spec:', 'spec:\n  nodeName: n2')), [
      'warning config.no_such_node spec.nodeName',
    ]);
    const slice = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [], ports: [],
      metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: wbe}}}`;
    assert.deepEqual(await said(...base, service('selector: {app: web}, ports: [{port: 80}]'), slice), [
      'warning config.no_such_service metadata.labels["kubernetes.io/service-name"]',
    ]);
    const gateway = `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: wp, namespace: shop},
      spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}`;
    const target = policy('targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: pw}]');
    const user = '{apiVersion: v1, kind: Namespace, metadata: {name: u, labels: {istio.io/use-waypoint: wp}}}';
    assert.deepEqual(await said(...base, gateway, target, user), [
      'warning config.no_such_target spec.targetRefs[0].name',
      'warning waypoint.no_such_gateway metadata.labels["istio.io/use-waypoint"]',
    ]);
  });

  it('are not told of kinds that the input has none of', async () => {
    assert.deepEqual(await said(pod('web'), from('principals: [cluster.local/ns/x/sa/y], namespaces: [z]')), []);
  });
});

describe('services', () => {
  it('that select nothing, or a port name that no pod has, are told', async () => {
    assert.deepEqual(await said(...base, service('selector: {app: wbe}, ports: [{port: 80}]')), [
      'warning service.selects_nothing spec.selector',
    ]);
    const { diagnostics } = await lint(
      ['-'],
      DEFAULT_SETTINGS,
      bytes([...base, service('selector: {app: web}, ports: [{port: 80, targetPort: htpp}]')].join('\n---\n')),
    );
    assert.deepEqual(diagnostics.map(line), ['warning service.no_such_port spec.ports[0].targetPort']);
    assert.equal(diagnostics[0]?.remedy, 'did you mean http?');
    assert.deepEqual(await said(...base, service('selector: {app: web}, ports: [{port: 80, targetPort: http}]')), []);
  });

  it('and entries that claim one host are told, the loser', async () => {
    const entry = (name: string, host: string, namespace = 'shop'): string =>
      `{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ${name}, namespace: ${namespace}},
        spec: {hosts: ["${host}"], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}}`;
    assert.deepEqual(await said(shop, plain, entry('a', 'x.example'), entry('b', 'x.example', 'plain')), [
      'warning service_entry.host_elsewhere spec.hosts[0]',
    ]);
    const web = service('selector: {app: web}, ports: [{port: 80}]');
    assert.deepEqual(await said(...base, web, entry('a', 'web.shop.svc.cluster.local', 'plain')), [
      'warning service_entry.host_elsewhere spec.hosts[0]',
    ]);
    // Within a namespace it is the translation that tells.
    assert.deepEqual(await said(...base, web, entry('a', 'web.shop.svc.cluster.local')), [
      'error service_entry.host_taken spec.hosts',
    ]);
    assert.deepEqual(await said(shop, entry('a', 'x.example'), entry('b', 'y.example')), []);
    const covered = await lint(
      ['-'],
      DEFAULT_SETTINGS,
      bytes([entry('a', '*.example'), entry('b', 'y.z.example')].join('\n---\n')),
    );
    assert.deepEqual(covered.diagnostics.map(line), ['info service_entry.host_covered spec.hosts[0]']);
  });
});

describe('membership', () => {
  it('a pod labelled for the mesh and not captured is told, one that opts out is not', async () => {
    assert.deepEqual(await said(shop, pod('web', { captured: false })), ['warning pod.not_captured metadata']);
    assert.deepEqual(await said(shop, pod('web', { captured: false, labels: 'istio.io/dataplane-mode: none' })), []);
    assert.deepEqual(await said(plain, pod('web', { namespace: 'plain', captured: false })), []);
  });

  it('label values and names that nothing understands are told, with the nearest', async () => {
    const namespace = (labels: string): string =>
      `{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {${labels}}}}`;
    assert.deepEqual(await said(namespace('istio.io/dataplane-mode: ambeint')), [
      'error config.bad_label metadata.labels["istio.io/dataplane-mode"]',
    ]);
    assert.deepEqual(await said(namespace('istio.io/use-waypiont: none')), [
      'warning config.unknown_label metadata.labels["istio.io/use-waypiont"]',
    ]);
    assert.deepEqual(await said(namespace('istio-injection: enabled, istio.io/dataplane-mode: ambient')), [
      'warning config.sidecar_and_ambient metadata.labels["istio-injection"]',
    ]);
    assert.deepEqual(await said(namespace('topology.istio.io/network: n, example.com/x: y')), []);
    const gateway = `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway,
      metadata: {name: wp, namespace: a, labels: {istio.io/waypoint-for: workloads}},
      spec: {gatewayClassName: istio-waypoint, listeners: [{name: http, port: 80, protocol: HTTP}]}}`;
    const found = await said(gateway);
    assert.deepEqual(found.toSorted(), [
      'error waypoint.unknown_traffic_type metadata.labels["istio.io/waypoint-for"]',
      'warning waypoint.no_listener spec.listeners',
    ]);
  });
});

describe('policies', () => {
  it('that select nobody, or nobody in the mesh, are told', async () => {
    assert.deepEqual(await said(...base, policy('selector: {matchLabels: {app: wbe}}, rules: [{}]')), [
      'warning policy.selects_nothing spec.selector',
    ]);
    const outside = pod('out', { namespace: 'plain', sa: 'default', captured: false });
    assert.deepEqual(await said(...base, outside, policy('rules: [{}]', 'plain')), ['warning policy.no_members']);
    assert.deepEqual(await said(...base, policy('selector: {matchLabels: {app: web}}, rules: [{}]')), []);
  });

  it('that name identities nobody can have are told', async () => {
    const found = await lint(
      ['-'],
      DEFAULT_SETTINGS,
      bytes([...base, from('principals: ["spiffe://cluster.local/ns/shop/sa/web"]')].join('\n---\n')),
    );
    assert.deepEqual(found.diagnostics.map(line), [
      'error policy.spiffe_prefix spec.rules[0].from[0].source.principals[0]',
    ]);
    assert.equal(found.diagnostics[0]?.remedy, 'write "cluster.local/ns/shop/sa/web"');
    assert.deepEqual(await said(...base, from('notPrincipals: ["spiffe://*"]', 'DENY')), [
      'error policy.spiffe_prefix spec.rules[0].from[0].source.notPrincipals[0]',
    ]);
    assert.deepEqual(await said(...base, from('principals: [shop/web]')), [
      'warning policy.bad_principal spec.rules[0].from[0].source.principals[0]',
    ]);
    for (const source of ['principals: [cluster.local/ns/shop/sa/wbe]', 'serviceAccounts: [wbe]']) {
      const [only, ...others] = await said(...base, from(source));
      assert.deepEqual(others, []);
      assert.match(only ?? '', /^warning config\.no_such_service_account spec\.rules\[0\]/);
    }
    assert.deepEqual(await said(...base, from('serviceAccounts: [shop/web, web], principals: ["*/sa/x"]')), []);
    assert.deepEqual(await said(...base, from('namespaces: [shpo]')), [
      'warning config.no_such_namespace spec.rules[0].from[0].source.namespaces[0]',
    ]);
  });

  it('that name namespaces with callers outside the mesh are told', async () => {
    const outside = pod('out', { namespace: 'plain', sa: 'default', captured: false });
    for (const action of ['ALLOW', 'DENY']) {
      assert.deepEqual(await said(...base, outside, from('namespaces: [plain]', action)), [
        'warning policy.plaintext_callers spec.rules[0].from[0].source.namespaces[0]',
      ]);
    }
    assert.deepEqual(await said(...base, outside, from('namespaces: [shop], notNamespaces: [plain]')), []);
  });

  it('that ask for the port of a service are told the port of the pod', async () => {
    const web = service('selector: {app: web}, ports: [{port: 80, targetPort: http}]');
    const ports = policy('rules: [{to: [{operation: {ports: ["80", "8080"]}}]}]');
    const { diagnostics } = await lint(['-'], DEFAULT_SETTINGS, bytes([...base, web, ports].join('\n---\n')));
    assert.deepEqual(diagnostics.map(line), ['warning policy.service_port spec.rules[0].to[0].operation.ports[0]']);
    assert.equal(diagnostics[0]?.remedy, 'write "8080"');
  });

  it('PeerAuthentications with DISABLE are told what it means', async () => {
    const peers = `{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: shop},
      spec: {mtls: {mode: DISABLE}}}`;
    assert.deepEqual(await said(...base, peers), ['warning peer_authentication.disable spec.mtls.mode']);
  });
});

test('the example mesh is clean, and so are the recorded inputs to the reader', async () => {
  assert.deepEqual((await lint([SHOP], DEFAULT_SETTINGS)).diagnostics, []);
  for (const folder of ['01-basic', '02-policies']) {
    const file = join(GOLDEN, folder, 'input/all.yaml');
    assert.deepEqual(readObjects(await readFile(file, 'utf8'), file).diagnostics, [], folder);
  }
});

test('findings of reader, translation and checks come together, by place', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-lint-'));
  t.after(async () => rm(directory, { recursive: true, force: true }));
  const file = join(directory, 'a.yaml');
  const text = `${policy('action: AUDIT, rules: [{}], oops: 1')}\n---\n${shop}\n---\na: [\n---\n${shop}\n`;
  await writeFile(file, text);
  const { diagnostics, objects } = await lint([directory, file], DEFAULT_SETTINGS);
  assert.equal(objects, 2);
  assert.deepEqual(
    diagnostics.map(({ code, place }) => [code, place?.file === file, place?.line]),
    [
      ['policy.unsupported_action', true, 1],
      ['config.unknown_field', true, 1],
      ['config.yaml_syntax', true, 6],
      ['config.duplicate', true, 7],
    ],
  );
  await assert.rejects(lint([join(directory, 'no')], DEFAULT_SETTINGS), { code: 'config.no_such_path' });
});

test('renders what upstream recorded, by name', async () => {
  const { rendered } = await render([join(GOLDEN, '02-policies/input')], DEFAULT_SETTINGS);
  for (const kind of ['addresses', 'authorizations'] as const) {
    // Our own recorded file: its shape is known.
    const recorded = JSON.parse(await readFile(join(GOLDEN, `02-policies/${kind}.json`), 'utf8')) as { name: string }[];
    assert.deepEqual(
      rendered[kind].map(({ name }) => name),
      recorded.map(({ name }) => name).sort(),
    );
  }
  const first = rendered.authorizations.find(({ name }) => name === 'shop/deny-all');
  assert.deepEqual(first?.resource, {
    name: 'deny-all',
    namespace: 'shop',
    scope: 'NAMESPACE',
    action: 'DENY',
    groups: [{}],
  });
});

test('no finding is a crash, whatever is missing or misspelt in an object', async () => {
  const texts = await Promise.all(
    [join(GOLDEN, '02-policies/input/all.yaml'), join(SHOP, 'services.yaml')].map(async file => readFile(file, 'utf8')),
  );
  const documents = texts.flatMap(text => text.split(/^---$/m)).map(text => text.split('\n'));
  const mutation = fc.record({
    document: fc.nat(documents.length - 1),
    line: fc.nat(60),
    edit: fc.constantFrom('drop', 'blank value', 'other value', 'twice'),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 8 }), async mutations => {
      // A part of the mesh is enough, and misses what the rest refers to.
      const chosen = new Map(mutations.map(({ document }) => [document, [...(documents[document] ?? [])]]));
      for (const { document, line: at, edit } of mutations) {
        const lines = chosen.get(document) ?? [];
        const old = lines[at];
        if (old === undefined) continue;
        if (edit === 'drop') lines.splice(at, 1);
        else if (edit === 'twice') lines.splice(at, 0, old);
        else lines[at] = old.replace(/: .*/, edit === 'blank value' ? ':' : ': "*/ns/x/../80"');
      }
      const { diagnostics } = await lint(
        ['-'],
        DEFAULT_SETTINGS,
        bytes([...chosen.values()].map(lines => lines.join('\n')).join('\n---\n')),
      );
      for (const { place, message, remedy } of diagnostics) {
        assert.ok(place !== undefined && place.line >= 1 && place.column >= 1);
        assert.ok(message !== '' && remedy !== '');
      }
    }),
    { seed: 20261127, numRuns: 150 },
  );
});
