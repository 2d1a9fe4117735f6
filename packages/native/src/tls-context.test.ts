// Material and options: what is taken, what is refused and with which code.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { before, describe, it } from 'node:test';
import { makeLeaf, materialOf } from '../test/certificates.ts';
import { openssl } from './openssl.ts';
import { TlsContext, type TlsMaterial, type TlsOptions } from './tls-context.ts';
import { CERTIFICATE_VERIFY_FAILED, failureOfSsl, SSL_REASONS } from './tls-failure.ts';
import { makeMesh, type Mesh } from '../test/tls-testing.ts';

let mesh: Mesh;
let material: TlsMaterial;
before(async () => {
  mesh = await makeMesh();
  material = materialOf(mesh.serverLeaf, mesh.root);
});

const refused = (change: Partial<TlsMaterial>, code: string, options: TlsOptions = {}): void => {
  for (const make of [TlsContext.server, TlsContext.client]) {
    assert.throws(() => make({ ...material, ...change }, options), { name: 'TlsError', code });
    assert.equal(openssl().errGetError(), 0, 'no error is left behind');
  }
};

describe('TLS material', () => {
  it('is taken as text or as bytes, with text around the blocks', () => {
    TlsContext.server(material).close();
    TlsContext.client({
      certChainPem: Buffer.from(`a comment\n${String(material.certChainPem)}\nanother`),
      privateKeyPem: Buffer.from(String(material.privateKeyPem)),
      rootsPem: new Uint8Array(Buffer.from(String(material.rootsPem))),
    }).close();
  });

  it('of several roots and of RSA and Ed25519 keys is taken when it fits', () => {
    TlsContext.server({ ...material, rootsPem: String(material.rootsPem).repeat(3) }).close();
  });

  it('whose key belongs to another certificate is a key mismatch, whatever the kind of key', async () => {
    const stranger = await makeLeaf(mesh.root);
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
    const edwards = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' });
    for (const privateKeyPem of [stranger.privateKeyPem, rsa, edwards]) refused({ privateKeyPem }, 'tls.key_mismatch');
  });

  it('with an unreadable key is refused, and an encrypted key does not ask the terminal', () => {
    const encrypted = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: 'secret',
    });
    for (const privateKeyPem of ['', 'nonsense', encrypted, material.certChainPem])
      refused({ privateKeyPem }, 'tls.bad_key');
  });

  it('with an unreadable certificate or none is refused', () => {
    const good = String(material.certChainPem);
    const broken = good.replace(/MII/, 'MJJ');
    for (const certChainPem of ['', 'nonsense', broken, good + broken, material.privateKeyPem]) {
      refused({ certChainPem }, 'tls.bad_certificate');
    }
  });

  it('with no root, or one that cannot be read, is refused', () => {
    const good = String(material.rootsPem);
    for (const rootsPem of ['', 'nonsense', good + good.replace(/MII/, 'MJJ')]) refused({ rootsPem }, 'tls.bad_roots');
  });

  it('never shows the key in an error', () => {
    const lines = String(material.privateKeyPem).split('\n');
    const privateKeyPem = lines.map((line, i) => (i === 1 ? `!${line}` : line)).join('\n');
    try {
      TlsContext.server({ ...material, privateKeyPem }).close();
      assert.fail('taken');
    } catch (error) {
      assert.ok(!String(error).includes(lines[1] ?? '?') && !String((error as Error).stack).includes(lines[2] ?? '?'));
    }
  });
});

describe('TLS options', () => {
  it('with groups or suites that OpenSSL or we do not know are refused', () => {
    refused({}, 'tls.bad_option', { groups: 'nonsense' });
    refused({}, 'tls.bad_option', { suites: 'TLS_CHACHA20_POLY1305_SHA256' });
    refused({}, 'tls.bad_option', { suites: '' });
  });

  it('name groups that OpenSSL knows by default', () => {
    TlsContext.client(material, { groups: 'X25519MLKEM768' }).close();
    TlsContext.client(material, { groups: 'P-256:P-384' }).close();
  });
});

describe('reasons of failures', () => {
  const lib = openssl();
  const ERR_LIB_SSL = 20;

  it('carry the numbers of this OpenSSL', () => {
    for (const [reason, { text }] of SSL_REASONS) assert.equal(lib.errReason(ERR_LIB_SSL * 2 ** 23 + reason), text);
    assert.equal(lib.errReason(ERR_LIB_SSL * 2 ** 23 + CERTIFICATE_VERIFY_FAILED), 'certificate verify failed');
    const texts = [2, 9, 10, 18, 19, 20, 21, 26].map(result => lib.verifyErrorText(result));
    assert.deepEqual(texts, [
      'unable to get issuer certificate',
      'certificate is not yet valid',
      'certificate has expired',
      'self-signed certificate',
      'self-signed certificate in certificate chain',
      'unable to get local issuer certificate',
      'unable to verify the first certificate',
      'unsuitable certificate purpose',
    ]);
  });

  it('prefer the alert of the peer, then the certificate, then what OpenSSL met first', () => {
    const entry = (reason: number, fromSsl = true): { fromSsl: boolean; reason: number; text: string } => ({
      fromSsl,
      reason,
      text: `reason ${reason}`,
    });
    const code = (...reasons: number[]): string =>
      failureOfSsl(
        reasons.map(r => entry(r)),
        10,
        'expired',
      ).code;
    assert.equal(code(134, 1116), 'tls.alert_certificate_required');
    assert.equal(code(1255), 'tls.alert_alert_255');
    assert.equal(code(134), 'tls.expired');
    assert.equal(failureOfSsl([entry(134)], 7, 'signature').code, 'tls.bad_certificate');
    assert.equal(code(235), 'tls.no_common_alpn');
    assert.equal(code(12_345), 'tls.protocol');
    assert.equal(code(), 'tls.protocol');
    assert.equal(
      failureOfSsl([entry(1116, false)], 0, '').code,
      'tls.protocol',
      'numbers of other libraries mean nothing',
    );
  });
});
