import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import '../test/certificates.ts';
import * as x509 from '@peculiar/x509';
import { generateCertificateRequest } from './certificate-request.ts';
import { NativeError } from './errors.ts';

const ID = 'spiffe://cluster.local/ns/shop/sa/cart';

function run(args: readonly string[], input: string): string {
  const result = spawnSync('openssl', args, { input, encoding: 'utf8', timeout: 10_000 });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout + result.stderr;
}

test('the openssl command verifies a request and reads what upstream asks for, and nothing else', () => {
  const { csrPem } = generateCertificateRequest(ID);
  const text = run(['req', '-verify', '-noout', '-text'], csrPem);
  assert.match(text, /verify OK/i);
  assert.match(text, /Subject:\s*\n/);
  assert.match(text, /NIST CURVE: P-256/);
  assert.match(text, /Signature Algorithm: ecdsa-with-SHA256/);
  assert.match(text, /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster.local\/ns\/shop\/sa\/cart\n/);
  assert.equal(text.match(/X509v3 /g)?.length, 1);
});

test('another library reads the same, and the key is the one of the request', async () => {
  const { csrPem, privateKeyPem } = generateCertificateRequest(ID);
  const request = new x509.Pkcs10CertificateRequest(csrPem);
  assert.equal(await request.verify(), true);
  assert.equal(request.subject, '');
  assert.deepEqual(
    Array.from(request.extensions, extension => [extension.type, extension.critical]),
    [['2.5.29.17', true]],
  );
  const [extension] = request.extensions;
  assert.ok(extension !== undefined);
  const names = new x509.SubjectAlternativeNameExtension(extension.rawData).names.toJSON();
  assert.deepEqual(names, [{ type: 'url', value: ID }]);
  assert.match(privateKeyPem, /^-----BEGIN PRIVATE KEY-----\n/);
  const key = createPrivateKey(privateKeyPem);
  assert.equal(key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  assert.deepEqual(Buffer.from(request.publicKey.rawData), spki);
});

test('each request has a key of its own', () => {
  assert.notEqual(generateCertificateRequest(ID).privateKeyPem, generateCertificateRequest(ID).privateKeyPem);
});

test('whatever is in an id is one name', () => {
  // Commas and colons separate names in the configuration syntax of other tools.
  const ascii = fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 60 }).filter(text => /^[!-~]+$/.test(text));
  fc.assert(
    fc.property(ascii, rest => {
      const request = new x509.Pkcs10CertificateRequest(generateCertificateRequest(`spiffe://${rest}`).csrPem);
      const names = new x509.SubjectAlternativeNameExtension(request.extensions[0]?.rawData ?? new ArrayBuffer(0));
      assert.deepEqual(names.names.toJSON(), [{ type: 'url', value: `spiffe://${rest}` }]);
    }),
    { seed: 41, numRuns: 100 },
  );
});

test('an id that a certificate cannot carry is refused', () => {
  for (const id of [
    '',
    'spiffe://',
    'https://a/b',
    'spiffe://a b',
    'spiffe://ä',
    'spiffe://a\0b',
    `spiffe://${'a'.repeat(2048)}`,
  ]) {
    assert.throws(
      () => generateCertificateRequest(id),
      error => error instanceof NativeError && error.code === 'native.argument',
    );
  }
});

test('ten thousand requests leave no memory behind', () => {
  for (let i = 0; i < 1000; i++) generateCertificateRequest(ID);
  const before = process.memoryUsage.rss();
  for (let i = 0; i < 10_000; i++) generateCertificateRequest(ID);
  // The smallest object that could be forgotten is a few hundred bytes; garbage of V8 comes and goes.
  const grown = process.memoryUsage.rss() - before;
  assert.ok(grown < 24 << 20, `${grown} bytes`);
});
