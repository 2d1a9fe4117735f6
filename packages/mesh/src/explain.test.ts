import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gateway, mesh, pod, service } from '../test/fixture.ts';
import { type ConnectionExplanation, createMatch, explainConnection, type Policy } from './index.ts';

const CART = 'ns/cart.ns.svc.cluster.local';
const member = { protocol: 'HBONE', network: '' } as const;
const WEB = pod('web-1', { ...member, ips: ['10.0.0.1'], workloadName: 'web', serviceAccount: 'web', node: 'n1' });
const OUTSIDE = pod('outside', { ips: ['10.0.0.9'] });
const CART_1 = pod('cart-1', {
  ...member,
  ips: ['10.0.0.2'],
  serviceAccount: 'cart',
  services: { [CART]: { 80: 8080 } },
});
const CART_2 = pod('cart-2', {
  ...member,
  ips: ['10.0.0.3'],
  serviceAccount: 'cart',
  services: { [CART]: { 80: 8080 } },
});
const CART_SERVICE = service('cart', { vips: ['/10.96.0.1'], ports: { 80: 8080 } });

function policy(name: string, action: Policy['action'], match: Parameters<typeof createMatch>[0]): Policy {
  const rules = [[[createMatch(match)]]];
  return { name, namespace: 'ns', scope: 'Namespace', action, dryRun: false, rules };
}

const STRICT = policy('strict', 'Deny', { notPrincipals: [{ kind: 'presence' }] });
const CALLERS = policy('callers', 'Allow', { serviceAccounts: [{ namespace: 'ns', serviceAccount: 'web' }] });
const PORT = policy('port', 'Deny', { destinationPorts: [8080] });

type Content = Parameters<typeof mesh>[0];

function ask(source: string, destination: string, extra: Content = {}, network = ''): ConnectionExplanation {
  const state = mesh({
    workloads: extra.workloads ?? [WEB, OUTSIDE, CART_1, CART_2],
    services: extra.services ?? [CART_SERVICE],
    policies: extra.policies ?? [],
  });
  return explainConnection(state, { source, destination, network });
}

const VERDICTS: readonly {
  readonly what: string;
  readonly ask: readonly [string, string, Content?];
  readonly verdict: string;
  readonly reason?: string;
}[] = [
  { what: 'members without policies', ask: ['ns/web-1', 'ns/cart:80'], verdict: 'allowed' },
  { what: 'a workload name stands for a pod', ask: ['ns/web', 'ns/cart'], verdict: 'allowed' },
  { what: 'a uid and a host name', ask: ['cluster1//Pod/ns/web-1', 'cart.ns.svc.cluster.local'], verdict: 'allowed' },
  { what: 'addresses', ask: ['10.0.0.1', '10.96.0.1:80'], verdict: 'allowed' },
  { what: 'a pod address', ask: ['10.0.0.1', '10.0.0.2:8080'], verdict: 'allowed' },
  {
    what: 'an ALLOW policy that names the caller',
    ask: ['ns/web', 'ns/cart', { policies: [CALLERS] }],
    verdict: 'allowed',
  },
  {
    what: 'an ALLOW policy that does not',
    ask: ['ns/cart-1', 'ns/cart-2:8080', { policies: [CALLERS] }],
    verdict: 'denied',
    reason: 'policy.no_allow_match',
  },
  {
    what: 'a DENY policy on the target port',
    ask: ['ns/web', 'ns/cart:80', { policies: [PORT] }],
    verdict: 'denied',
    reason: 'policy.denied_by',
  },
  { what: 'a client outside', ask: ['ns/outside', 'ns/cart'], verdict: 'plaintext' },
  {
    what: 'a client outside and a STRICT destination',
    ask: ['ns/outside', 'ns/cart', { policies: [STRICT] }],
    verdict: 'denied',
    reason: 'policy.denied_by',
  },
  { what: 'a destination outside', ask: ['ns/web', 'ns/outside:80'], verdict: 'plaintext' },
  { what: 'an address nobody knows', ask: ['ns/web', '192.0.2.1:443'], verdict: 'plaintext' },
  { what: 'an IPv6 address nobody knows', ask: ['ns/web', '[2001:db8::1]:443'], verdict: 'plaintext' },
  {
    what: 'a service without endpoints',
    ask: ['ns/web', 'ns/cart', { workloads: [WEB] }],
    verdict: 'denied',
    reason: 'route.no_healthy_endpoint',
  },
  {
    what: 'the same from outside',
    ask: ['ns/outside', 'ns/cart', { workloads: [OUTSIDE] }],
    verdict: 'denied',
    reason: 'route.no_healthy_endpoint',
  },
  {
    what: 'a port the service does not have',
    ask: ['ns/web', 'ns/cart:81'],
    verdict: 'denied',
    reason: 'route.no_healthy_endpoint',
  },
  {
    what: 'a waypoint that is not there',
    ask: ['ns/web', 'ns/cart', { services: [{ ...CART_SERVICE, waypoint: gateway('/10.0.0.77') }] }],
    verdict: 'denied',
    reason: 'route.waypoint_unavailable',
  },
  {
    what: 'a policy nobody has sent',
    ask: ['ns/web', 'ns/cart', { workloads: [WEB, { ...CART_1, authorizationPolicies: ['ns/late'] }] }],
    verdict: 'denied',
    reason: 'policy.unknown',
  },
  { what: 'an unknown source', ask: ['ns/wbe', 'ns/cart'], verdict: 'unknown', reason: 'explain.unknown_name' },
  { what: 'an unknown destination', ask: ['ns/web', 'ns/carp'], verdict: 'unknown', reason: 'explain.unknown_name' },
  { what: 'a port out of range', ask: ['ns/web', 'ns/cart:70000'], verdict: 'unknown', reason: 'explain.unknown_name' },
  {
    what: 'an address without a port',
    ask: ['ns/web', '192.0.2.1'],
    verdict: 'unknown',
    reason: 'explain.port_needed',
  },
];

for (const { what, ask: question, verdict, reason } of VERDICTS) {
  test(`${what}: ${verdict}${reason === undefined ? '' : ` (${reason})`}`, () => {
    const answer = ask(...question);
    assert.deepEqual([answer.verdict, answer.reason], [verdict, reason], answer.summary);
  });
}

test('an unknown name gives the nearest known ones, also when the namespace was left out', () => {
  assert.deepEqual(ask('ns/wbe-1', 'ns/cart').choices.slice(0, 2), ['ns/web-1', 'ns/web']);
  assert.equal(ask('web', 'ns/cart').choices[0], 'ns/web');
  assert.equal(ask('ns/web', 'ns/carp').choices[0], 'ns/cart');
});

test('a service with several ports asks for one of them', () => {
  const services = [service('cart', { vips: ['/10.96.0.1'], ports: { 443: 8443, 80: 8080 } })];
  const answer = ask('ns/web', 'ns/cart', { services });
  assert.deepEqual([answer.reason, answer.choices], ['explain.port_needed', ['80', '443']]);
});

test('the answer says who must answer, through what, and what each policy said', () => {
  const { source, destination, hops, summary } = ask('ns/cart-1', 'ns/cart-2:8080', { policies: [CALLERS, PORT] });
  assert.equal(source?.identity, 'spiffe://cluster.local/ns/ns/sa/cart');
  assert.deepEqual(destination, {
    kind: 'workload',
    name: 'ns/cart-2',
    address: '10.0.0.3:8080',
    endpoints: 1,
    healthy: 1,
  });
  assert.equal(summary, 'policy ns/port denies it');
  const [hop] = hops;
  assert.deepEqual(hop?.transport, {
    kind: 'tunnel',
    dial: '10.0.0.3:15008',
    mustBe: ['spiffe://cluster.local/ns/ns/sa/cart'],
  });
  assert.equal(hop.target, '10.0.0.3:8080');
  assert.deepEqual(
    hop.policies.map(({ policy: name, matched }) => [name, matched]),
    [
      ['ns/port', true],
      ['ns/callers', false],
    ],
  );
});

test('endpoints with the same outcome are told once, and one that refuses decides', () => {
  const same = ask('ns/web', 'ns/cart');
  assert.deepEqual(
    same.hops.map(({ alike }) => alike),
    [1],
  );
  const picky = { ...CART_2, authorizationPolicies: ['ns/picky'] };
  const refusing: Policy = { ...PORT, name: 'picky', scope: 'WorkloadSelector' };
  const mixed = ask('ns/web', 'ns/cart', { workloads: [WEB, CART_1, picky], policies: [refusing] });
  assert.equal(mixed.hops.length, 2);
  assert.equal(mixed.verdict, 'denied');
  assert.match(mixed.summary, /^some endpoints refuse it/);
});

test('a waypoint is where the view ends, and its own policies are asked', () => {
  const waypoint = pod('wp', { ...member, ips: ['10.0.0.50'] });
  const services = [{ ...CART_SERVICE, waypoint: gateway('/10.0.0.50') }];
  const answer = ask('ns/web', 'ns/cart', { workloads: [WEB, CART_1, waypoint], services, policies: [CALLERS] });
  assert.equal(answer.verdict, 'allowed');
  assert.deepEqual(answer.waypoints, ['/10.0.0.50']);
  const [hop] = answer.hops;
  assert.equal(hop?.isWaypoint, true);
  assert.deepEqual(hop.transport.mustBe, ['spiffe://cluster.local/ns/ns/sa/wp']);
  assert.match(answer.next, /waypoint/);
});

test('a client outside the mesh does not meet the waypoint, and meets the policies of the endpoint', () => {
  const waypoint = pod('wp', { ...member, ips: ['10.0.0.50'] });
  const services = [{ ...CART_SERVICE, waypoint: gateway('/10.0.0.50') }];
  const answer = ask('ns/outside', 'ns/cart', {
    workloads: [OUTSIDE, CART_1, waypoint],
    services,
    policies: [CALLERS],
  });
  assert.deepEqual(
    answer.hops.map(({ workload }) => workload),
    ['ns/cart-1'],
  );
  assert.equal(answer.reason, 'policy.no_allow_match');
});
