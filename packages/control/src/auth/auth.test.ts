import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeJwt, generateKeyPair, SignJWT } from 'jose';
import { withDirectory } from '../ca/openssl-testing.ts';
import { makeRoot, openSigner, type Signer } from '../ca/signer.ts';
import { EMPTY_NAME, type Name, randomSerial, writeCertificate } from '../ca/x509-writer.ts';
import { SILENT_LOG } from '@ambit/log';
import type { Authenticator, AuthOutcome, Credentials } from './caller.ts';
import { certificateAuthenticator } from './certificate-authenticator.ts';
import { firstOf } from './first-of.ts';
import { LocalTokens } from './local-token.ts';

const HOUR = 3_600_000;
const NOTHING: Credentials = {
  authorization: undefined,
  clusterId: undefined,
  certificate: undefined,
  peer: '10.0.0.1:5',
};
const ZTUNNEL = { namespace: 'istio-system', serviceAccount: 'ztunnel', node: 'n1' };

function codeOf(outcome: AuthOutcome): string {
  return outcome.kind === 'refused' ? outcome.code : 'caller';
}

function bearer(token: string): Credentials {
  return { ...NOTHING, authorization: `Bearer ${token}` };
}

async function withTokens(
  body: (tokens: LocalTokens, clock: { ms: number }, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    const options = { stateDirectory: directory, trustDomain: 'cluster.local', now: () => clock.ms };
    await body(await LocalTokens.open(options), clock, directory);
  });
}

test('a local token proves its account and node, before and after a restart', async () => {
  await withTokens(async (tokens, _clock, directory) => {
    const { token } = await tokens.issue(ZTUNNEL);
    const again = await LocalTokens.open({ stateDirectory: directory, trustDomain: 'cluster.local' });
    for (const each of [tokens, again]) {
      assert.deepEqual(await each.authenticate(bearer(token)), {
        kind: 'caller',
        caller: {
          identity: { trustDomain: 'cluster.local', namespace: 'istio-system', serviceAccount: 'ztunnel' },
          via: 'local_token',
          node: 'n1',
          pod: undefined,
        },
      });
    }
    assert.equal((await stat(join(directory, 'token-key.pem'))).mode & 0o777, 0o600);
    const { iss, aud, sub } = decodeJwt(token);
    assert.deepEqual([iss, aud, sub], ['ambit', 'istio-ca', 'system:serviceaccount:istio-system:ztunnel']);
  });
});

test('a local token ends when it says, with a minute for clocks that differ', async () => {
  await withTokens(async (tokens, clock) => {
    const { token, expiresAtMs } = await tokens.issue({ ...ZTUNNEL, ttlMs: HOUR });
    clock.ms = expiresAtMs + 58_000;
    assert.equal(codeOf(await tokens.authenticate(bearer(token))), 'caller');
    clock.ms = expiresAtMs + 62_000;
    assert.equal(codeOf(await tokens.authenticate(bearer(token))), 'auth.expired');
    clock.ms = expiresAtMs - HOUR - 62_000;
    assert.equal(codeOf(await tokens.authenticate(bearer(token))), 'auth.bad_token');
  });
});

test('tokens by another key, algorithm, audience or without an end are refused', async () => {
  await withTokens(async (tokens, clock) => {
    await withTokens(async others => {
      const { token } = await others.issue(ZTUNNEL);
      assert.equal(codeOf(await tokens.authenticate(bearer(token))), 'auth.bad_token');
    });
    const { token } = await tokens.issue(ZTUNNEL);
    const [header = '', payload = '', signature = ''] = token.split('.');
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = decodeJwt(token);
    for (const bad of [
      `${encode({ alg: 'none' })}.${payload}.`,
      `${header}.${encode({ ...claims, 'ambit.node': 'n2' })}.${signature}`,
      `${header}.${payload}.${signature.slice(0, -4)}`,
    ]) {
      assert.equal(codeOf(await tokens.authenticate(bearer(bad))), 'auth.bad_token', bad);
    }
    const { privateKey } = await generateKeyPair('ES256');
    const foreign = await new SignJWT({}).setProtectedHeader({ alg: 'ES256' }).setIssuer('kubernetes').sign(privateKey);
    assert.equal(codeOf(await tokens.authenticate(bearer(foreign))), 'auth.none');
    for (const authorization of [undefined, '', 'Bearer', 'Basic abc', 'Bearer x', `Bearer ${'x'.repeat(20_000)}`]) {
      assert.equal(codeOf(await tokens.authenticate({ ...NOTHING, authorization })), 'auth.none');
    }
    await assert.rejects(tokens.issue({ ...ZTUNNEL, namespace: 'a:b' }), { code: 'auth.bad_request' });
    await assert.rejects(tokens.issue({ ...ZTUNNEL, ttlMs: 400 * 24 * HOUR }), { code: 'auth.bad_request' });
    assert.ok(clock.ms > 0);
  });
});

test('two that start at once share one token key, and a key that others can read is refused', async () => {
  await withDirectory(async directory => {
    const options = { stateDirectory: directory, trustDomain: 'cluster.local' };
    const all = await Promise.all([1, 2, 3].map(() => LocalTokens.open(options)));
    const { token } = (await all[0]?.issue(ZTUNNEL)) ?? assert.fail();
    for (const each of all) assert.equal(codeOf(await each.authenticate(bearer(token))), 'caller');
    await writeFile(join(directory, 'token-key.pem'), 'nonsense');
    await assert.rejects(LocalTokens.open(options), { code: 'ca.state' });
  });
});

interface ClientOptions {
  readonly uris: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly notAfter?: Date;
}

function makeSigner(): Signer {
  const { certPem, keyPem } = makeRoot('test', Date.now(), generateKeyPairSync('ec', { namedCurve: 'prime256v1' }));
  const files = { cert: 'cert', key: 'key', chain: 'chain', roots: 'roots' };
  return openSigner({ certPem, keyPem, chainPem: '', rootsPem: certPem }, files, Date.now());
}

function makeClient(issuer: Signer, { uris, dnsNames = [], notAfter }: ClientOptions): Buffer {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const names: Name[] = [
    ...uris.map(text => ({ kind: 'uri', text }) as const),
    ...dnsNames.map(text => ({ kind: 'dns', text }) as const),
  ];
  return writeCertificate({
    issuer,
    subject: EMPTY_NAME,
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    serial: randomSerial(),
    notBeforeMs: Date.now() - HOUR,
    notAfterMs: notAfter?.getTime() ?? Date.now() + HOUR,
    role: { kind: 'leaf', names, usages: ['client'] },
  });
}

test('a client certificate proves the one SPIFFE id of our trust domain, unless it was revoked', async () => {
  const root = makeSigner();
  const revoked = new Set<string>();
  const authenticator = certificateAuthenticator({
    trustDomain: 'cluster.local',
    isRevoked: serial => revoked.has(serial),
    now: Date.now,
  });
  const ask = async (options: ClientOptions): Promise<string> =>
    codeOf(await authenticator.authenticate({ ...NOTHING, certificate: makeClient(root, options) }));
  const mine = 'spiffe://cluster.local/ns/shop/sa/cart';
  assert.equal(await ask({ uris: [mine] }), 'caller');
  assert.equal(await ask({ uris: ['spiffe://other/ns/shop/sa/cart'] }), 'auth.foreign_trust_domain');
  assert.equal(await ask({ uris: [mine, 'spiffe://cluster.local/ns/shop/sa/db'] }), 'auth.no_spiffe_id');
  assert.equal(await ask({ uris: [], dnsNames: ['cart'] }), 'auth.no_spiffe_id');
  assert.equal(await ask({ uris: [`${mine}, URI:spiffe://cluster.local/ns/a/sa/b`] }), 'auth.no_spiffe_id');
  assert.equal(await ask({ uris: [mine], notAfter: new Date(Date.now() - 120_000) }), 'auth.expired');
  const leaf = makeClient(root, { uris: [mine] });
  revoked.add(new X509Certificate(leaf).serialNumber);
  assert.equal(codeOf(await authenticator.authenticate({ ...NOTHING, certificate: leaf })), 'auth.revoked');
  assert.equal(
    codeOf(await authenticator.authenticate({ ...NOTHING, certificate: Buffer.from('x') })),
    'auth.bad_certificate',
  );
  assert.equal(
    codeOf(await authenticator.authenticate({ ...NOTHING, certificate: root.certificate.raw })),
    'auth.bad_certificate',
  );
  assert.equal(codeOf(await authenticator.authenticate(NOTHING)), 'auth.none');
});

test('the first that finds its own credentials decides, failures are counted, and nothing rejects', async () => {
  const says = (outcome: AuthOutcome): Authenticator => ({ authenticate: async () => outcome });
  const none = says({ kind: 'refused', code: 'auth.none', reason: '' });
  const bad = says({ kind: 'refused', code: 'auth.revoked', reason: '' });
  const identity = { trustDomain: 't', namespace: 'n', serviceAccount: 's' };
  const good = says({ kind: 'caller', caller: { identity, via: 'kubernetes', node: undefined, pod: undefined } });
  const broken: Authenticator = { authenticate: () => Promise.reject(new Error('broken')) };
  const ask = async (...list: readonly Authenticator[]): Promise<string> =>
    codeOf(await firstOf(list, SILENT_LOG).authenticate(NOTHING));
  assert.equal(await ask(none, good), 'caller');
  assert.equal(await ask(bad, good), 'auth.revoked');
  assert.equal(await ask(none, none), 'auth.none');
  assert.equal(await ask(), 'auth.none');
  assert.equal(await ask(broken, good), 'auth.failed');
  const counting = firstOf([bad], SILENT_LOG);
  await counting.authenticate(NOTHING);
  await counting.authenticate(NOTHING);
  assert.equal(counting.refusals.get('auth.revoked'), 2);
});
