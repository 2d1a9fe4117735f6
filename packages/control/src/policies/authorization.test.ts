import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AuthorizationPolicyObject, PolicyRule } from '../objects/types.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { policyResources, selectsWorkload } from './index.ts';
import { asJson, authorizationPolicy, condition, operation, rule, source } from './policy-fixture.ts';

function translate(object: AuthorizationPolicyObject, settings = DEFAULT_SETTINGS) {
  const { authorization, diagnostics } = policyResources(object, settings);
  return { json: asJson(authorization), codes: diagnostics.map(({ code, path }) => `${code} ${path}`) };
}

function groups(action: string, ...rules: readonly PolicyRule[]) {
  const { json, codes } = translate(authorizationPolicy(action, rules));
  const found: unknown = Object.entries(json ?? {}).find(([key]) => key === 'groups')?.[1];
  return { groups: found, codes };
}

test('the scope follows from selector and namespace', () => {
  const scopes = [
    authorizationPolicy('ALLOW', [], {}, { namespace: 'istio-system' }),
    authorizationPolicy('ALLOW', []),
    authorizationPolicy('ALLOW', [], { selector: { app: 'cart' } }, { namespace: 'istio-system' }),
    authorizationPolicy('ALLOW', [], { selector: {} }),
  ].map(object => translate(object).json);
  assert.deepEqual(scopes, [
    { name: 'p', namespace: 'istio-system' },
    { name: 'p', namespace: 'shop', scope: 'NAMESPACE' },
    { name: 'p', namespace: 'istio-system', scope: 'WORKLOAD_SELECTOR' },
    { name: 'p', namespace: 'shop', scope: 'WORKLOAD_SELECTOR' },
  ]);
});

const REFUSED: readonly {
  readonly what: string;
  readonly object: AuthorizationPolicyObject;
  readonly codes: string[];
}[] = [
  {
    what: 'another revision',
    object: authorizationPolicy('ALLOW', [], {}, { labels: { 'istio.io/rev': 'canary' } }),
    codes: [],
  },
  {
    what: 'targetRefs',
    object: authorizationPolicy('ALLOW', [], {
      targetRefs: [{ group: '', kind: 'Service', name: 'cart', namespace: '' }],
    }),
    codes: [],
  },
  { what: 'AUDIT', object: authorizationPolicy('AUDIT', []), codes: ['policy.unsupported_action spec.action'] },
  {
    what: 'an unknown action',
    object: authorizationPolicy('LOG', []),
    codes: ['policy.unsupported_action spec.action'],
  },
  { what: 'CUSTOM', object: authorizationPolicy('CUSTOM', []), codes: ['policy.custom_unsupported spec.action'] },
  {
    what: 'a dry run',
    object: authorizationPolicy('DENY', [rule({})], {}, { annotations: { 'istio.io/dry-run': 'true' } }),
    codes: ['policy.dry_run_ignored metadata.annotations["istio.io/dry-run"]'],
  },
];

for (const { what, object, codes } of REFUSED) {
  test(`a policy with ${what} is not sent`, () => assert.deepEqual(translate(object), { json: undefined, codes }));
}

test('a policy labelled with our revision is ours', () => {
  const object = authorizationPolicy('ALLOW', [], {}, { labels: { 'istio.io/rev': 'default' } });
  assert.notEqual(translate(object).json, undefined);
});

test('dry-run policies are sent as such when that is turned on', () => {
  const object = authorizationPolicy('DENY', [], {}, { annotations: { 'istio.io/dry-run': 'T' } });
  const { json } = translate(object, { ...DEFAULT_SETTINGS, dryRunPolicies: true });
  assert.deepEqual(json, { name: 'p', namespace: 'shop', scope: 'NAMESPACE', action: 'DENY', dryRun: true });
});

test('a dry-run annotation that is not true leaves the policy in force', () => {
  const object = authorizationPolicy('DENY', [rule({})], {}, { annotations: { 'istio.io/dry-run': 'yes' } });
  const { json } = translate(object);
  assert.deepEqual(json, { name: 'p', namespace: 'shop', scope: 'NAMESPACE', action: 'DENY', groups: [{}] });
});

test('texts become presence, suffix, prefix or exact values', () => {
  const principals = ['*', '*/sa/a', 'td/*', 'td/ns/x/sa/y', '*mid*'];
  assert.deepEqual(groups('ALLOW', rule({ from: [source({ principals })] })), {
    groups: [
      {
        rules: [
          {
            matches: [
              {
                principals: [
                  { presence: {} },
                  { suffix: '/sa/a' },
                  { prefix: 'td/' },
                  { exact: 'td/ns/x/sa/y' },
                  { suffix: 'mid*' },
                ],
              },
            ],
          },
        ],
      },
    ],
    codes: ['policy.bad_pattern spec.rules[0].from[0].source.principals[4]'],
  });
});

test('blocks keep their host bits, and an address has the full length', () => {
  const ipBlocks = ['10.1.2.3/8', '10.9.9.9', '2001:db8::1'];
  const { groups: actual } = groups('ALLOW', rule({ from: [source({ ipBlocks })] }));
  const expected = [
    { address: 'CgECAw==', length: 8 },
    { address: 'CgkJCQ==', length: 32 },
    { address: 'IAENuAAAAAAAAAAAAAAAAQ==', length: 128 },
  ];
  assert.deepEqual(actual, [{ rules: [{ matches: [{ sourceIps: expected }] }] }]);
});

test('a service account without a namespace is in that of the policy', () => {
  const { groups: actual } = groups('ALLOW', rule({ from: [source({ serviceAccounts: ['a/b', 'c'] })] }));
  const serviceAccounts = [
    { namespace: 'a', serviceAccount: 'b' },
    { namespace: 'shop', serviceAccount: 'c' },
  ];
  assert.deepEqual(actual, [{ rules: [{ matches: [{ serviceAccounts }] }] }]);
});

test('to comes first, then from, then each condition, and all must hold', () => {
  const { groups: actual } = groups(
    'DENY',
    rule({
      from: [source({ namespaces: ['a'] }), source({ namespaces: ['b'] })],
      to: [operation({ ports: ['1'] }), operation({ notPorts: ['2'] })],
      when: [condition('source.namespace', ['c'], ['d']), condition('destination.port', ['3'])],
    }),
  );
  assert.deepEqual(actual, [
    {
      rules: [
        { matches: [{ destinationPorts: [1] }, { notDestinationPorts: [2] }] },
        { matches: [{ namespaces: [{ exact: 'a' }] }, { namespaces: [{ exact: 'b' }] }] },
        { matches: [{ namespaces: [{ exact: 'c' }], notNamespaces: [{ exact: 'd' }] }] },
        { matches: [{ destinationPorts: [3] }] },
      ],
    },
  ]);
});

const UNSEEN: readonly PolicyRule[] = [
  ...(['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const).map(name =>
    rule({ from: [source({ namespaces: ['a'] })], to: [operation({ ports: ['1'], [name]: ['x'] })] }),
  ),
  ...(
    [
      'requestPrincipals',
      'notRequestPrincipals',
      'remoteIpBlocks',
      'notRemoteIpBlocks',
      'trustDomains',
      'notTrustDomains',
    ] as const
  ).map(name => rule({ from: [source({ namespaces: ['a'], [name]: ['x'] })], to: [operation({ ports: ['1'] })] })),
];

for (const [index, unseen] of UNSEEN.entries()) {
  test(`an attribute a ztunnel cannot see takes its rule out of ALLOW and only itself out of DENY, ${index}`, () => {
    const allow = groups('ALLOW', unseen, rule({}));
    assert.deepEqual(allow.groups, [{}]);
    assert.ok(
      allow.codes.some(code => code.startsWith('policy.l7_in_allow spec.rules[0].')),
      allow.codes.join(),
    );
    const deny = groups('DENY', unseen);
    const rest = { rules: [{ matches: [{ destinationPorts: [1] }] }, { matches: [{ namespaces: [{ exact: 'a' }] }] }] };
    assert.deepEqual(deny.groups, [rest]);
    assert.ok(
      deny.codes.some(code => code.startsWith('policy.l7_in_deny spec.rules[0].')),
      deny.codes.join(),
    );
    assert.ok(!deny.codes.some(code => code.startsWith('policy.no_effect')), deny.codes.join());
  });
}

test('an unknown condition is reported as such', () => {
  const { codes } = groups('DENY', rule({ when: [condition('source.nmespace', ['x'])] }));
  assert.ok(codes.includes('policy.unknown_condition spec.rules[0].when[0].key'), codes.join());
});

test('a part of a DENY rule that is left empty is sent, never matches, and is reported', () => {
  const { groups: actual, codes } = groups('DENY', rule({ to: [operation({ methods: ['GET'] })] }));
  assert.deepEqual(actual, [{ rules: [{ matches: [{}] }] }]);
  assert.ok(codes.includes('policy.no_effect spec.rules[0]'), codes.join());
});

test('a condition a ztunnel cannot see takes its rule out of ALLOW and keeps it from matching in DENY', () => {
  for (const key of ['connection.sni', 'request.headers[x]', 'source.serviceAccount', 'nonsense']) {
    const unseen = rule({
      from: [source({ namespaces: ['a'] })],
      when: [condition(key, ['x']), condition('source.ip', ['10.0.0.1'])],
    });
    assert.deepEqual(groups('ALLOW', unseen, rule({})).groups, [{}]);
    const { groups: actual, codes } = groups('DENY', unseen);
    const [from, ip] = [{ namespaces: [{ exact: 'a' }] }, { sourceIps: [{ address: 'CgAAAQ==', length: 32 }] }];
    assert.deepEqual(actual, [{ rules: [{ matches: [from] }, { matches: [{}] }, { matches: [ip] }] }]);
    assert.ok(codes.includes('policy.no_effect spec.rules[0]'), codes.join());
  }
});

test('a DENY rule of nothing but unseen conditions does not become one about everything', () => {
  const { groups: actual } = groups('DENY', rule({ when: [condition('connection.sni', ['x'])] }));
  assert.deepEqual(actual, [{ rules: [{ matches: [{}] }] }]);
});

test('an ALLOW policy that loses all its rules is said to deny everything', () => {
  const { groups: actual, codes } = groups('ALLOW', rule({ to: [operation({ methods: ['GET'] })] }));
  assert.equal(actual, undefined);
  assert.ok(codes.includes('policy.l7_in_allow spec.rules'), codes.join());
});

test('a DENY policy without rules is reported, an ALLOW policy without rules is the way to deny everything', () => {
  assert.deepEqual(groups('DENY').codes, ['policy.no_effect spec.rules']);
  assert.deepEqual(groups('ALLOW').codes, []);
});

test('unreadable values are left out with their place, and what is left still counts', () => {
  const parts = rule({
    from: [source({ ipBlocks: ['10.0.0.0/33', '10.0.0.1'], serviceAccounts: ['a/b/c', 'd'], namespaces: ['', 'x'] })],
    to: [operation({ ports: ['http', '65536', '80'] })],
  });
  for (const action of ['ALLOW', 'DENY']) {
    const { groups: actual, codes } = groups(action, parts);
    assert.deepEqual(codes.toSorted(), [
      'policy.bad_ip spec.rules[0].from[0].source.ipBlocks[0]',
      'policy.bad_port spec.rules[0].to[0].operation.ports[0]',
      'policy.bad_port spec.rules[0].to[0].operation.ports[1]',
      'policy.bad_service_account spec.rules[0].from[0].source.serviceAccounts[0]',
      'policy.empty_value spec.rules[0].from[0].source.namespaces[0]',
    ]);
    const from = {
      namespaces: [{ exact: 'x' }],
      sourceIps: [{ address: 'CgAAAQ==', length: 32 }],
      serviceAccounts: [{ namespace: 'shop', serviceAccount: 'd' }],
    };
    assert.deepEqual(actual, [{ rules: [{ matches: [{ destinationPorts: [80] }] }, { matches: [from] }] }]);
  }
});

test('ALLOW never widens because a value cannot be read', () => {
  const nobody = [{ rules: [{ matches: [{}] }] }];
  const onlyBad = rule({ from: [source({ namespaces: ['a'], ipBlocks: ['x'] })] });
  assert.deepEqual(groups('ALLOW', onlyBad).groups, nobody);
  const badExclusion = rule({ from: [source({ namespaces: ['a'], notIpBlocks: ['x', '10.0.0.1'] })] });
  assert.deepEqual(groups('ALLOW', badExclusion).groups, nobody);
});

test('DENY of everybody but somebody unreadable denies everybody', () => {
  const everySource = [{ address: 'AAAAAA==' }, { address: 'AAAAAAAAAAAAAAAAAAAAAA==' }];
  const { groups: actual } = groups('DENY', rule({ from: [source({ notIpBlocks: ['10.0.0.0/33'] })] }));
  assert.deepEqual(actual, [{ rules: [{ matches: [{ sourceIps: everySource }] }] }]);
});

test('a selector selects by every label it has; none selects nothing by name', () => {
  assert.equal(selectsWorkload({ app: 'a', v: '1' }, { app: 'a', v: '1', more: 'x' }), true);
  assert.equal(selectsWorkload({ app: 'a', v: '1' }, { app: 'a' }), false);
  assert.equal(selectsWorkload({}, {}), true);
  assert.equal(selectsWorkload(undefined, { app: 'a' }), false);
});
