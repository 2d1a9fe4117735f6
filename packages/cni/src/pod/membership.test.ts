import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_SELECTORS, type Labels, readSelectors } from './label-selector.ts';
import { isZtunnelPod, type MembershipPod, membership, namespaceEnables } from './membership.ts';

const rules = { selectors: DEFAULT_SELECTORS, excludedNamespaces: ['kube-system'] };
const ambient: Labels = { 'istio.io/dataplane-mode': 'ambient' };
const none: Labels = { 'istio.io/dataplane-mode': 'none' };

function ask(pod: Partial<MembershipPod>, namespaceLabels: Labels = {}, using = rules) {
  const whole = { namespace: 'shop', labels: {}, annotations: {}, hostNetwork: false, ...pod };
  return membership(whole, { name: whole.namespace, labels: namespaceLabels }, using);
}

test('a label of the pod or of its namespace lets it in', () => {
  assert.deepEqual(ask({ labels: ambient }), {
    member: true,
    why: 'the pod is labelled istio.io/dataplane-mode=ambient',
  });
  assert.deepEqual(ask({}, ambient), {
    member: true,
    why: 'namespace shop is labelled istio.io/dataplane-mode=ambient',
  });
});

test('a pod opts out of its namespace', () => {
  assert.deepEqual(ask({ labels: none }, ambient), {
    member: false,
    why: 'its label istio.io/dataplane-mode=none opts out',
  });
});

test('without labels nobody is a member', () => {
  assert.deepEqual(ask({}), {
    member: false,
    why: 'neither it nor namespace shop is labelled istio.io/dataplane-mode=ambient',
  });
  assert.match(ask({ labels: { 'istio.io/dataplane-mode': 'Ambient' } }).why, /=Ambient is not ambient$/);
});

test('host network, sidecars and excluded namespaces stay out, whatever the labels', () => {
  const cases: [Partial<MembershipPod>, RegExp][] = [
    [{ hostNetwork: true }, /node's own network/],
    [{ annotations: { 'sidecar.istio.io/status': '' } }, /has a sidecar/],
    [{ namespace: 'kube-system' }, /namespace kube-system is excluded/],
  ];
  for (const [pod, why] of cases) {
    const answer = ask({ ...pod, labels: ambient }, ambient);
    assert.equal(answer.member, false);
    assert.match(answer.why, why);
  }
});

test('labels of injection and revisions play no part', () => {
  assert.equal(ask({}, { 'istio-injection': 'enabled', 'istio.io/rev': 'x' }).member, false);
  assert.equal(ask({ labels: { 'sidecar.istio.io/inject': 'true' } }, ambient).member, true);
});

test('own selectors replace the default ones, and an empty one selects every pod', () => {
  const own = { ...rules, selectors: readSelectors([{ podSelector: { matchLabels: { mesh: 'on' } } }]) };
  assert.equal(ask({ labels: { mesh: 'on' } }, {}, own).member, true);
  assert.deepEqual(ask({}, ambient, own), {
    member: false,
    why: 'no enablement selector matches it and namespace shop',
  });
  assert.deepEqual(ask({}, {}, { ...rules, selectors: readSelectors([{}]) }), {
    member: true,
    why: 'every pod is selected',
  });
  assert.equal(ask({ labels: ambient }, {}, { ...rules, selectors: [] }).member, false);
});

test('a namespace takes part only through a selector that names its labels', () => {
  assert.equal(namespaceEnables(DEFAULT_SELECTORS, ambient), true);
  assert.equal(namespaceEnables(DEFAULT_SELECTORS, { team: 'a' }), false);
  assert.equal(namespaceEnables(readSelectors([{}]), ambient), false);
});

test("ztunnel's pods are those of the system namespace with its label", () => {
  const labels = { app: 'ztunnel' };
  assert.equal(isZtunnelPod({ namespace: 'istio-system', labels }, 'istio-system'), true);
  assert.equal(isZtunnelPod({ namespace: 'shop', labels }, 'istio-system'), false);
  assert.equal(isZtunnelPod({ namespace: 'istio-system', labels: {} }, 'istio-system'), false);
});
