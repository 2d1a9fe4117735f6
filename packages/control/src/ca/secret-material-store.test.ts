import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { decodeMaterial, encodeMaterial, isSameMaterial, type Material } from './material.ts';
import { type SecretContents, SecretMaterialStore, type SharedSecret } from './secret-material-store.ts';
import { SelfSigned } from './self-signed.ts';
import { makeRoot } from './signer.ts';

/** A Secret in memory with the versions of a real one; each answer comes a turn later, so that callers interleave. */
function memorySecret(initial?: SecretContents['data']): SharedSecret {
  let version = 1;
  let now: SecretContents | undefined =
    initial === undefined ? undefined : { data: initial, resourceVersion: String(version) };
  const put = (data: SecretContents['data']): SecretContents => {
    version += 1;
    now = { data: { ...now?.data, ...data }, resourceVersion: String(version) };
    return now;
  };
  return {
    name: 'secret in memory',
    get: async () => now,
    create: async data =>
      now === undefined ? { kind: 'saved', contents: put(data) } : { kind: 'conflict', current: now },
    update: async (data, previous) =>
      now?.resourceVersion === previous.resourceVersion
        ? { kind: 'saved', contents: put(data) }
        : { kind: 'conflict', current: now },
  };
}

function newMaterial(): Material {
  const root = makeRoot('cluster.local', Date.now(), generateKeyPairSync('ec', { namedCurve: 'prime256v1' }));
  return { root, rotation: { kind: 'steady' } };
}

test('material survives its text in every state of a change of roots', () => {
  const { root } = newMaterial();
  const other = newMaterial().root;
  for (const rotation of [
    { kind: 'steady' },
    { kind: 'announced', next: other, sinceMs: 12 },
    { kind: 'switched', previous: other, sinceMs: 13 },
  ] as const) {
    assert.deepEqual(decodeMaterial(encodeMaterial({ root, rotation }), 'here'), { root, rotation });
  }
  const cut = encodeMaterial({ root, rotation: { kind: 'announced', next: other, sinceMs: 1 } }).slice(0, -300);
  assert.throws(() => decodeMaterial(cut, 'here'), { code: 'ca.bad_material' });
});

test('control planes that share a Secret agree on one root, and each step is taken once', async () => {
  const secret = memorySecret();
  const make = (): SelfSigned =>
    new SelfSigned({
      store: new SecretMaterialStore(secret),
      trustDomain: 'cluster.local',
      overlapMs: 1000,
      now: Date.now,
    });
  const all = [make(), make(), make()];
  await Promise.all(all.map(each => each.start()));
  assert.equal(new Set(all.map(each => each.state?.rootsPem)).size, 1);
  const rotated = await Promise.allSettled(all.map(each => each.rotate()));
  assert.equal(rotated.filter(each => each.status === 'fulfilled').length, 1);
  await Promise.all(all.map(each => each.refresh()));
  assert.equal(new Set(all.map(each => each.state?.rootsPem)).size, 1);
  assert.deepEqual(new Set(all.map(each => each.state?.phase)), new Set(['announced']));
});

test('a Secret that istiod made is taken over: its root goes on signing', async () => {
  const { root } = newMaterial();
  const store = new SecretMaterialStore(
    memorySecret({ 'ca-cert.pem': Buffer.from(root.certPem), 'ca-key.pem': Buffer.from(root.keyPem) }),
  );
  assert.ok(isSameMaterial(await store.load(), { root, rotation: { kind: 'steady' } }));
});
