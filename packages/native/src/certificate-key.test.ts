import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { makeLeaf, makeRoot } from '../test/certificates.ts';
import { certificateKey, revocationKey } from './certificate-key.ts';
import { TlsError } from './tls-error.ts';

const root = await makeRoot('O=acme, CN=root one');
const leaf = await makeLeaf(root);

test('names issuer and serial as the certificate has them', () => {
  const [issuer = '', serial] = certificateKey(leaf.certDer).split(':');
  assert.equal(serial, new X509Certificate(leaf.certDer).serialNumber.toLowerCase());
  assert.deepEqual(Buffer.from(issuer, 'base64'), Buffer.from(root.certificate.subjectName.toArrayBuffer()));
});

test('two certificates of one issuer differ, and so do equal serials of two issuers', async () => {
  const other = await makeLeaf(root);
  assert.notEqual(certificateKey(leaf.certDer), certificateKey(other.certDer));
  const serial = Buffer.from('0102', 'hex');
  assert.notEqual(revocationKey(Buffer.from('a'), serial), revocationKey(Buffer.from('b'), serial));
});

test('anything but a certificate is refused, never read beyond its end', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat({ max: leaf.certDer.length - 1 }), (noise, cut) => {
      for (const bytes of [noise, leaf.certDer.subarray(0, cut)]) {
        try {
          certificateKey(bytes);
          // Reading stops at the issuer, so only a cut behind it may go unnoticed... but the outer length tells.
          assert.fail('read a broken certificate');
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          assert.ok(error instanceof TlsError);
          assert.equal(error.code, 'tls.bad_certificate');
        }
      }
    }),
    { seed: 20_261_124, numRuns: 500 },
  );
});
