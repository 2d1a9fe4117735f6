import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { X509Certificate } from 'node:crypto';
import type { Authenticator, Caller } from '../auth/caller.ts';
import { firstOf } from '../auth/first-of.ts';
import { LocalTokens } from '../auth/local-token.ts';
import { SILENT_LOG } from '@ambit/log';
import type { PodDirectory } from '../model/resource.ts';
import { type AdminRoute, caAdminRoutes } from './admin-routes.ts';
import { authorizeIdentity, DEFAULT_TRUSTED_ACCOUNTS } from './authorize.ts';
import { CertificateAuthority } from './certificate-authority.ts';
import { DirectoryStore } from './directory-store.ts';
import { certificateHandler } from './handler.ts';
import { makeCsr, verifies, withDirectory } from './openssl-testing.ts';
import { SelfSigned } from './self-signed.ts';

const ZTUNNEL = { trustDomain: 'cluster.local', namespace: 'istio-system', serviceAccount: 'ztunnel' };
const CART = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' };
const NODE_PROXY: Caller = { identity: ZTUNNEL, via: 'local_token', node: 'n1', pod: undefined };
const IN_CLUSTER: Caller = { identity: ZTUNNEL, via: 'kubernetes', node: undefined, pod: { name: 'z1', uid: 'u1' } };

/** cart and ztunnel pod z1 (uid u1) on n1, db on n2. */
const PODS: PodDirectory = {
  hasIdentityOnNode: (node, namespace, account) =>
    namespace === 'shop' && ((node === 'n1' && account === 'cart') || (node === 'n2' && account === 'db')),
  pod: (namespace, name) =>
    namespace === 'istio-system' && name === 'z1' ? { uid: 'u1', node: 'n1', serviceAccount: 'ztunnel' } : undefined,
};

function decide(caller: Caller, requested: typeof CART, trusted = DEFAULT_TRUSTED_ACCOUNTS): string {
  const decision = authorizeIdentity(caller, requested, PODS, trusted);
  return decision.kind === 'allowed' ? 'allowed' : decision.code;
}

test('a node proxy may have identities of its node, everybody their own, nobody anything else', () => {
  const db = { ...CART, serviceAccount: 'db' };
  for (const caller of [NODE_PROXY, IN_CLUSTER]) {
    assert.equal(decide(caller, CART), 'allowed');
    assert.equal(decide(caller, ZTUNNEL), 'allowed');
    assert.equal(decide(caller, db), 'ca.not_on_node');
    assert.equal(decide(caller, { ...CART, trustDomain: 'other' }), 'ca.foreign_trust_domain');
    assert.equal(decide(caller, { ...CART, serviceAccount: '' }), 'ca.bad_identity');
    assert.equal(decide(caller, CART, []), 'ca.not_trusted');
  }
  const cart: Caller = { ...NODE_PROXY, identity: CART };
  assert.equal(decide(cart, CART), 'allowed');
  assert.equal(decide(cart, db), 'ca.not_trusted');
});

test('a node must be proven by the credentials themselves', () => {
  const bound = (pod: Caller['pod'], node?: string): string => decide({ ...IN_CLUSTER, pod, node }, CART);
  assert.equal(decide({ ...NODE_PROXY, node: undefined }, CART), 'ca.no_node');
  assert.equal(decide({ ...NODE_PROXY, via: 'certificate' }, CART), 'ca.no_node');
  assert.equal(decide({ ...NODE_PROXY, via: 'loopback' }, ZTUNNEL), 'ca.not_proven');
  assert.equal(bound(undefined, 'n1'), 'ca.no_node');
  assert.equal(bound({ name: 'z1', uid: 'other' }), 'ca.unknown_caller');
  assert.equal(bound({ name: 'z1', uid: '' }), 'ca.unknown_caller');
  assert.equal(bound({ name: 'z2', uid: 'u1' }), 'ca.unknown_caller');
  assert.equal(bound({ name: 'z1', uid: 'u1' }, 'n2'), 'ca.caller_mismatch');
  assert.equal(bound({ name: 'z1', uid: 'u1' }, 'n1'), 'allowed');
  const lag = authorizeIdentity(NODE_PROXY, { ...CART, serviceAccount: 'new' }, PODS, DEFAULT_TRUSTED_ACCOUNTS);
  assert.ok(lag.kind === 'refused' && lag.isRetryable);
});

async function withAuthority(
  body: (ca: CertificateAuthority, tokens: LocalTokens, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async directory => {
    const store = new DirectoryStore(directory);
    const trustDomain = 'cluster.local';
    const ca = await CertificateAuthority.open({
      source: new SelfSigned({ store, trustDomain, overlapMs: 86_400_000, now: Date.now }),
      stateDirectory: directory,
      trustDomain,
      log: SILENT_LOG,
    });
    const tokens = await LocalTokens.open({ stateDirectory: directory, trustDomain });
    try {
      await body(ca, tokens, directory);
    } finally {
      await ca.close();
    }
  });
}

test('a call becomes a certificate or a status, and strangers learn nothing', async () => {
  await withAuthority(async (ca, tokens, directory) => {
    const deps = { ca, directory: PODS, trustedAccounts: DEFAULT_TRUSTED_ACCOUNTS };
    const handler = certificateHandler({ ...deps, authenticator: firstOf([tokens], SILENT_LOG) });
    const csr = await makeCsr(directory);
    const { token } = await tokens.issue({ ...ZTUNNEL, node: 'n1' });
    const call = async (
      wanted: unknown,
      change: { readonly csr?: string; readonly seconds?: bigint; readonly token?: string } = {},
    ): Promise<readonly string[]> => {
      const credentials = {
        authorization: `Bearer ${change.token ?? token}`,
        clusterId: undefined,
        certificate: undefined,
        peer: '10.0.0.1:99',
      };
      const request = {
        csr: change.csr ?? csr,
        validityDurationSeconds: change.seconds ?? 3600n,
        metadata: wanted === undefined ? {} : { ImpersonatedIdentity: wanted },
      };
      return (await handler(request, { credentials, signal: AbortSignal.timeout(10_000) })).certChain;
    };
    const nameOf = (chain: readonly string[]): string | undefined => new X509Certificate(chain[0] ?? '').subjectAltName;

    const chain = await call('spiffe://cluster.local/ns/shop/sa/cart');
    assert.equal(nameOf(chain), 'URI:spiffe://cluster.local/ns/shop/sa/cart');
    assert.ok(await verifies(directory, chain));
    assert.equal(nameOf(await call(undefined)), 'URI:spiffe://cluster.local/ns/istio-system/sa/ztunnel');
    assert.equal(nameOf(await call('')), 'URI:spiffe://cluster.local/ns/istio-system/sa/ztunnel');
    const unauthenticated = { code: 'unauthenticated', message: /^request authenticate failure/ };
    for (const wanted of [
      'spiffe://cluster.local/ns/shop/sa/db',
      'spiffe://other/ns/shop/sa/cart',
      'cart',
      7,
      {},
      null,
    ]) {
      await assert.rejects(call(wanted), unauthenticated, String(wanted));
    }
    await assert.rejects(call(undefined, { token: 'x' }), unauthenticated);
    await assert.rejects(call(undefined, { csr: 'x' }), { code: 'invalid_argument' });
    await assert.rejects(call(undefined, { csr: await makeCsr(directory, { key: 'rsa:1024' }) }), {
      code: 'invalid_argument',
    });
    for (const seconds of [90n * 86_400n + 1n, 2n ** 63n - 1n]) {
      await assert.rejects(call(undefined, { seconds }), { code: 'invalid_argument' });
    }
    assert.equal((await call(undefined, { seconds: -(2n ** 63n) })).length, 2);
    assert.equal(ca.status.refusals['ca.not_on_node'], 1);
    const before = ca.status.issued;
    const paced = certificateHandler({
      ...deps,
      authenticator: firstOf([tokens], SILENT_LOG),
      limits: { nodeBurst: 2 },
    });
    const asked = Array.from({ length: 9 }, async () =>
      paced(
        {
          csr,
          validityDurationSeconds: 0n,
          metadata: { ImpersonatedIdentity: 'spiffe://cluster.local/ns/shop/sa/cart' },
        },
        {
          credentials: { authorization: `Bearer ${token}`, clusterId: undefined, certificate: undefined, peer: '' },
          signal: AbortSignal.timeout(10_000),
        },
      ),
    );
    const codes = (await Promise.allSettled(asked)).map(each =>
      each.status === 'fulfilled' ? 'given' : (each.reason as { code: string }).code,
    );
    assert.deepEqual(
      [codes.filter(code => code === 'given').length, codes.filter(code => code === 'resource_exhausted').length],
      [2, 7],
    );
    assert.equal(ca.status.issued, before + 2);
    const broken: Authenticator = { authenticate: () => Promise.reject(new Error('secret')) };
    const rejecting = certificateHandler({ ...deps, authenticator: broken });
    const credentials = { authorization: undefined, clusterId: undefined, certificate: undefined, peer: '' };
    const request = { csr, validityDurationSeconds: 0n, metadata: {} };
    await assert.rejects(rejecting(request, { credentials, signal: AbortSignal.timeout(10_000) }), unauthenticated);
  });
});

async function serve(route: AdminRoute, path: string): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString('utf8');
      void route(request.method ?? '', request.url ?? '', text === '' ? undefined : JSON.parse(text)).then(answer =>
        response.writeHead(answer?.status ?? 404).end(JSON.stringify(answer?.json ?? {})),
      );
    });
  });
  await new Promise<void>(resolve => void server.listen(path, resolve));
  return async () => {
    server.closeAllConnections();
    await new Promise(resolve => void server.close(resolve));
  };
}

const CLI = new URL('../../../cli/src/commands/ca.ts', import.meta.url).href;

/** Runs one function of `ambit ca` as a process of its own. */
async function cli(
  name: string,
  flags: object,
): Promise<{ readonly status: number; readonly out: string; readonly err: string }> {
  const program = `const ca = await import(${JSON.stringify(CLI)}); process.exitCode = await ca.${name}(${JSON.stringify(flags)});`;
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
    return { status: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { status: code, out: stdout, err: stderr };
  }
}

test('ambit ca lists, revokes, rotates, makes tokens and prints the list through the admin socket', async () => {
  await withAuthority(async (ca, tokens, state) => {
    const csrPem = await makeCsr(state);
    ca.issue({ caller: NODE_PROXY, peer: '', identity: CART, csrPem, ttlMs: 0 });
    const stop = await serve(caAdminRoutes(ca, tokens), join(state, 'admin.sock'));
    try {
      const serial = ca.list()[0]?.serial ?? assert.fail();
      assert.match((await cli('caList', { state })).out, /shop\/sa\/cart +n1 +.* good +[0-9a-f]{32}\n/);
      assert.equal((await cli('caRevoke', { state, serial })).out.split('\n')[0]?.split('  ')[0], `revoked ${serial}`);
      assert.ok(ca.isRevoked(serial));
      assert.match((await cli('caList', { state })).out, /REVOKED/);
      const unknown = await cli('caRevoke', { state, serial: 'abcd' });
      assert.deepEqual([unknown.status, unknown.out], [1, '']);
      assert.match(unknown.err, /\[ca\.unknown_serial\]/);
      assert.equal((await cli('caRevoke', { state })).status, 2);
      assert.equal((await cli('caRevoke', { state, serial: 'xyz' })).status, 2);
      assert.equal((await cli('caCrl', { state })).out, await readFile(join(state, 'crl.pem'), 'utf8'));
      const account = { namespace: 'istio-system', serviceAccount: 'ztunnel' };
      const { out } = await cli('caToken', { state, node: 'n7', ...account, ttl: '1h' });
      const outcome = await tokens.authenticate({
        authorization: `Bearer ${out.trim()}`,
        clusterId: undefined,
        certificate: undefined,
        peer: '',
      });
      assert.ok(outcome.kind === 'caller' && outcome.caller.node === 'n7');
      assert.equal((await cli('caToken', { state, node: 'n7', ...account, ttl: 'soon' })).status, 2);
      assert.equal((await cli('caRotateRoot', { state })).status, 0);
      assert.equal(ca.status.phase, 'announced');
      assert.match((await cli('caRotateRoot', { state })).err, /\[ca\.rotation\]/);
    } finally {
      await stop();
    }
    assert.equal((await cli('caList', { state })).status, 3);
  });
});
