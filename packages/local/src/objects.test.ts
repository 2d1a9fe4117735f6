import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type PodFacts, renderObjects } from './objects.ts';

const POD: PodFacts = {
  uid: 'u1',
  name: 'cart-1',
  namespace: 'shop',
  serviceAccount: 'cart',
  labels: { app: 'cart-1' },
  ips: ['10.62.0.2', 'fd00:62::2'],
  createdAt: '2026-11-24T11:00:00.000Z',
  status: 'enabled',
};

function objectsOf(...args: Parameters<typeof renderObjects>) {
  const objects = renderObjects(...args)
    .split('\n---\n')
    .map(text => JSON.parse(text) as { kind: string; metadata: { name: string }; spec: Record<string, unknown> });
  return (kind: string, name: string) => objects.find(each => each.kind === kind && each.metadata.name === name);
}

test('a workload is a ready pod on this node, found by a headless service of its name', () => {
  const find = objectsOf([POD], [POD], []);
  const pod = find('Pod', 'cart-1');
  assert.deepEqual(pod?.metadata, {
    name: 'cart-1',
    namespace: 'shop',
    uid: 'u1',
    labels: { app: 'cart-1' },
    creationTimestamp: POD.createdAt,
    annotations: { 'ambient.istio.io/redirection': 'enabled' },
  });
  assert.equal(find('Service', 'cart-1')?.spec['clusterIP'], 'None');
  assert.ok(find('Namespace', 'shop') && find('Namespace', 'istio-system') && find('Node', 'local'));
});

test('a service with an address takes the place of a headless one of the same name', () => {
  const cart = { namespace: 'shop', name: 'cart-1', ips: ['10.62.240.1'], ports: [{ port: 80, targetPort: 8080 }] };
  const text = renderObjects([POD], [POD], [cart]);
  assert.equal(text.match(/"kind":"Service"/g)?.length, 1);
  assert.equal(objectsOf([POD], [POD], [cart])('Service', 'cart-1')?.spec['clusterIP'], '10.62.240.1');
});

test('a pod that is not in the mesh does not say it is', () => {
  const text = renderObjects([{ ...POD, status: undefined }], [], []);
  assert.match(text, /"kind":"Pod"/);
  assert.doesNotMatch(text, /redirection/);
});
