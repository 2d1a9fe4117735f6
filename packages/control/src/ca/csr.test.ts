import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, webcrypto } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import * as x509 from '@peculiar/x509';
import fc from 'fast-check';
import { ControlError } from '../errors.ts';
import { MAX_CSR_BYTES, readCsr } from './csr.ts';
import { bitString, explicit, oid, readOne, sequence, smallInteger } from './der.ts';
import { openssl, withDirectory } from './openssl-testing.ts';

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

/** A request around any key, signed by nobody. */
function around(spki: Uint8Array): string {
  const info = sequence(smallInteger(0), sequence(), spki, explicit(0));
  return pem(sequence(info, sequence(oid('1.2.840.113549.1.1.11')), bitString(Buffer.alloc(256))));
}

test('keys that are costly to check, or that prove nothing, are refused before anything is checked with them', () => {
  const { n } = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' });
  const key = (e: string) =>
    createPublicKey({
      key: { kty: 'RSA', n: n ?? '', e: Buffer.from(e, 'hex').toString('base64url') },
      format: 'jwk',
    }).export({ type: 'spki', format: 'der' });
  for (const e of ['01', '02', '010000', '01'.repeat(9), '01'.repeat(255)]) {
    assert.throws(() => readCsr(around(key(e))), { code: 'ca.bad_key' }, e);
  }
  // What is wrong here is the signature alone.
  for (const e of ['03', '010001']) assert.throws(() => readCsr(around(key(e))), { code: 'ca.bad_csr' }, e);
});

test('a curve that is spelled out instead of named does not come out of a request as another one', async () => {
  await withDirectory(async directory => {
    const file = join(directory, 'explicit.key');
    await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-param_enc', 'explicit', '-out', file);
    const csr = await openssl('req', '-new', '-key', file, '-subj', '/');
    try {
      const key = createPublicKey({ key: readCsr(csr), format: 'der', type: 'spki' });
      assert.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
    } catch (error) {
      assert.ok(error instanceof ControlError && error.code === 'ca.bad_key', String(error));
    }
  });
});

test('lengths that lie, that are not minimal or not definite, and bytes after the end are refused', async () => {
  const { der } = await makeRequest();
  const body = readOne(der).content;
  const length = Buffer.from([body.length >> 8, body.length & 0xff]);
  const bad = [
    Buffer.concat([der, Buffer.from([0])]),
    Buffer.concat([der, der]),
    Buffer.concat([Buffer.from([0x30, 0x80]), body, Buffer.from([0, 0])]),
    Buffer.concat([Buffer.from([0x30, 0x83, 0]), length, body]),
    Buffer.concat([Buffer.from([0x30, 0x84, 0, 0]), length, body]),
    Buffer.concat([Buffer.from([0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), body]),
    Buffer.concat([Buffer.from([0x30, 0xff]), Buffer.alloc(127, 0xff), body]),
    Buffer.concat([Buffer.from([0x3f, 0x81, 0x10]), der.subarray(1)]),
    Buffer.from([0x30]),
    Buffer.from([0x30, 0x82]),
    Buffer.alloc(0),
    sequence(sequence(...Array.from({ length: 2_000 }, () => sequence()))),
  ];
  for (const each of bad) {
    assert.throws(() => readCsr(pem(each)), { code: 'ca.bad_csr' }, each.toString('hex', 0, 12));
  }
});
