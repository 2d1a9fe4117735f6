import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readKubernetesNamespace, readKubernetesPod } from './kubernetes-objects.ts';

const HINT = { apiVersion: 'v1', kind: 'Pod' };

function read(raw: unknown): unknown {
  const result = readKubernetesPod(raw, HINT);
  return 'object' in result ? result.object : result.problems;
}

test('of a pod only what the agent reads is kept', () => {
  const raw = {
    metadata: {
      uid: 'u1',
      name: 'web-1',
      namespace: 'shop',
      labels: { app: 'web' },
      annotations: {
        'ambient.istio.io/redirection': 'enabled',
        'sidecar.istio.io/status': '{}',
        'istio.io/reroute-virtual-interfaces': 'net1',
        'kubectl.kubernetes.io/last-applied-configuration': '{…}',
      },
      managedFields: [{}],
    },
    spec: { serviceAccountName: 'web', nodeName: 'n1', containers: [{}] },
    status: {
      phase: 'Running',
      podIP: '10.0.0.9',
      podIPs: [{ ip: '10.0.0.1' }, { ip: 'FD00:0::1' }, { ip: '::ffff:10.0.0.1' }, { ip: 'none' }],
    },
  };
  assert.deepEqual(read(raw), {
    uid: 'u1',
    name: 'web-1',
    namespace: 'shop',
    serviceAccount: 'web',
    labels: { app: 'web' },
    annotations: {
      'ambient.istio.io/redirection': 'enabled',
      'sidecar.istio.io/status': '{}',
      'istio.io/reroute-virtual-interfaces': 'net1',
    },
    hostNetwork: false,
    ips: ['10.0.0.1', 'fd00::1'],
    phase: 'Running',
    netnsPath: undefined,
  });
});

test('of a namespace its name, its labels and the annotations that the agent reads', () => {
  const metadata = { name: 'shop', labels: { a: 'b' }, annotations: { 'ambit.io/l7': 'off', 'openshift.io/sa': 'x' } };
  assert.deepEqual(readKubernetesNamespace({ metadata }, { apiVersion: 'v1', kind: 'Namespace' }), {
    object: { name: 'shop', labels: { a: 'b' }, annotations: { 'ambit.io/l7': 'off' } },
  });
});

test('a pod that has only begun has no address, the default service account and no known phase', () => {
  const begun = { metadata: { uid: 'u', name: 'a', namespace: 'b' }, spec: { hostNetwork: true } };
  assert.deepEqual(read(begun), {
    uid: 'u',
    name: 'a',
    namespace: 'b',
    serviceAccount: 'default',
    labels: {},
    annotations: {},
    hostNetwork: true,
    ips: [],
    phase: 'Unknown',
    netnsPath: undefined,
  });
  const single = { ...begun, status: { podIP: '10.0.0.9' } };
  assert.deepEqual((read(single) as { ips: unknown }).ips, ['10.0.0.9']);
});

test('a pod without a UID that ZDS can carry is no pod', () => {
  for (const uid of [undefined, '', 'x'.repeat(254)]) {
    assert.deepEqual(read({ metadata: { uid, name: 'a', namespace: 'b' } }), ['pod b/a has no UID']);
  }
});

test('nothing that a server may send makes a reader throw', () => {
  const odd = fc.oneof(
    fc.jsonValue(),
    fc.record({ metadata: fc.jsonValue(), spec: fc.jsonValue(), status: fc.jsonValue() }),
  );
  fc.assert(
    fc.property(odd, raw => {
      readKubernetesPod(raw, HINT);
      readKubernetesNamespace(raw, HINT);
    }),
    { seed: 7, numRuns: 300 },
  );
});
