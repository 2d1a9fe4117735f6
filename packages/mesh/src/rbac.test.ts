import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ip, mesh, pod } from '../test/fixture.ts';
import { naiveAuthorize, policyMatches } from '../test/naive-rbac.ts';
import { type Cidr, parseCidr } from './address.ts';
import { parseSpiffeId, type SpiffeId } from './identity.ts';
import { createMatch, type Match, type Policy, type Rule, type StringMatch } from './policy.ts';
import { type AuthorizationRequest, authorize, compilePolicies, policiesFor, type Verdict } from './rbac.ts';
import { explainPolicies } from './rbac-explain.ts';

const exact = (value: string): StringMatch => ({ kind: 'exact', value });
const prefix = (value: string): StringMatch => ({ kind: 'prefix', value });
const suffix = (value: string): StringMatch => ({ kind: 'suffix', value });
const PRESENCE: StringMatch = { kind: 'presence' };
const INVALID = { kind: 'invalid', text: 'bad' } as const;

function cidr(text: string): Cidr {
  return parseCidr(text) ?? assert.fail(text);
}

function policy(name: string, action: Policy['action'], rules: readonly Rule[], more: Partial<Policy> = {}): Policy {
  return { name, namespace: 'ns', scope: 'Namespace', action, dryRun: false, rules, ...more };
}

/** One rule with one clause of these alternatives. */
function oneOf(...alternatives: readonly Partial<Match>[]): readonly Rule[] {
  return [[alternatives.map(createMatch)]];
}

const id = (text: string): SpiffeId => parseSpiffeId(text) ?? assert.fail(text);
const TLS: AuthorizationRequest = {
  sourceIp: ip('127.0.0.1'),
  sourcePort: 1234,
  identity: id('spiffe://td/ns/namespace/sa/account'),
  destinationIp: ip('127.0.0.2'),
  destinationPort: 8080,
};
const OTHER_TLS: AuthorizationRequest = {
  sourceIp: ip('127.0.1.1'),
  identity: id('spiffe://td-alt/ns/ns-alt/sa/sa-alt'),
  destinationIp: ip('127.0.1.2'),
  destinationPort: 9090,
};
const PLAIN: AuthorizationRequest = { ...OTHER_TLS, identity: undefined };

function decide(policies: readonly Policy[], request: AuthorizationRequest): Verdict {
  return authorize(compilePolicies(policies), request);
}

/** Whether an ALLOW policy with these rules lets the connection through. */
function matches(rules: readonly Rule[], request: AuthorizationRequest): boolean {
  return decide([policy('p', 'Allow', rules)], request).allowed;
}

describe('R1: emptiness', () => {
  test('no rules never match', () => assert.ok(!matches([], TLS)));
  test('an empty rule matches everything', () => assert.ok(matches([[]], PLAIN)));
  test('an empty clause matches everything', () => assert.ok(matches([[[]]], PLAIN)));
  test('an empty match object never matches', () => assert.ok(!matches(oneOf({}), TLS)));
  test('other alternatives of its clause still may', () =>
    assert.ok(matches(oneOf({}, { destinationPorts: [8080] }), TLS)));
});

test('R2: values and alternatives are OR, clauses and fields are AND', () => {
  const rules: readonly Rule[] = [
    [
      [createMatch({ namespaces: [exact('a')] }), createMatch({ namespaces: [exact('b')] })],
      [createMatch({ destinationPorts: [80] })],
    ],
  ];
  const from = (namespace: string, destinationPort: number): AuthorizationRequest => ({
    ...TLS,
    identity: { trustDomain: 'td', namespace, serviceAccount: 'sa' },
    destinationPort,
  });
  assert.ok(matches(rules, from('a', 80)));
  assert.ok(matches(rules, from('b', 80)));
  assert.ok(!matches(rules, from('b', 12)));
  assert.ok(!matches(rules, from('c', 80)));
});

test('R3: rules are OR', () => {
  const rules = [...oneOf({ namespaces: [exact('bad')] }), ...oneOf({ destinationPorts: [8080] })];
  assert.ok(matches(rules, TLS));
  assert.ok(!matches(rules, OTHER_TLS));
});

describe('R4: each field and its negation', () => {
  // [field, matches plain, matches tls, matches other tls]
  const cases: readonly (readonly [Partial<Match>, boolean, boolean, boolean])[] = [
    [{ namespaces: [exact('namespace')] }, false, true, false],
    [{ notNamespaces: [exact('namespace')] }, true, false, true],
    [{ serviceAccounts: [{ namespace: 'namespace', serviceAccount: 'account' }] }, false, true, false],
    [{ notServiceAccounts: [{ namespace: 'namespace', serviceAccount: 'account' }] }, true, false, true],
    [{ principals: [exact('td/ns/namespace/sa/account')] }, false, true, false],
    [{ notPrincipals: [exact('td/ns/namespace/sa/account')] }, true, false, true],
    [{ sourceIps: [cidr('127.0.0.1/24')] }, false, true, false],
    [{ notSourceIps: [cidr('127.0.0.1/24')] }, true, false, true],
    [{ destinationIps: [cidr('127.0.0.2/24')] }, false, true, false],
    [{ notDestinationIps: [cidr('127.0.0.2/24')] }, true, false, true],
    [{ destinationPorts: [8080] }, false, true, false],
    [{ notDestinationPorts: [8080] }, true, false, true],
  ];
  for (const [match, plain, tls, other] of cases) {
    test(Object.keys(match).join(), () => {
      assert.deepEqual(
        [PLAIN, TLS, OTHER_TLS].map(request => matches(oneOf(match), request)),
        [plain, tls, other],
      );
    });
  }

  test('service accounts are compared across trust domains', () => {
    const elsewhere = { ...TLS, identity: id('spiffe://other/ns/namespace/sa/account') };
    assert.ok(matches(oneOf({ serviceAccounts: [{ namespace: 'namespace', serviceAccount: 'account' }] }), elsewhere));
    assert.ok(!matches(oneOf({ principals: [exact('td/ns/namespace/sa/account')] }), elsewhere));
  });

  test('a block of one family never contains the other', () => {
    const v6 = { ...TLS, sourceIp: ip('::7f00:1') };
    assert.ok(!matches(oneOf({ sourceIps: [cidr('0.0.0.0/0')] }), v6));
    assert.ok(matches(oneOf({ sourceIps: [cidr('::/0')] }), v6));
    assert.ok(!matches(oneOf({ sourceIps: [cidr('::/0')] }), TLS));
  });

  test('without an identity the namespace is the empty text', () => {
    assert.ok(matches(oneOf({ namespaces: [exact('')] }), PLAIN));
    assert.ok(!matches(oneOf({ namespaces: [PRESENCE] }), PLAIN));
    assert.ok(!matches(oneOf({ notNamespaces: [exact('')] }), PLAIN));
  });

  test('a DENY with only notPrincipals refuses plain text, an ALLOW with it admits it', () => {
    const rules = oneOf({ notPrincipals: [PRESENCE] });
    assert.ok(!decide([policy('strict', 'Deny', rules)], PLAIN).allowed);
    assert.ok(decide([policy('strict', 'Deny', rules)], TLS).allowed);
    assert.ok(matches(rules, PLAIN));
  });
});

describe('R5: string matches', () => {
  const cases: readonly (readonly [StringMatch, string, boolean])[] = [
    [exact('a'), 'a', true],
    [exact('a'), 'A', false],
    [exact('a'), 'ab', false],
    [exact(''), 'a', false],
    [prefix('a'), 'ab', true],
    [prefix('a'), 'ba', false],
    [prefix(''), 'a', true],
    [suffix('b'), 'ab', true],
    [suffix('b'), 'ba', false],
    [suffix(''), 'a', true],
    [PRESENCE, 'a', true],
    [PRESENCE, '', false],
  ];
  for (const [match, namespace, expected] of cases) {
    test(`${JSON.stringify(match)} against ${JSON.stringify(namespace)}`, () => {
      const identity = { trustDomain: 'td', namespace, serviceAccount: 'sa' };
      assert.equal(matches(oneOf({ namespaces: [match] }), { ...TLS, identity }), expected);
    });
  }

  test('principals are compared without their scheme', () => {
    assert.ok(matches(oneOf({ principals: [suffix('/sa/account')] }), TLS));
    assert.ok(matches(oneOf({ principals: [prefix('td/ns/')] }), TLS));
    assert.ok(!matches(oneOf({ principals: [prefix('spiffe://')] }), TLS));
  });
});

describe('R6..R8: the order of decision', () => {
  const allowAll = policy('allow-all', 'Allow', [[]]);
  const allowNone = policy('allow-none', 'Allow', []);
  const denyAll = policy('deny-all', 'Deny', [[]]);

  test('R8: no policies allow', () => {
    const verdict = decide([], PLAIN);
    assert.ok(verdict.allowed);
    assert.match(verdict.steps.map(entry => entry.text).join('; '), /no ALLOW policy applies/);
  });

  test('a matching DENY wins and is named', () => {
    const verdict = decide([allowAll, denyAll], TLS);
    assert.ok(!verdict.allowed);
    assert.equal(verdict.reason, 'policy.denied_by');
    assert.equal(verdict.error, 'connection closed due to policy rejection: explicitly denied by: ns/deny-all');
  });

  test('an ALLOW that does not match denies', () => {
    const verdict = decide([allowNone], TLS);
    assert.ok(!verdict.allowed);
    assert.equal(verdict.error, 'connection closed due to policy rejection: allow policies exist, but none allowed');
    assert.equal(verdict.policy, undefined);
  });

  test('one of several ALLOWs is enough', () =>
    assert.equal(decide([allowNone, allowAll], TLS).policy, 'ns/allow-all'));

  test('a DENY that does not match changes nothing', () => {
    assert.ok(decide([policy('d', 'Deny', oneOf({ destinationPorts: [1] }))], TLS).allowed);
  });

  test('of several matching DENYs the first by name is reported, whatever the order given', () => {
    const rules = [oneOf({ destinationPorts: [8080] }), oneOf({ namespaces: [exact('namespace')] }), [[]]];
    const denies = ['c', 'a', 'b'].map((name, index) => policy(name, 'Deny', rules[index] ?? []));
    assert.equal(decide(denies, TLS).policy, 'ns/a');
    assert.equal(decide(denies.toReversed(), TLS).policy, 'ns/a');
  });

  test('R6: dry-run policies have no effect and are reported', () => {
    const dry = [policy('d', 'Deny', [[]], { dryRun: true }), policy('a', 'Allow', [], { dryRun: true })];
    const verdict = decide(dry, TLS);
    assert.ok(verdict.allowed);
    assert.deepEqual(verdict.dryRun, [
      { policy: 'ns/a', action: 'Allow', matched: false },
      { policy: 'ns/d', action: 'Deny', matched: true },
    ]);
    assert.ok(!decide([...dry, denyAll], TLS).allowed);
  });
});

describe('invalid values fail closed', () => {
  const cases: readonly Partial<Match>[] = [
    { sourceIps: [INVALID] },
    { notSourceIps: [INVALID] },
    { sourceIps: [{ ip: ip('10.0.0.0'), length: 40 }] },
    { destinationPorts: [65536 + 8080] },
    { notDestinationPorts: [65536 + 9] },
    { principals: [INVALID] },
    { notNamespaces: [INVALID] },
  ];
  for (const match of cases) {
    test(JSON.stringify(match), () => {
      assert.ok(!decide([policy('d', 'Deny', oneOf(match))], TLS).allowed, 'a DENY with it denies');
      assert.ok(!decide([policy('a', 'Allow', oneOf(match))], TLS).allowed, 'an ALLOW with it does not allow');
    });
  }

  test('a valid value beside an invalid one still allows', () => {
    assert.ok(matches(oneOf({ destinationPorts: [70_000, 8080] }), TLS));
  });

  test('an invalid list never counts as not asked about', () => {
    assert.ok(!matches(oneOf({ sourceIps: [INVALID], destinationPorts: [8080] }), TLS));
  });
});

describe('policiesFor', () => {
  const mine = policy('mine', 'Allow', [[]]);
  const theirs = policy('theirs', 'Deny', [[]], { namespace: 'other' });
  const global = policy('global', 'Allow', [[]], { namespace: 'istio-system', scope: 'Global' });
  const selected = policy('selected', 'Deny', [[]], { namespace: 'other', scope: 'WorkloadSelector' });
  const state = () => mesh({ policies: [mine, theirs, global, selected] });

  test('R6: takes the namespace, the global ones and those the workload names', () => {
    assert.deepEqual(policiesFor(state(), pod('w')).policies, [mine, global]);
    const naming = pod('w', { authorizationPolicies: ['other/selected', 'ns/mine', 'other/selected'] });
    assert.deepEqual(policiesFor(state(), naming).policies, [mine, global, selected]);
  });

  test('a selector policy nobody names applies to nobody', () => {
    assert.ok(!policiesFor(state(), pod('w', { namespace: 'other' })).policies.includes(selected));
  });

  test('V6: changing the scope moves a policy', () => {
    const view = state();
    view.applyBatch({ upsertPolicies: [{ key: 'ns/mine', policy: { ...mine, scope: 'WorkloadSelector' } }] });
    assert.deepEqual(policiesFor(view, pod('w')).policies, [global]);
    view.applyBatch({ upsertPolicies: [{ key: 'ns/mine', policy: { ...mine, scope: 'Global' } }] });
    assert.equal(policiesFor(view, pod('w', { namespace: 'elsewhere' })).policies.length, 2);
  });

  test('an unknown policy refuses new connections and leaves live ones', () => {
    const { policies, unknownKeys } = policiesFor(state(), pod('w', { authorizationPolicies: ['ns/missing'] }));
    assert.deepEqual(unknownKeys, ['ns/missing']);
    const verdict = decide(policies, TLS);
    assert.ok(!verdict.allowed);
    assert.deepEqual([verdict.reason, verdict.policy, verdict.cutsLive], ['policy.unknown', 'ns/missing', false]);
  });

  test('an unknown policy made of a PeerAuthentication refuses plain text only', () => {
    for (const key of ['ns/converted_peer_authentication_web', 'istio-system/istio_converted_static_strict']) {
      const { policies, unknownKeys } = policiesFor(state(), pod('w', { authorizationPolicies: [key] }));
      assert.deepEqual(unknownKeys, [key]);
      assert.equal(decide(policies, TLS).allowed, true, key);
      assert.equal(decide(policies, PLAIN).allowed, false, key);
    }
  });

  test('an unknown policy does not hide a refusal that is certain', () => {
    const workload = pod('w', { authorizationPolicies: ['ns/missing', 'other/selected'] });
    const denied = decide(policiesFor(state(), workload).policies, TLS);
    assert.ok(!denied.allowed && denied.cutsLive && denied.reason === 'policy.denied_by');
    const none = mesh({ policies: [policy('none', 'Allow', [])] });
    const refused = decide(policiesFor(none, workload).policies, TLS);
    assert.ok(!refused.allowed && refused.cutsLive && refused.reason === 'policy.no_allow_match');
  });

  test('it can be ignored, as upstream does', () => {
    const { policies } = policiesFor(state(), pod('w', { authorizationPolicies: ['x'] }), { unknown: 'ignore' });
    assert.ok(decide(policies, TLS).allowed);
  });

  test('a policy that was removed on purpose is no gap, until everything is stated anew', () => {
    const view = state();
    view.applyBatch({ removePolicies: ['other/selected'] });
    const naming = pod('w', { authorizationPolicies: ['other/selected'] });
    assert.deepEqual(policiesFor(view, naming).unknownKeys, []);
    view.replaceAll({ workloads: [], services: [], policies: [] });
    assert.deepEqual(policiesFor(view, naming).unknownKeys, ['other/selected']);
  });

  test('applicable policies survive structured cloning to a worker', () => {
    const { policies } = policiesFor(state(), pod('w', { authorizationPolicies: ['ns/missing'] }));
    assert.deepEqual(decide(structuredClone(policies), TLS), decide(policies, TLS));
  });
});

describe('against the naive evaluator', () => {
  const name = fc.constantFrom('', 'a', 'b', 'ab');
  const text: fc.Arbitrary<string> = fc.constantFrom('', 'a', 'b', 'ab', 'td/ns/a/sa/b', 'td/ns/', '/sa/b', '/sa/a');
  const stringMatch: fc.Arbitrary<StringMatch> = fc.oneof(
    { weight: 4, arbitrary: text.map(exact) },
    { weight: 2, arbitrary: text.map(prefix) },
    { weight: 2, arbitrary: text.map(suffix) },
    { weight: 1, arbitrary: fc.constant(PRESENCE) },
    { weight: 1, arbitrary: fc.constant(INVALID) },
  );
  const address = fc.constantFrom('10.0.0.1', '10.0.0.2', '10.1.0.1', '::1', 'fd00::1').map(ip);
  const block = fc.oneof(
    { weight: 6, arbitrary: fc.record({ ip: address, length: fc.constantFrom(0, 8, 15, 31, 32) }) },
    { weight: 1, arbitrary: fc.constantFrom({ ip: ip('fd00::1'), length: 128 }, { ip: ip('10.0.0.1'), length: 33 }) },
    { weight: 1, arbitrary: fc.constant(INVALID) },
  );
  const port = fc.constantFrom(0, 80, 8080, 65535, 65536 + 80, -1, 1.5);
  const account = fc.record({ namespace: name, serviceAccount: name });
  const list = <V>(value: fc.Arbitrary<V>): fc.Arbitrary<V[]> =>
    fc.oneof(
      { weight: 5, arbitrary: fc.constant<V[]>([]) },
      { weight: 3, arbitrary: fc.array(value, { minLength: 1, maxLength: 3 }) },
    );
  const match: fc.Arbitrary<Match> = fc.record({
    namespaces: list(stringMatch),
    notNamespaces: list(stringMatch),
    principals: list(stringMatch),
    notPrincipals: list(stringMatch),
    serviceAccounts: list(account),
    notServiceAccounts: list(account),
    sourceIps: list(block),
    notSourceIps: list(block),
    destinationIps: list(block),
    notDestinationIps: list(block),
    destinationPorts: list(port),
    notDestinationPorts: list(port),
  });
  const sparse = fc.oneof(
    match,
    fc.record({ destinationPorts: list(port), namespaces: list(stringMatch) }).map(createMatch),
    fc.record({ principals: list(stringMatch) }).map(createMatch),
    fc.record({ serviceAccounts: list(account), sourceIps: list(block) }).map(createMatch),
  );
  const rule = fc.array(fc.array(sparse, { maxLength: 3 }), { maxLength: 3 });
  const onePolicy: fc.Arbitrary<Policy> = fc.record({
    name: fc.constantFrom('p', 'q', 'r', 's', 't', 'u', 'v'),
    namespace: fc.constantFrom('ns', 'zz'),
    scope: fc.constant('Namespace' as const),
    action: fc.constantFrom('Allow' as const, 'Deny' as const),
    dryRun: fc.boolean(),
    rules: fc.array(rule, { maxLength: 3 }),
  });
  const policies = fc.uniqueArray(onePolicy, { maxLength: 6, selector: p => `${p.namespace}/${p.name}` });
  const identity = fc.record({ trustDomain: fc.constantFrom('td', 'x'), namespace: name, serviceAccount: name });
  const request: fc.Arbitrary<AuthorizationRequest> = fc.record({
    sourceIp: address,
    identity: fc.option(identity, { nil: undefined }),
    destinationIp: address,
    destinationPort: fc.constantFrom(0, 80, 8080, 65535),
  });

  test('compiled policies decide the same', () => {
    let allowed = 0;
    let total = 0;
    fc.assert(
      fc.property(policies, fc.array(request, { minLength: 1, maxLength: 4 }), (set, requests) => {
        const compiled = compilePolicies(set);
        for (const one of requests) {
          const verdict = authorize(compiled, one);
          const reason = verdict.allowed ? undefined : verdict.reason;
          assert.deepEqual({ allowed: verdict.allowed, policy: verdict.policy, reason }, naiveAuthorize(set, one));
          for (const dry of verdict.dryRun) {
            const source = set.find(p => `${p.namespace}/${p.name}` === dry.policy) ?? assert.fail();
            assert.equal(dry.matched, policyMatches(source, one));
          }
          for (const explained of explainPolicies(set, one)) {
            const source = set.find(p => `${p.namespace}/${p.name}` === explained.policy) ?? assert.fail();
            assert.equal(explained.matched, policyMatches(source, one));
          }
          assert.equal(verdict.dryRun.length, set.filter(p => p.dryRun).length);
          total++;
          if (verdict.allowed) allowed++;
        }
      }),
      { seed: 11, numRuns: 6000 },
    );
    // The generator must reach both answers often, or the comparison proves little.
    assert.ok(allowed > total * 0.1 && allowed < total * 0.9, `${allowed} of ${total}`);
  });
});
