import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createService, createWorkload, MeshState } from '@ambit/mesh';
import { fullName } from './full-name.ts';

const mesh = new MeshState();
const pod = (namespace: string, workloadName: string) =>
  createWorkload({ uid: `c//Pod/${namespace}/${workloadName}-1`, name: `${workloadName}-1`, namespace, workloadName });
mesh.applyBatch({
  upsertWorkloads: [pod('shop', 'web'), pod('shop', 'cart'), pod('bank', 'cart')],
  upsertServices: [createService({ name: 'front', namespace: 'shop', hostname: 'front.shop.svc.cluster.local' })],
});

test('a bare name that one workload or service has gets its namespace, and keeps its port', () => {
  assert.deepEqual(fullName(mesh, 'web', 'source'), { kind: 'name', name: 'shop/web' });
  assert.deepEqual(fullName(mesh, 'front:80', 'destination'), { kind: 'name', name: 'shop/front:80' });
});

test('several are choices, none has the nearest, and a service is no source', () => {
  assert.deepEqual(fullName(mesh, 'cart', 'source'), { kind: 'ambiguous', choices: ['bank/cart', 'shop/cart'] });
  assert.deepEqual(fullName(mesh, 'fromt', 'destination'), { kind: 'unknown', nearest: ['shop/front'] });
  assert.deepEqual(fullName(mesh, 'front', 'source'), { kind: 'unknown', nearest: [] });
});

test('full names, addresses and host names stay as they are', () => {
  for (const name of ['shop/web', '10.0.0.1:80', 'front.shop.svc.cluster.local', '::1', 'Web']) {
    assert.deepEqual(fullName(mesh, name, 'destination'), { kind: 'name', name });
  }
});
