import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate, webcrypto } from 'node:crypto';
import { afterEach, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import type { GrpcTarget } from '@ambit/wire/grpc';
import { makeRoot } from '../../../native/test/certificates.ts';
import { FakeClock } from '../fake-clock.ts';
import { Log, LogFilter } from '../log.ts';
import { ZtunnelError, type ZtunnelErrorCode } from '../errors.ts';
import { createCaAuthority } from './ca-authority.ts';
import { type CaAnswer, type CaCall, type SignOptions, TestCa } from './ca-testing.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { CertificateManager } from './certificate-manager.ts';

const ID = 'spiffe://cluster.local/ns/shop/sa/cart';
const HOUR_MS = 3_600_000;
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function startCa(options: Parameters<typeof TestCa.start>[0] = {}): Promise<TestCa> {
  const ca = await TestCa.start(options);
  closers.push(() => ca.stop());
  return ca;
}

function authorityFor(
  ca: TestCa,
  options: { target?: Partial<GrpcTarget>; impersonate?: boolean; callTimeoutMs?: number; now?: () => number } = {},
): CertificateAuthority {
  const target: GrpcTarget = {
    url: ca.url,
    roots: async () => ca.root.certPem,
    headers: async () => ({ authorization: 'Bearer token-1', clusterid: 'Kubernetes' }),
    ...options.target,
  };
  const { impersonate = true, callTimeoutMs = 5000, now = Date.now } = options;
  const authority = createCaAuthority({ target, lifetimeMs: HOUR_MS, impersonate, callTimeoutMs }, { now });
  closers.push(() => authority.close());
  return authority;
}

async function refusal(authority: CertificateAuthority, code: ZtunnelErrorCode, text: RegExp, id = ID): Promise<void> {
  await assert.rejects(authority.issue(id), (error: unknown) => {
    assert.ok(error instanceof ZtunnelError, String(error));
    assert.equal(`${error.code}: ${text.test(error.message) ? 'as expected' : error.message}`, `${code}: as expected`);
    assert.ok(!error.message.includes('PRIVATE KEY'));
    return true;
  });
}

/** Has the CA answer with a chain of leaf, and then whatever `rest` says. */
function answering(ca: TestCa, options: SignOptions, rest: readonly string[] = [ca.root.certPem]): void {
  ca.behaviour = async (call, answer) => answer(null, { certChain: [await ca.sign(call, options), ...rest] });
}

test('a certificate for the identity, its key, and the roots come back; the token and the wish went out', async () => {
  const ca = await startCa();
  const { material, notBeforeMs, notAfterMs } = await authorityFor(ca).issue(ID);
  const leaf = new X509Certificate(material.certChainPem);
  assert.equal(leaf.subjectAltName, `URI:${ID}`);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(material.privateKeyPem)));
  assert.equal(material.rootsPem.trim(), ca.root.certPem.trim());
  assert.equal(notBeforeMs, leaf.validFromDate.getTime());
  assert.equal(notAfterMs, leaf.validToDate.getTime());
  const [call] = ca.calls;
  assert.deepEqual(call?.metadata.get('authorization'), ['Bearer token-1']);
  assert.deepEqual(call?.metadata.get('clusterid'), ['Kubernetes']);
  assert.equal(call?.request.validityDuration, '3600');
  assert.equal(call?.request.metadata?.fields.ImpersonatedIdentity?.stringValue, ID);
});

test('in dedicated mode nobody is impersonated, and the name is checked all the same', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca, { impersonate: false });
  await authority.issue('spiffe://td/ns/own/sa/own');
  assert.equal(ca.calls[0]?.request.metadata, null);
  await refusal(
    authority,
    'ca.wrong_identity',
    /^did not find expected SAN: spiffe:\/\/cluster.local.*found: spiffe:\/\/td/,
  );
});

test('intermediates go into the chain, several roots of the last element are all trusted', async () => {
  const ca = await startCa();
  const other = await makeRoot('O=other');
  const intermediate = await makeRoot('O=intermediate', ca.root);
  const deeper = await makeRoot('O=deeper', intermediate);
  answering(ca, { issuer: deeper }, [deeper.certPem, intermediate.certPem, other.certPem + ca.root.certPem]);
  const { material } = await authorityFor(ca).issue(ID);
  assert.equal(material.certChainPem.match(/BEGIN/g)?.length, 3);
  assert.equal(material.rootsPem.match(/BEGIN/g)?.length, 2);
});

test('a broken block among the roots is left out', async () => {
  const ca = await startCa();
  answering(ca, {}, [`-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n${ca.root.certPem}`]);
  assert.equal((await authorityFor(ca).issue(ID)).material.rootsPem, ca.root.certPem);
});

test('an answer that is no chain with roots is refused', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca);
  const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  for (const [chain, text] of [
    [[], /chain returned from CA is empty for: spiffe/],
    [['leaf'], /one certificate and no roots/],
    [['leaf', 'nonsense'], /no usable root/],
    [['leaf', broken], /no usable root/],
    [['leaf', 'nonsense', 'root'], /intermediate 1 is no PEM/],
    [['nonsense', 'root'], /leaf is no PEM/],
    [['', 'root'], /leaf is no PEM/],
  ] as const) {
    ca.behaviour = async (call, answer) => {
      const parts: Readonly<Record<string, string>> = { leaf: await ca.sign(call), root: ca.root.certPem };
      answer(null, { certChain: chain.map(part => parts[part] ?? part) });
    };
    await refusal(authority, 'ca.bad_response', text);
  }
});

test('a certificate for another name, or for several, is refused', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca);
  for (const uris of [
    ['spiffe://cluster.local/ns/shop/sa/card'],
    [ID, 'spiffe://a/ns/b/sa/c'],
    ['https://a', ID],
    [`${ID},x`],
  ]) {
    answering(ca, { uris });
    await refusal(authority, 'ca.wrong_identity', /did not find expected SAN/);
  }
});

test('a certificate for another key is refused', async () => {
  const ca = await startCa();
  const { publicKey } = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ]);
  answering(ca, { publicKey });
  await refusal(authorityFor(ca), 'ca.wrong_key', /not for the key that asked/);
});

test('a certificate that is an authority is refused: its key could sign for others', async () => {
  const ca = await startCa();
  answering(ca, { isCa: true });
  await refusal(authorityFor(ca), 'ca.bad_response', /is itself an authority/);
});

test('dates: expired is refused, the near future is not, the far future is clock skew', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca);
  const now = Date.now();
  answering(ca, { notBefore: new Date(now - HOUR_MS), notAfter: new Date(now - 1000) });
  await refusal(authority, 'ca.expired', /ended at .*, this node says /);
  answering(ca, { notBefore: new Date(now + 300_000) });
  await refusal(authority, 'identity.clock_skew', /begins in (29\d|300) s/);
  answering(ca, { notBefore: new Date(now + 40_000) });
  await authority.issue(ID);
});

test('a chain that leads elsewhere than to the roots that came with it is refused', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca);
  const other = await makeRoot('O=other');
  const twin = await makeRoot('O=mesh');
  answering(ca, { issuer: other });
  await refusal(authority, 'ca.untrusted_chain', /unable to get local issuer/);
  answering(ca, { issuer: twin });
  await refusal(authority, 'ca.untrusted_chain', /does not lead to its roots/);
});

test('what the server refuses keeps its words and gets a code', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca);
  for (const [name, code] of [
    ['UNAUTHENTICATED', 'ca.denied'],
    ['PERMISSION_DENIED', 'ca.denied'],
    ['INVALID_ARGUMENT', 'ca.refused'],
    ['INTERNAL', 'ca.refused'],
    ['UNAVAILABLE', 'ca.unreachable'],
  ] as const) {
    ca.behaviour = (_call, answer) => answer({ code: status[name], details: 'not today' });
    await refusal(authority, code, new RegExp(`^signing gRPC error \\(${name}\\): not today$`));
  }
});

test('a CA that hangs is given up, and the next call takes a new connection', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca, { callTimeoutMs: 300 });
  const { behaviour } = ca;
  ca.behaviour = () => undefined;
  await refusal(authority, 'ca.timeout', /no answer in time/);
  ca.behaviour = behaviour;
  await authority.issue(ID);
  assert.equal(ca.peers.size, 2);
});

test('a caller who gives up is let go at once, and the server is told', async () => {
  const ca = await startCa();
  const { promise, resolve } = Promise.withResolvers<void>();
  ca.behaviour = call => void call.once('cancelled', () => resolve());
  const abort = new AbortController();
  const issue = authorityFor(ca).issue(ID, abort.signal);
  await ca.asked(1);
  abort.abort();
  await assert.rejects(issue, { code: 'ca.unreachable' });
  await promise;
});

test('one connection serves many calls at once; new roots make a new one, and old calls end on the old', async () => {
  const ca = await startCa();
  let roots = ca.root.certPem;
  const authority = authorityFor(ca, { target: { roots: async () => roots } });
  await Promise.all(['a', 'b', 'c'].map(async name => authority.issue(`spiffe://td/ns/shop/sa/${name}`)));
  assert.equal(ca.peers.size, 1);
  const { behaviour } = ca;
  const slow: (() => void)[] = [];
  ca.behaviour = (call: CaCall, answer: CaAnswer) => void slow.push(() => void behaviour(call, answer));
  const pending = authority.issue(ID);
  await ca.asked(4);
  ca.behaviour = behaviour;
  roots = `${roots}\n${(await makeRoot('O=next')).certPem}`;
  await authority.issue(ID);
  assert.equal(ca.peers.size, 2);
  for (const answer of slow) answer();
  assert.equal((await pending).material.identity, ID);
  // A root file that cannot be read does not end a connection that works.
  roots = '';
  await authority.issue(ID);
  assert.equal(ca.peers.size, 2);
});

test('a connection that died while idle is replaced without a failure', async () => {
  const ca = await startCa();
  const authority = authorityFor(ca);
  await authority.issue(ID);
  ca.stop();
  const again = await startCa({ root: ca.root, port: ca.port });
  await authority.issue(ID);
  assert.equal(again.calls.length, 1);
});

test('a server that the roots do not prove is refused, and nothing is sent to it', async () => {
  const ca = await startCa();
  const other = await makeRoot('O=mesh');
  await refusal(
    authorityFor(ca, { target: { roots: async () => other.certPem } }),
    'ca.untrusted_server',
    /not accepted/,
  );
  await refusal(authorityFor(ca, { target: { roots: async () => 'no file' } }), 'ca.untrusted_server', /no usable/);
  const byAddress = { url: `https://127.0.0.1:${ca.port}` };
  await refusal(authorityFor(ca, { target: byAddress }), 'ca.untrusted_server', /not for 127/);
  await authorityFor(ca, { target: { ...byAddress, altName: 'ca.test' } }).issue(ID);
  assert.equal(ca.calls.length, 1);
});

test('no server, no token, no SPIFFE id: each has its own code', async () => {
  const ca = await startCa();
  const noToken = async (): Promise<never> => Promise.reject(new Error('no such file'));
  await refusal(authorityFor(ca, { target: { headers: noToken } }), 'ca.credentials', /no such file/);
  await refusal(authorityFor(ca), 'identity.unavailable', /failed to create CSR/, 'spiffe://ä');
  ca.stop();
  await refusal(authorityFor(ca), 'ca.unreachable', /ECONNREFUSED/);
});

test('a CA that is away at the start and at a renewal: asked until it is back, the old certificate serves to its end', async () => {
  const ca = await startCa();
  const clock = new FakeClock(Date.now());
  const authority = authorityFor(ca, { now: () => clock.now(), callTimeoutMs: 10_000 });
  const filter = LogFilter.parse('off');
  assert.ok(filter !== undefined);
  const log = new Log({ write: () => undefined, now: () => 0 }, { format: 'plain', filter }).scope('x');
  const kinds: string[] = [];
  const onChange = (_identity: string, state: { readonly kind: string }): void => void kinds.push(state.kind);
  // The network does not follow the test's clock: the manager's own deadline would fire in the middle of a call.
  const options = { deadlineMs: 1000 * HOUR_MS };
  const manager = new CertificateManager({ authority, clock, random: () => 0.5, onChange, log }, options);
  closers.push(() => manager.stop());
  const until = async (isTrue: () => boolean): Promise<void> => {
    while (!isTrue()) await new Promise<void>(resolve => setImmediate(resolve));
  };
  const up = (): void => {
    // Dated by the test's clock.
    ca.behaviour = async (call, answer) => {
      const notAfter = new Date(clock.now() + HOUR_MS);
      const leaf = await ca.sign(call, { notBefore: new Date(clock.now() - 1000), notAfter });
      answer(null, { certChain: [leaf, ca.root.certPem] });
    };
  };
  const down = (): void => {
    ca.behaviour = (_call, answer) => answer({ code: status.UNAVAILABLE, details: 'away' });
  };
  down();
  manager.want(ID);
  await until(() => manager.stats.failed >= 1);
  assert.equal(manager.state(ID)?.kind, 'unavailable');
  up();
  await clock.advance(1500);
  await until(() => manager.stats.issued === 1);
  assert.deepEqual(kinds, ['unavailable', 'available']);
  down();
  await clock.advance(HOUR_MS / 2 + 2000);
  await until(() => manager.stats.failed >= 2);
  assert.equal(manager.state(ID)?.kind, 'available');
  await clock.advance(HOUR_MS / 2);
  assert.equal(manager.state(ID)?.kind, 'unavailable');
  await until(() => manager.stats.running === 0);
  up();
  manager.need(ID);
  await clock.advance(20_000);
  await until(() => manager.stats.issued >= 2);
  assert.equal(manager.state(ID)?.kind, 'available');
});
