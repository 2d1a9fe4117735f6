import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPublicKey, webcrypto } from 'node:crypto';
import { test } from 'node:test';
import * as x509 from '@peculiar/x509';
import fc from 'fast-check';
import { ControlError } from '../errors.ts';
import { MAX_CSR_BYTES, readCsr } from './csr.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

async function makeRequest(): Promise<{ readonly der: Buffer; readonly spki: Buffer }> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: 'spiffe://a/ns/b/sa/c' }], true)],
  });
  return {
    der: Buffer.from(request.rawData),
    spki: Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey)),
  };
}

function pem(der: Uint8Array): string {
  const lines = Buffer.from(der).toString('base64').replaceAll(/.{64}/g, '$&\n');
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n`;
}

test('takes the key of an independent library’s request, and nothing else', async () => {
  const { der, spki } = await makeRequest();
  assert.deepEqual(readCsr(pem(der)), spki);
  assert.equal(createPublicKey({ key: readCsr(pem(der)), format: 'der', type: 'spki' }).asymmetricKeyType, 'ec');
});

test('a request with any one byte changed is refused or carries the same key', async () => {
  const { der, spki } = await makeRequest();
  fc.assert(
    fc.property(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bad = Buffer.from(der);
      bad[at] = (bad[at] ?? 0) ^ change;
      try {
        assert.deepEqual(readCsr(pem(bad)), spki);
      } catch (error) {
        assert.ok(error instanceof ControlError && /^ca\.bad_(csr|key)$/.test(error.code), String(error));
      }
    }),
    { seed: 401, numRuns: 2000 },
  );
});

test('a key that somebody else signed for is refused', async () => {
  const [mine, theirs] = [await makeRequest(), await makeRequest()];
  const forged = Buffer.from(mine.der);
  theirs.spki.copy(forged, mine.der.indexOf(mine.spki));
  assert.throws(() => readCsr(pem(forged)), { code: 'ca.bad_csr', message: /not by its own key/ });
});

test('refuses what is too large, cut, followed by more, or not a request', async () => {
  const { der } = await makeRequest();
  const good = pem(der);
  for (const bad of [
    '',
    'garbage',
    good + good,
    good.replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE'),
    pem(der.subarray(0, -1)),
    pem(Buffer.concat([der, Buffer.from([5, 0])])),
    good + '\n'.repeat(MAX_CSR_BYTES),
  ]) {
    assert.throws(() => readCsr(bad), { code: 'ca.bad_csr' }, JSON.stringify(bad.slice(0, 60)));
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), bytes => {
      assert.throws(() => readCsr(pem(bytes)), /certificate request|public key/);
    }),
    { seed: 402, numRuns: 500 },
  );
});
