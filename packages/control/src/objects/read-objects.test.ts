import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readObject, readObjects } from './index.ts';

const SEED = 20261124;

function problems(text: string): string[] {
  return readObjects(text, 'f.yaml').diagnostics.map(
    ({ code, place, message }) => `${place?.line}:${place?.column} ${code} ${message}`,
  );
}

test('reads documents, lists and JSON, and skips other kinds with an info', () => {
  const text = `# a comment
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ServiceAccount
  metadata: {name: web, namespace: shop}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}
--- # next
{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "a"}, "spec": {}, "status": {"podIP": "10.0.0.1"}}]}
---
...
`;
  const { objects, diagnostics } = readObjects(text, 'f.yaml');
  assert.deepEqual(
    objects.map(({ object, place }) => [object.kind, object.metadata.namespace, place.line, place.column]),
    [
      ['ServiceAccount', 'shop', 6, 3],
      ['Pod', 'default', 11, 51],
    ],
  );
  assert.deepEqual(
    diagnostics.map(({ code, severity, place }) => [code, severity, place?.line]),
    [['config.skipped_kind', 'info', 9]],
  );
});

test('says the place of a wrong value, a missing field, a bad enum and an unknown field', () => {
  const text = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: p
spec:
  action: DENNY
  selecter: {matchLabels: {app: web}}
  rules:
  - from:
    - source:
        principals: [1, "a"]
    when:
    - values: [x]
`;
  assert.deepEqual(problems(text), [
    '7:3 config.unknown_field spec.selecter: unknown field selecter, which has no effect',
    '6:11 config.bad_field spec.action: action is "DENNY", but must be one of ALLOW, DENY, AUDIT, CUSTOM',
    '11:22 config.bad_field spec.rules[0].from[0].source.principals[0]: principals must be a string, not 1',
    '13:7 config.bad_field spec.rules[0].when[0].key: key is missing',
  ]);
  const [unknown, action] = readObjects(text, 'f.yaml').diagnostics;
  assert.equal(unknown?.remedy, 'did you mean selector?');
  assert.equal(action?.remedy, 'did you mean DENY?');
  assert.deepEqual(readObjects(text, 'f.yaml').objects, []);
});

test('a syntax error has a place, and the other documents are read', () => {
  const text = 'apiVersion: v1\nkind: [\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, name: b}\n';
  assert.deepEqual(
    readObjects(text, 'f').diagnostics.map(({ code, place }) => [code, place?.line, place?.column]),
    [
      ['config.yaml_syntax', 3, 1],
      ['config.yaml_syntax', 6, 21],
    ],
  );
});

test('of two objects of one name the first is used, and both places are told', () => {
  const one = (app: string): string =>
    `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: {app: ${app}}\n`;
  const { objects, diagnostics } = readObjects(`${one('a')}---\n${one('b')}`, 'f.yaml');
  assert.deepEqual(
    objects.map(({ object }) => object.metadata.labels),
    [{ app: 'a' }],
  );
  assert.equal(diagnostics[0]?.code, 'config.duplicate');
  assert.match(diagnostics[0]?.message ?? '', /f\.yaml:1:1/);
  assert.equal(diagnostics[0]?.place?.line, 7);
});

test('finds fields in YAML and JSON', () => {
  const [yaml] = readObjects(
    'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: 80\n',
    'f',
  ).objects;
  assert.deepEqual(yaml?.fieldPlace('spec.ports[0].port'), { file: 'f', line: 6, column: 11 });
  assert.deepEqual(yaml?.fieldPlace('spec.ports[3]'), { file: 'f', line: 5, column: 3 });
  const [json] = readObjects('{"apiVersion":"v1",\n"kind":"Namespace",\n"metadata":{"name":"a"}}', 'f').objects;
  assert.deepEqual(json?.fieldPlace('metadata.name'), { file: 'f', line: 3, column: 20 });
});

test('refuses policy parts that read as no condition', () => {
  const policy = (rule: object): object => ({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p' },
    spec: { rules: [rule] },
  });
  for (const rule of [
    { from: [] },
    { to: [] },
    { from: [{}] },
    { from: [{ source: {} }] },
    { to: [{ operation: { ports: [] } }] },
    { from: [{ source: { principals: [''] } }] },
    { from: [null] },
    { when: [{ key: 'source.ip' }] },
  ]) {
    assert.equal('object' in readObject(policy(rule)), false, JSON.stringify(rule));
  }
  assert.equal('object' in readObject(policy({})), true);
});

test('takes integers as text, enum numbers and both forms of target references, as proto JSON does', () => {
  const entry = readObject({
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'ServiceEntry',
    metadata: { name: 'e' },
    spec: { hosts: ['a.b'], location: 1, resolution: 2, ports: [{ number: '443', name: 'tls' }] },
  });
  assert.ok('object' in entry && entry.object.kind === 'ServiceEntry');
  assert.deepEqual(
    [entry.object.spec.location, entry.object.spec.resolution, entry.object.spec.ports[0]?.number],
    ['MESH_INTERNAL', 'DNS', 443],
  );
  const policy = readObject({
    apiVersion: 'security.istio.io/v1beta1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p' },
    spec: {
      targetRef: { kind: 'Service', name: 'a' },
      targetRefs: [{ kind: 'Gateway', name: 'b' }],
      rules: [{ to: [{ operation: { ports: ['80', 8080] } }] }],
    },
  });
  assert.ok('object' in policy && policy.object.kind === 'AuthorizationPolicy');
  assert.deepEqual(
    policy.object.spec.targetRefs.map(({ name }) => name),
    ['a', 'b'],
  );
  assert.deepEqual(policy.object.spec.rules[0]?.to[0]?.ports, ['80', '8080']);
  assert.deepEqual(
    policy.problems.map(({ code }) => code),
    ['config.unquoted'],
  );
});

test('keeps of a pod what the mesh uses', () => {
  const result = readObject({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'a-1',
      namespace: 'shop',
      uid: 'u',
      creationTimestamp: '2026-01-01T00:00:00Z',
      annotations: {
        'ambient.istio.io/redirection': 'enabled',
        'kubectl.kubernetes.io/last-applied-configuration': '{}',
      },
      ownerReferences: [{ kind: 'ReplicaSet', name: 'a', controller: true }],
    },
    spec: {
      containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80 }] }],
      initContainers: [
        { ports: [{ containerPort: 1 }] },
        { restartPolicy: 'Always', ports: [{ containerPort: 2, protocol: 'UDP' }] },
      ],
    },
    status: { phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'True' }] },
  });
  assert.ok('object' in result);
  assert.deepEqual(result.object, {
    kind: 'Pod',
    metadata: {
      name: 'a-1',
      namespace: 'shop',
      uid: 'u',
      labels: {},
      annotations: { 'ambient.istio.io/redirection': 'enabled' },
      generateName: '',
      creationTime: Date.UTC(2026, 0, 1),
      isDeleting: false,
      controller: { kind: 'ReplicaSet', name: 'a' },
    },
    spec: {
      serviceAccountName: 'default',
      nodeName: '',
      hostNetwork: false,
      ports: [
        { name: 'http', containerPort: 80, protocol: 'TCP' },
        { name: '', containerPort: 2, protocol: 'UDP' },
      ],
    },
    status: { phase: 'Running', podIPs: ['10.0.0.1'], isReady: true },
  });
});

test('refuses alias bombs, absurd nesting and files beyond the limit', () => {
  const lines = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (const [to, from] of ['ba', 'cb', 'dc', 'ed', 'fe']) {
    lines.push(`${to}: &${to} [${Array.from({ length: 9 }, () => `*${from}`).join()}]`);
  }
  const codes = (text: string): string[] => readObjects(text, 'f').diagnostics.map(({ code }) => code);
  assert.deepEqual(codes(lines.join('\n')), ['config.yaml_syntax']);
  assert.deepEqual(codes('['.repeat(100_000)), ['config.yaml_syntax']);
  assert.deepEqual(codes('{"a":'.repeat(5_000)), ['config.yaml_syntax']);
  assert.deepEqual(codes('- '.repeat(20_000)), ['config.yaml_syntax']);
  assert.deepEqual(codes(' '.repeat((16 << 20) + 1)), ['config.too_large']);
});

test('never throws, whatever the text, and every problem has a place in it', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'apiVersion: v1\n',
      'kind: Pod\n',
      'kind: Service\n',
      'metadata: {name: a}\n',
      'spec:\n',
      '  ports: [{port: 80}]\n',
      '---\n',
      '- ',
      '{',
      '}',
      '[',
      '"',
      '&a ',
      '*a ',
      '!!binary ',
      '? ',
      ': ',
      '|\n',
      '#',
      '\t',
      '__proto__: 1\n',
    ),
    fc.string({ maxLength: 12, unit: 'binary' }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 25 }), pieces => {
      const text = pieces.join('');
      const lines = text.split(/\r\n|\n|\r/).length;
      for (const { place } of readObjects(text, 'f').diagnostics) {
        assert.ok(place !== undefined && place.line >= 1 && place.line <= lines && place.column >= 1);
      }
    }),
    { seed: SEED, numRuns: 1500 },
  );
});

test('never throws on any JSON, and refuses what it cannot read', () => {
  const kinds = [
    'Pod',
    'Service',
    'EndpointSlice',
    'ServiceEntry',
    'AuthorizationPolicy',
    'PeerAuthentication',
    'Gateway',
  ];
  const groups = [
    'v1',
    'discovery.k8s.io/v1',
    'networking.istio.io/v1',
    'security.istio.io/v1',
    'gateway.networking.k8s.io/v1',
  ];
  const keys =
    'ports rules from source to operation when selector mtls mode portLevelMtls hosts endpoints listeners conditions';
  const { tree } = fc.letrec(tie => ({
    tree: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom(null, 0, 80, '', 'x', true),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...keys.split(' '), '__proto__'), tie('tree'), { maxKeys: 4 }),
    ),
  }));
  const object = fc.record({
    apiVersion: fc.constantFrom(...groups),
    kind: fc.constantFrom(...kinds),
    metadata: fc.constantFrom({ name: 'a' }, null, 3, { name: 5, labels: [] }),
    spec: tree,
    status: tree,
  });
  fc.assert(
    fc.property(object, raw => {
      const result = readObject(raw);
      const errors = result.problems.filter(({ severity }) => severity === 'error');
      const isSkipped = result.problems.some(({ code }) => code === 'config.skipped_kind');
      assert.equal('object' in result, errors.length === 0 && !isSkipped);
    }),
    { seed: SEED, numRuns: 3000 },
  );
});

test('columns count from the start of the line, also after a document marker', () => {
  const text = '--- {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "A"}}\n--- {kind: a, kind: b}\n';
  assert.deepEqual(
    readObjects(text, 'f').diagnostics.map(({ code, place }) => [code, place?.line, place?.column]),
    [
      ['config.bad_field', 1, 68],
      ['config.yaml_syntax', 2, 15],
    ],
  );
});

test('reads who may attach to a listener, never wider than it is written', () => {
  const allowed = (namespaces: object): unknown => {
    const { objects } = readObjects(
      JSON.stringify({
        apiVersion: 'gateway.networking.k8s.io/v1',
        kind: 'Gateway',
        metadata: { name: 'w' },
        spec: {
          gatewayClassName: 'c',
          listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces } }],
        },
      }),
      'f.json',
    );
    const [first] = objects;
    return first?.object.kind === 'Gateway' ? first.object.spec.listeners[0]?.allowedRoutes : undefined;
  };
  const matchExpressions = [{ key: 'team', operator: 'In', values: ['a', 'b'] }];
  assert.deepEqual(allowed({}), { from: 'Same', selector: undefined });
  assert.deepEqual(allowed({ from: 'Selector' }), { from: 'Selector', selector: undefined });
  assert.deepEqual(allowed({ from: 'Selector', selector: {} }), { from: 'Selector', selector: {} });
  assert.deepEqual(allowed({ from: 'Selector', selector: { matchExpressions } }), {
    from: 'Selector',
    selector: {},
    expressions: matchExpressions,
  });
  const unknown = { matchExpressions: [...matchExpressions, { key: 'team', operator: 'Like', values: ['a'] }] };
  assert.deepEqual(allowed({ from: 'Selector', selector: unknown }), { from: 'Selector', selector: undefined });
});
