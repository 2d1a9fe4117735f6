import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { containerPod } from './container-pod.ts';

const ID = '260612a1332633f59a00fbec79de51e34986c300934e4dc9e6e2e0985fd4eefa';

/** The fields that Podman 4.3.1 and Docker give; what differs is named. */
function container(changes: { labels?: object; state?: object; network?: object; mode?: string; name?: string } = {}) {
  return {
    Id: ID,
    Created: '2026-11-24T12:04:00.633271883Z',
    Name: changes.name ?? '/cart',
    State: { Running: true, Pid: 125, StartedAt: '1970-01-01T00:00:00.007Z', ...changes.state },
    Config: { Labels: changes.labels ?? { 'istio.io/dataplane-mode': 'ambient' } },
    HostConfig: { NetworkMode: changes.mode ?? 'bridge' },
    NetworkSettings: changes.network ?? {
      IPAddress: '10.88.0.3',
      GlobalIPv6Address: '',
      Networks: { podman: { IPAddress: '10.88.0.3', GlobalIPv6Address: 'fd10:88::3' } },
    },
  };
}

test('a labelled container is a pod of the namespace and account that its labels name', () => {
  const labels = {
    'ambit.mesh/dataplane': 'ambient',
    'ambit.mesh/namespace': 'shop',
    'ambit.mesh/service-account': 'cart',
    'com.example/note': 'two words are no label',
    version: 'v2',
  };
  const answer = containerPod(container({ labels }));
  assert.equal(answer.kind, 'pod');
  assert.deepEqual(answer.kind === 'pod' && answer.pod, {
    uid: `container-${ID}-7`,
    name: 'cart',
    namespace: 'shop',
    serviceAccount: 'cart',
    labels: {
      app: 'cart',
      'ambit.mesh/dataplane': 'ambient',
      'ambit.mesh/namespace': 'shop',
      'ambit.mesh/service-account': 'cart',
      version: 'v2',
      'istio.io/dataplane-mode': 'ambient',
    },
    annotations: {},
    hostNetwork: false,
    ips: ['10.88.0.3', 'fd10:88::3'],
    phase: 'Running',
    netnsPath: '/proc/125/ns/net',
  });
});

test('who does not ask, or does not run, is nobody', () => {
  assert.deepEqual(containerPod(container({ labels: {} })), { kind: 'none' });
  assert.deepEqual(containerPod(container({ labels: { 'istio.io/dataplane-mode': 'none' } })), { kind: 'none' });
  assert.deepEqual(containerPod(container({ state: { Running: false } })), { kind: 'none' });
  assert.deepEqual(containerPod(container({ state: { Pid: 0 } })), { kind: 'none' });
  assert.deepEqual(containerPod(undefined), { kind: 'none' });
});

test("the host's network and another container's are never taken, and no name is made up", () => {
  for (const changes of [
    { mode: 'host' },
    { mode: `container:${ID}` },
    { network: {} },
    { labels: { 'istio.io/dataplane-mode': 'ambient', 'ambit.mesh/service-account': '../root' } },
  ]) {
    assert.equal(containerPod(container(changes)).kind, 'refused', JSON.stringify(changes));
  }
});

test('a name that DNS does not allow becomes one that it does', () => {
  const name = (text: string) => {
    const answer = containerPod(container({ name: text }));
    return answer.kind === 'pod' ? answer.pod.name : undefined;
  };
  assert.equal(name('/Shop_cart.1'), 'shop-cart-1');
  assert.equal(name('/__'), ID.slice(0, 12));
});

test('whatever an engine answers, it is an answer', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (state, network, labels) => {
      const { kind } = containerPod({
        ...container(),
        State: state,
        NetworkSettings: network,
        Config: { Labels: labels },
      });
      assert.ok(['pod', 'none', 'refused'].includes(kind));
    }),
    { seed: 52, numRuns: 300 },
  );
});
