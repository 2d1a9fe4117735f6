import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DevCa } from './dev-ca.ts';
import { type DevRoot, generateDevRoot } from './dev-root.ts';

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/cart';

async function withCa(
  roots: { readonly cert: DevRoot; readonly key: DevRoot },
  run: (ca: DevCa, directory: string) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-ca-'));
  const certPath = join(directory, 'root.pem');
  const keyPath = join(directory, 'root.key');
  await writeFile(certPath, roots.cert.certPem);
  await writeFile(keyPath, roots.key.keyPem, { mode: 0o600 });
  const ca = new DevCa({ certPath, keyPath, lifetimeMs: 3_600_000 });
  try {
    await run(ca, directory);
  } finally {
    ca.close();
    await rm(directory, { recursive: true });
  }
}

test('issues a P-256 leaf with one critical URI name for both ends of TLS, valid now', async () => {
  const root = await generateDevRoot();
  await withCa({ cert: root, key: root }, async ca => {
    const { material, notBeforeMs, notAfterMs } = await ca.issue(IDENTITY);
    const leaf = new X509Certificate(material.certChainPem);
    const rootCertificate = new X509Certificate(material.rootsPem);
    assert.ok(leaf.checkIssued(rootCertificate) && leaf.verify(rootCertificate.publicKey));
    assert.ok(leaf.checkPrivateKey(createPrivateKey(material.privateKeyPem)));
    assert.equal(leaf.subjectAltName, `URI:${IDENTITY}`);
    assert.equal(leaf.subject ?? '', '');
    assert.equal(leaf.ca, false);
    assert.deepEqual(leaf.keyUsage?.toSorted(), ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    assert.equal(leaf.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1');
    assert.equal(leaf.validFromDate.getTime(), notBeforeMs);
    assert.equal(leaf.validToDate.getTime(), notAfterMs);
    assert.ok(notBeforeMs <= Date.now() && notAfterMs > Date.now() + 3_500_000);
    // subjectAltName 2.5.29.17 followed by critical TRUE, as an empty subject demands (RFC 5280 4.2.1.6).
    assert.ok(leaf.raw.includes(Buffer.from('0603551d110101ff', 'hex')));
  });
});

test('every certificate has its own key and serial', async () => {
  const root = await generateDevRoot();
  await withCa({ cert: root, key: root }, async ca => {
    const [a, b] = await Promise.all([ca.issue(IDENTITY), ca.issue(IDENTITY)]);
    assert.notEqual(a.material.privateKeyPem, b.material.privateKeyPem);
    assert.notEqual(
      new X509Certificate(a.material.certChainPem).serialNumber,
      new X509Certificate(b.material.certChainPem).serialNumber,
    );
  });
});

test('an empty trust domain, as in a bare local file, can be signed', async () => {
  const root = await generateDevRoot();
  await withCa({ cert: root, key: root }, async ca => {
    const { material } = await ca.issue('spiffe:///ns/shop/sa/web');
    assert.equal(new X509Certificate(material.certChainPem).subjectAltName, 'URI:spiffe:///ns/shop/sa/web');
  });
});

test('refuses a key of another root, names that are not SPIFFE, and files that are not there', async () => {
  const [a, b] = [await generateDevRoot(), await generateDevRoot()];
  await withCa({ cert: a, key: b }, async ca => {
    await assert.rejects(ca.issue(IDENTITY), { code: 'identity.unavailable', message: /do not belong together/ });
  });
  await withCa({ cert: a, key: a }, async (ca, directory) => {
    await assert.rejects(ca.issue('cart'), { code: 'identity.unavailable', message: /invalid spiffe identity/ });
    await rm(join(directory, 'root.key'));
    await assert.rejects(ca.issue(IDENTITY), { code: 'identity.unavailable', message: /cannot read .*root\.key/ });
    await writeFile(join(directory, 'root.key'), 'secret words');
    await assert.rejects(ca.issue(IDENTITY), error => {
      assert.ok(error instanceof Error);
      assert.ok(!error.message.includes('secret words'));
      return true;
    });
  });
});

test('an expired root signs nothing, and no leaf outlives its root', async () => {
  const expired = await generateDevRoot({ days: -1 });
  await withCa({ cert: expired, key: expired }, async ca => {
    await assert.rejects(ca.issue(IDENTITY), { code: 'identity.unavailable', message: /expired/ });
  });
  const short = await generateDevRoot({ days: 0.01 });
  await withCa({ cert: short, key: short }, async ca => {
    const { material, notAfterMs } = await ca.issue(IDENTITY);
    assert.equal(notAfterMs, new X509Certificate(material.rootsPem).validToDate.getTime());
  });
});
