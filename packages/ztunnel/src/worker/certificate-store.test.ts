import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeLeaf, makeRoot, materialOf } from '../../../native/test/certificates.ts';
import type { CertificateMaterial } from '../worker-protocol.ts';
import { CertificateStore } from './certificate-store.ts';

const ID = 'spiffe://cluster.local/ns/shop/sa/web';

async function material(): Promise<CertificateMaterial> {
  const root = await makeRoot();
  return { identity: ID, ...materialOf(await makeLeaf(root, { uris: [ID] }), root) };
}

function setUp(): { readonly store: CertificateStore; readonly missed: string[] } {
  const missed: string[] = [];
  return { store: new CertificateStore({}, identity => missed.push(identity)), missed };
}

test('one context serves all handshakes of a role until the certificate is replaced', async () => {
  const { store } = setUp();
  store.set(ID, await material(), undefined);
  const first = store.client(ID);
  assert.ok(!('error' in first));
  assert.equal(store.client(ID), first);
  assert.notEqual(store.server(ID), first);
  store.set(ID, await material(), undefined);
  assert.notEqual(store.client(ID), first);
  store.close();
});

test('an error takes the certificate away, and who needs it has it asked for', async () => {
  const { store, missed } = setUp();
  store.set(ID, await material(), undefined);
  assert.equal(store.missing(ID), undefined);
  store.set(ID, undefined, 'it expired');
  assert.equal(store.missing(ID), 'it expired');
  assert.deepEqual(store.client(ID), { error: 'it expired' });
  assert.deepEqual(store.server(ID), { error: 'it expired' });
  assert.deepEqual(missed, [ID], 'asked for once, however many come at once');
  store.set(ID, await material(), undefined);
  assert.equal(store.missing(ID), undefined);
  assert.ok(!('error' in store.client(ID)));
  store.close();
});

test('who comes after an identity was forgotten waits for the next word on it', async () => {
  const { store, missed } = setUp();
  store.set(ID, await material(), undefined);
  store.set(ID, undefined, undefined);
  assert.equal(store.isKnown(ID), false);
  assert.equal(store.missing(ID), undefined);
  let wakes = 0;
  store.onKnown(ID, () => wakes++);
  store.set(ID, await material(), undefined);
  assert.equal(wakes, 1);
  assert.equal(store.isKnown(ID), true);
  assert.deepEqual(missed, []);
  store.close();
});
