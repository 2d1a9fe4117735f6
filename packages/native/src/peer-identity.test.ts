import 'reflect-metadata';
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import * as x509 from '@peculiar/x509';
import fc from 'fast-check';
import { type Authority, makeLeaf, makeRoot } from '../test/certificates.ts';
import { certificateInfo, parseAltNames, spiffeUris } from './peer-identity.ts';

let root: Authority;
before(async () => {
  root = await makeRoot();
});

const ID = 'spiffe://cluster.local/ns/default/sa/client';

describe('URI names of a certificate', () => {
  it('come in their order, whatever their scheme, DNS names left out', async () => {
    const uris = [ID, 'https://example.com/a?b=c', 'spiffe://td2/ns/x/sa/y'];
    const leaf = await makeLeaf(root, { uris, dnsNames: ['a.example', 'b.example'] });
    assert.deepEqual(spiffeUris(leaf.certDer), uris);
  });

  it('are none when there is no such extension, or only other names', async () => {
    assert.deepEqual(spiffeUris((await makeLeaf(root, { uris: [] })).certDer), []);
    assert.deepEqual(spiffeUris((await makeLeaf(root, { uris: [], dnsNames: ['a.example'] })).certDer), []);
  });

  it('are not made up from a DNS name that looks like a list', async () => {
    for (const hostile of [
      `a, URI:${ID}`,
      `a", URI:${ID}`,
      `"a", URI:${ID}, DNS:"`,
      `a\\", URI:${ID}`,
      `URI:${ID}`,
      `a\n, URI:${ID}`,
      `a\0, URI:${ID}`,
    ]) {
      const leaf = await makeLeaf(root, { uris: ['spiffe://real/ns/a/sa/b'], dnsNames: [hostile] });
      assert.deepEqual(spiffeUris(leaf.certDer), ['spiffe://real/ns/a/sa/b'], JSON.stringify(hostile));
    }
  });

  it('keep odd characters as they are in the certificate', async () => {
    const uris = [`${ID}, DNS:x`, `${ID}"`, `${ID}\\`, `${ID}'`, `${ID}\0`, `${ID}\n`, '', 'a:b:c', ' , '];
    const leaf = await makeLeaf(root, { uris });
    assert.deepEqual(spiffeUris(leaf.certDer), uris);
  });

  it('survive names of all other kinds beside them', async () => {
    const keys = root.keys;
    const names = new x509.SubjectAlternativeNameExtension([
      { type: 'dn', value: 'CN=a\\, b,O=c' },
      { type: 'ip', value: '10.0.0.1' },
      { type: 'ip', value: '2001:db8::1' },
      { type: 'email', value: 'a@b.example' },
      { type: 'id', value: '1.2.3.4' },
      { type: 'upn', value: `x, URI:${ID}` },
      { type: 'guid', value: '8ee13e53-2c1c-42bb-8df7-39927c0bdbb6' },
      { type: 'url', value: ID },
    ]);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: '01',
      name: 'CN=x',
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [names],
    });
    assert.deepEqual(spiffeUris(new Uint8Array(certificate.rawData)), [ID]);
  });

  it('come back for any list of names', async () => {
    // IA5String: seven bits.
    const name = fc.string({ unit: fc.integer({ min: 0, max: 127 }).map(c => String.fromCharCode(c)), maxLength: 40 });
    const list = fc.array(fc.record({ isUri: fc.boolean(), value: name }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(list, async names => {
        const uris = names.filter(n => n.isUri).map(n => n.value);
        const leaf = await makeLeaf(root, { uris, dnsNames: names.filter(n => !n.isUri).map(n => n.value) });
        assert.deepEqual(spiffeUris(leaf.certDer), uris);
      }),
      { seed: 20_261_124, numRuns: 150 },
    );
  });

  it('of something that is no certificate are an error', async () => {
    const leaf = await makeLeaf(root);
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('nonsense'),
      leaf.certDer.subarray(0, -5),
      Buffer.from(leaf.certChainPem),
      Buffer.from([0x30, 0]),
    ]) {
      assert.throws(() => spiffeUris(bytes), { code: 'tls.bad_certificate' });
    }
  });
});

describe('the text form of alternative names', () => {
  it('is read exactly', () => {
    assert.deepEqual(parseAltNames('URI:a, DNS:"b, URI:c", URI:"\\u0000\\""'), [
      { type: 'URI', value: 'a' },
      { type: 'DNS', value: 'b, URI:c' },
      { type: 'URI', value: '\0"' },
    ]);
  });

  it('is refused when any of it is not understood', () => {
    for (const text of [
      'URI',
      'URI:a,DNS:b',
      'URI:a, ',
      'URI:a, b',
      'URI:"a',
      'URI:"a"b',
      'URI:a"b',
      'URI:"\\x"',
      'URI:"\u0001"',
      'Uri:a',
      ' URI:a',
      'URL:a',
      ':a',
    ]) {
      assert.throws(() => parseAltNames(text), { code: 'tls.bad_certificate' }, text);
    }
  });

  it('never throws anything else', () => {
    fc.assert(
      fc.property(
        fc.string({
          unit: fc.constantFrom('U', 'R', 'I', ':', ',', '"', '\\', ' ', 'u', '0', 'a', '\n'),
          maxLength: 60,
        }),
        text => {
          try {
            parseAltNames(`URI:${text}`);
          } catch (error) {
            assert.equal((error as { code?: string }).code, 'tls.bad_certificate');
          }
        },
      ),
      { seed: 7, numRuns: 3000 },
    );
  });
});

it('a certificate says its dates, serial, subject and names', async () => {
  const notBefore = new Date('2026-01-02T03:04:05Z');
  const notAfter = new Date('2036-01-02T03:04:05Z');
  const leaf = await makeLeaf(root, { notBefore, notAfter, uris: [ID] });
  const info = certificateInfo(leaf.certDer);
  assert.deepEqual(info.notBefore, notBefore);
  assert.deepEqual(info.notAfter, notAfter);
  assert.match(info.serial, /^[0-9A-F]+$/);
  assert.equal(info.subject, '');
  assert.deepEqual(info.uris, [ID]);
  assert.equal(certificateInfo(root.certDer).subject, 'O=cluster.local');
});
