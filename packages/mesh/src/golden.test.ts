// The recorded decisions of upstream's proxy for its own inputs: two workloads on two nodes, one deny policy, requests
// from web to cart. The addresses, errors and identities below are what its access log and config_dump said.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { at, ip, mesh, pod, ports } from '../test/fixture.ts';
import { planInbound } from './inbound.ts';
import { planOutbound, resolveOutbound } from './outbound.ts';
import { createMatch, type Policy } from './policy.ts';
import { authorize, compilePolicies, policiesFor } from './rbac.ts';
import { createService } from './service.ts';
import { createWorkload } from './workload.ts';

const web = createWorkload({
  uid: 'Kubernetes//Pod/shop/web-1',
  name: 'web-1',
  namespace: 'shop',
  serviceAccount: 'web',
  canonicalName: 'web',
  canonicalRevision: 'v1',
  workloadName: 'web',
  workloadType: 'deployment',
  clusterId: 'Kubernetes',
  workloadIps: [ip('10.77.0.1')],
  protocol: 'HBONE',
  node: 'n1',
});
const cart = createWorkload({
  uid: 'Kubernetes//Pod/shop/cart-1',
  name: 'cart-1',
  namespace: 'shop',
  serviceAccount: 'cart',
  canonicalName: 'cart',
  canonicalRevision: 'v2',
  workloadName: 'cart',
  workloadType: 'deployment',
  clusterId: 'Kubernetes',
  workloadIps: [ip('10.77.0.2')],
  protocol: 'HBONE',
  node: 'n2',
  services: new Map([['shop/cart.shop.svc.cluster.local', ports({ 80: 5281 })]]),
});
const cartService = createService({
  name: 'cart',
  namespace: 'shop',
  hostname: 'cart.shop.svc.cluster.local',
  vips: [{ network: '', ip: ip('10.96.0.11') }],
  ports: ports({ 80: 5281 }),
  canonical: true,
});
const no5299: Policy = {
  name: 'no-5299',
  namespace: 'shop',
  scope: 'Namespace',
  action: 'Deny',
  dryRun: false,
  rules: [[[createMatch({ destinationPorts: [5299] })]]],
};
const state = mesh({ workloads: [web, cart], services: [cartService], policies: [no5299] });
const illegalPorts: ReadonlySet<number> = new Set([15001, 15006, 15008]);

const WEB_POD = { name: 'web-1', namespace: 'shop', serviceAccount: 'web' };

function outbound(destination: string) {
  const source = at('10.77.0.1:46726');
  const plan = planOutbound(
    state,
    {
      source,
      destination: at(destination),
      pod: WEB_POD,
      self: state.workloadForPod(WEB_POD),
      network: '',
      illegalPorts,
    },
    () => 0,
  );
  assert.ok(plan.kind === 'hop', JSON.stringify(plan));
  return plan.hop;
}

function inbound(authority: string) {
  return planInbound(state, {
    pod: { name: 'cart-1', namespace: 'shop', serviceAccount: 'cart' },
    self: cart,
    network: '',
    illegalPorts,
    preserveSource: false,
    connected: at('10.77.0.2:15008'),
    authority,
    source: at('10.77.0.1:46726'),
    identity: { trustDomain: '', namespace: 'shop', serviceAccount: 'web' },
  });
}

describe('local.yaml', () => {
  for (const port of [5281, 5295, 5299]) {
    test(`outbound to port ${port} dials 10.77.0.2:15008 for 10.77.0.2:${port}`, () => {
      const hop = outbound(`10.77.0.2:${port}`);
      assert.deepEqual(hop.dial, at('10.77.0.2:15008'));
      assert.equal(hop.authority, `10.77.0.2:${port}`);
      assert.deepEqual(hop.upstreamIdentities, ['spiffe:///ns/shop/sa/cart']);
      assert.deepEqual([hop.workload?.name, hop.workload?.cluster, hop.service], ['cart-1', 'Kubernetes', undefined]);
    });
  }

  test('through the service it is the same pod, and the service is reported', () => {
    const hop = outbound('10.96.0.11:80');
    assert.deepEqual([hop.dial, hop.authority], [at('10.77.0.2:15008'), '10.77.0.2:5281']);
    assert.equal(hop.service?.hostname, 'cart.shop.svc.cluster.local');
  });

  test('inbound allows 5281 and 5295, and denies 5299 in upstream’s words', () => {
    for (const port of [5281, 5295]) {
      const plan = inbound(`10.77.0.2:${port}`);
      assert.ok(plan.kind === 'deliver' && plan.policy === undefined);
      assert.deepEqual(plan.target, at(`10.77.0.2:${port}`));
    }
    const denied = inbound('10.77.0.2:5299');
    assert.ok(denied.kind === 'deny');
    assert.equal(denied.status, 401);
    assert.equal(denied.error, 'connection closed due to policy rejection: explicitly denied by: shop/no-5299');
  });
});

test('the policy that istiod makes of strict peer authentication refuses plain text only', () => {
  const strict: Policy = {
    name: 'istio_converted_static_strict',
    namespace: 'istio-system',
    scope: 'WorkloadSelector',
    action: 'Deny',
    dryRun: false,
    rules: [[[createMatch({ notPrincipals: [{ kind: 'presence' }] })]]],
  };
  const workload = pod('w', { authorizationPolicies: ['istio-system/istio_converted_static_strict'] });
  const set = compilePolicies(policiesFor(mesh({ policies: [strict] }), workload).policies);
  const request = { sourceIp: ip('10.0.0.1'), destinationIp: ip('10.0.0.2'), destinationPort: 80 };
  assert.equal(authorize(set, { ...request, identity: undefined }).allowed, false);
  assert.equal(
    authorize(set, { ...request, identity: { trustDomain: 'td', namespace: 'a', serviceAccount: 'b' } }).allowed,
    true,
  );
});

test('decisions are quick to repeat on a mesh of many workloads: a route touches only what it names', () => {
  // Not a timing: counts the look-ups by making every other one fail loudly.
  const watched = mesh({ workloads: [web, cart], services: [cartService] });
  const forbidden = () => assert.fail('a route must not walk the whole mesh');
  watched.workloads = forbidden;
  watched.services = forbidden;
  const input = { source: at('10.77.0.1:1'), pod: WEB_POD, self: web, network: '', illegalPorts };
  for (const destination of ['10.96.0.11:80', '10.77.0.2:80', '1.2.3.4:5']) {
    assert.notEqual(resolveOutbound(watched, { ...input, destination: at(destination) }).kind, 'deny');
  }
});
