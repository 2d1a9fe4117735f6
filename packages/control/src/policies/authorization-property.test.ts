// The translation against a direct reading of the AuthorizationPolicy that shares nothing with it: whatever a ztunnel lets
// through after translation, the words of the policy let through too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AuthorizationRequest, authorize, compilePolicies, formatPrincipal, parseIp } from '@ambit/mesh';
import { decodeAuthorization, encodeAuthorization } from '@ambit/wire/resources';
import fc from 'fast-check';
import type { PolicyCondition, PolicyOperation, PolicyRule, PolicySource } from '../objects/types.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';
import { policyResources } from './index.ts';
import { authorizationPolicy, condition, operation, rule, source } from './policy-fixture.ts';

const SEED = 20_261_124;
const some = <T>(...values: readonly T[]): fc.Arbitrary<readonly T[]> =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constant<readonly T[]>([]) },
    { weight: 2, arbitrary: fc.subarray([...values], { minLength: 1 }) },
  );
const TEXTS = ['a', 'b', '*', 'a*', '*b', 'cluster.local/ns/a/sa/x', '*/sa/y', 'cluster.local/ns/b/*', ''] as const;
const BLOCKS = ['10.0.0.0/8', '10.1.0.0/16', '10.1.0.1', 'fd00::/8', '10.0.0.0/33', 'host'] as const;
const PORTS = ['80', '81', '8080', 'http', '65616'] as const;
const ACCOUNTS = ['a/x', 'x', 'b/y', 'a/b/c'] as const;
const UNSEEN = fc.oneof({ weight: 6, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.constant(['u']) });

const sources = fc
  .record({
    principals: some(...TEXTS),
    notPrincipals: some(...TEXTS),
    namespaces: some(...TEXTS),
    notNamespaces: some(...TEXTS),
    serviceAccounts: some(...ACCOUNTS),
    notServiceAccounts: some(...ACCOUNTS),
    ipBlocks: some(...BLOCKS),
    notIpBlocks: some(...BLOCKS),
    requestPrincipals: UNSEEN,
    trustDomains: UNSEEN,
  })
  .map(lists => source(lists));
const operations = fc
  .record({ ports: some(...PORTS), notPorts: some(...PORTS), methods: UNSEEN })
  .map(lists => operation(lists));
const conditions = fc.oneof(
  fc.record({
    key: fc.constantFrom('source.ip', 'destination.ip'),
    values: some(...BLOCKS),
    notValues: some(...BLOCKS),
  }),
  fc.record({
    key: fc.constantFrom('source.namespace', 'source.principal'),
    values: some(...TEXTS),
    notValues: some(...TEXTS),
  }),
  fc.record({ key: fc.constant('destination.port'), values: some(...PORTS), notValues: some(...PORTS) }),
  fc.constant(condition('connection.sni', ['x'])),
);
const rules = fc
  .record({
    from: fc.array(sources, { maxLength: 2 }),
    to: fc.array(operations, { maxLength: 2 }),
    when: fc.array(conditions, { maxLength: 2 }),
  })
  .map(parts => rule(parts));

const ips = fc.constantFrom('10.1.0.1', '10.2.0.1', '192.168.0.1', 'fd00::1', '2001:db8::1').map(text => {
  const ip = parseIp(text);
  assert.ok(ip !== undefined);
  return ip;
});
const requests: fc.Arbitrary<AuthorizationRequest> = fc.record({
  sourceIp: ips,
  destinationIp: ips,
  destinationPort: fc.constantFrom(80, 81, 8080, 9),
  identity: fc.option(
    fc.record({
      trustDomain: fc.constantFrom('cluster.local', 'other'),
      namespace: fc.constantFrom('a', 'b', 'shop'),
      serviceAccount: fc.constantFrom('x', 'y'),
    }),
    { nil: undefined },
  ),
});

for (const action of ['ALLOW', 'DENY'] as const) {
  test(`a translated ${action} policy never lets through what the policy itself denies`, () => {
    let allowed = 0;
    const property = fc.property(fc.array(rules, { maxLength: 3 }), requests, (list, request) => {
      const { authorization } = policyResources(authorizationPolicy(action, list), DEFAULT_SETTINGS);
      assert.ok(authorization !== undefined);
      const { policy, dropped } = decodeAuthorization(encodeAuthorization(authorization));
      assert.deepEqual(dropped, []);
      const verdict = authorize(compilePolicies([policy]), request);
      const isMatch = list.some(candidate => ruleMatches(candidate, request, action === 'ALLOW'));
      if (!verdict.allowed) return true;
      allowed++;
      return action === 'ALLOW' ? isMatch : !isMatch;
    });
    fc.assert(property, { seed: SEED, numRuns: 6_000 });
    // A translation that denied everything would hold the property too.
    assert.ok(allowed > 200, `only ${allowed} connections were let through`);
  });
}

function ruleMatches(parts: PolicyRule, request: AuthorizationRequest, isAllow: boolean): boolean {
  const asksMore =
    parts.from.some(from => from.requestPrincipals.length + from.trustDomains.length > 0) ||
    parts.to.some(to => to.methods.length > 0);
  // A condition of its own that a ztunnel cannot see never holds, in DENY neither: upstream's rule, reported to the author.
  if (parts.when.some(when => when.key === 'connection.sni') || (asksMore && isAllow)) return false;
  return (
    (parts.from.length === 0 || parts.from.some(from => sourceMatches(from, request))) &&
    (parts.to.length === 0 || parts.to.some(to => operationMatches(to, request))) &&
    parts.when.every(when => conditionMatches(when, request))
  );
}

type Ask = (value: string) => boolean;

/** Lists of pairs: wanted, unwanted, and how one value is asked. A part that asks for nothing is nothing to a ztunnel. */
function hold(pairs: readonly (readonly [readonly string[], readonly string[], Ask])[]): boolean {
  if (pairs.every(([wanted, unwanted]) => wanted.length + unwanted.length === 0)) return false;
  return pairs.every(([wanted, unwanted, ask]) => (wanted.length === 0 || wanted.some(ask)) && !unwanted.some(ask));
}

function sourceMatches(from: PolicySource, request: AuthorizationRequest): boolean {
  const { identity } = request;
  return hold([
    [from.principals, from.notPrincipals, isPrincipal(request)],
    [from.namespaces, from.notNamespaces, isNamespace(request)],
    [
      from.serviceAccounts,
      from.notServiceAccounts,
      value => {
        const full = value.includes('/') ? value : `shop/${value}`;
        return identity !== undefined && full === `${identity.namespace}/${identity.serviceAccount}`;
      },
    ],
    [from.ipBlocks, from.notIpBlocks, value => isInBlock(value, request.sourceIp)],
  ]);
}

function operationMatches(to: PolicyOperation, request: AuthorizationRequest): boolean {
  return hold([[to.ports, to.notPorts, value => value === String(request.destinationPort)]]);
}

function conditionMatches({ key, values, notValues }: PolicyCondition, request: AuthorizationRequest): boolean {
  const asks: Readonly<Record<string, Ask>> = {
    'source.ip': value => isInBlock(value, request.sourceIp),
    'destination.ip': value => isInBlock(value, request.destinationIp),
    'source.namespace': isNamespace(request),
    'source.principal': isPrincipal(request),
    'destination.port': value => value === String(request.destinationPort),
  };
  const ask = asks[key];
  assert.ok(ask !== undefined);
  return hold([[values, notValues, ask]]);
}

function isPrincipal({ identity }: AuthorizationRequest): Ask {
  return value => identity !== undefined && fits(value, formatPrincipal(identity));
}

function isNamespace({ identity }: AuthorizationRequest): Ask {
  return value => identity !== undefined && fits(value, identity.namespace);
}

function fits(pattern: string, text: string): boolean {
  if (pattern === '') return false;
  if (pattern === '*') return text !== '';
  if (pattern.startsWith('*')) return text.endsWith(pattern.slice(1));
  return pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : text === pattern;
}

/** By hand for the five blocks above, so that nothing of the code under test answers. */
function isInBlock(block: string, ip: string): boolean {
  switch (block) {
    case '10.0.0.0/8':
      return ip.startsWith('10.');
    case '10.1.0.0/16':
      return ip.startsWith('10.1.');
    case 'fd00::/8':
      return ip.startsWith('fd');
    default:
      return block === ip;
  }
}
