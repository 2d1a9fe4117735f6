import 'reflect-metadata';
import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import * as x509 from '@peculiar/x509';
import { signDevLeaf } from './dev-root.ts';

const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };

test('signs with an RSA root, whose name it repeats in the same encoding', async () => {
  const root = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    // As openssl does: a UTF8String. Made from text the same name would be a PrintableString, for rustls another issuer.
    name: `O=#0c0d${Buffer.from('cluster.local').toString('hex')}`,
    serialNumber: '01',
    notBefore: new Date(now - 1000),
    notAfter: new Date(now + 3_600_000),
    signingAlgorithm: RSA,
    keys: {
      privateKey: root.privateKey.toCryptoKey(RSA, true, ['sign']),
      publicKey: root.publicKey.toCryptoKey(RSA, true, ['verify']),
    },
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const leaf = await signDevLeaf(
    {
      certPem: certificate.toString('pem'),
      keyPem: root.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    },
    {
      identity: 'spiffe://cluster.local/ns/shop/sa/web',
      publicKeySpki: publicKey.export({ type: 'spki', format: 'der' }),
      nowMs: now,
      lifetimeMs: 60_000,
    },
  );
  assert.ok(new X509Certificate(leaf.certPem).verify(root.publicKey));
  const issuer = Buffer.from(new x509.X509Certificate(leaf.certPem).issuerName.toArrayBuffer());
  assert.deepEqual(issuer, Buffer.from(certificate.subjectName.toArrayBuffer()));
});
