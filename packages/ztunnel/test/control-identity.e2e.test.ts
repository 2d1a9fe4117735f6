// Certificates under faults: the authority is away when a node starts and later, certificates run out, peers are revoked,
// the root is replaced, a plugged-in CA is out of date. Who has no certificate gets no connection, and never plain text.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  type ControlProcess,
  type Pod,
  sandboxSkip,
  type Testbed,
  TestbedError,
  type ZtunnelProcess,
} from '@ambit/testbed';
import {
  awaitRecord,
  certificatesOf,
  ECHO,
  Forwarder,
  type ListedCertificate,
  Load,
  makeBed,
  type RecordLine,
  scratch,
  serveEcho,
  startControl,
  until,
  writeCa,
} from './control-mesh.ts';
import { awaitLine, awaitNewLine, type LogLine, startOurs } from './e2e-mesh.ts';
import { echo, endingOf, Net, tryEcho } from './e2e-net.ts';

const DAY_MS = 86_400_000;
const SHORT = '8s';
const SHORT_MS = 8000;
const OVERLAP = '12s';
const WEB = 'spiffe://cluster.local/ns/shop/sa/web';

describe('certificates of a mesh', { skip: sandboxSkip() }, () => {
  const closers = new AsyncDisposableStack();
  let bed: Testbed;
  let peers: Net;
  let control: ControlProcess;
  let forwarder: Forwarder;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  let other: Pod;
  let reached = 0;
  const records = { n1: '', n2: '' };

  before(async () => {
    peers = closers.use(new Net());
    bed = closers.use(await makeBed());
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    other = await bed.addPod({ node: 'n1', name: 'other', namespace: 'shop', serviceAccount: 'other' });
    serveEcho(peers, web);
    serveEcho(peers, cart, ECHO, () => reached++);
    const directory = await scratch('records');
    for (const node of ['n1', 'n2'] as const) records[node] = join(directory, node);
    control = await startControl(bed, { flags: ['--root-overlap', OVERLAP] });
    forwarder = closers.use(await Forwarder.open(control));
    onN2 = await startOnN2();
  });

  after(async () => closers.disposeAsync());

  /** On n1, with an authority that the test can take away. */
  async function startOnN1(env: Readonly<Record<string, string>> = {}): Promise<ZtunnelProcess> {
    return startOurs(bed, 'n1', { env: { CA_ADDRESS: forwarder.url, AMBIT_RECORDS_PATH: records.n1, ...env } });
  }

  async function startOnN2(env: Readonly<Record<string, string>> = {}): Promise<ZtunnelProcess> {
    return startOurs(bed, 'n2', { env: { SECRET_TTL: SHORT, AMBIT_RECORDS_PATH: records.n2, ...env } });
  }

  async function refusedUnheard(): Promise<void> {
    const asked = reached;
    assert.notEqual(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    assert.notEqual(await tryEcho(peers, web, cart.ip6, ECHO), 'ok');
    assert.equal(reached, asked, 'nothing got through, in plain text least of all');
  }

  async function untilOk(): Promise<void> {
    await until(async () => (await tryEcho(peers, web, cart.ip4, ECHO)) === 'ok', 'web reaches cart');
  }

  test('a node whose authority is away at its start refuses, and serves once it is there', async () => {
    onN1 = await startOnN1({ SECRET_TTL: SHORT });
    await refusedUnheard();
    const refused = await awaitRecord(records.n1, ({ direction }) => direction === 'outbound');
    assert.equal(refused.reason, 'identity.unavailable');
    // Inbound as well: what cannot be proven is not accepted in plain text either.
    assert.notEqual(await tryEcho(peers, cart, web.ip4, ECHO), 'ok');
    forwarder.leadTo(control.url);
    await untilOk();
    const inbound = await awaitLine(onN2, l => l.direction === 'inbound' && l['src.identity'] === WEB);
    assert.equal(inbound.error, undefined);
  });

  test('certificates are renewed at half life', async () => {
    const mine = async (): Promise<readonly ListedCertificate[]> =>
      (await certificatesOf(control)).filter(({ identity }) => identity === WEB);
    await until(async () => (await mine()).length >= 2, 'a certificate is renewed while the last one is good', 20_000);
    const [older, newer] = (await mine()).map(each => Date.parse(each.notBefore));
    assert.ok(older !== undefined && newer !== undefined);
    const share = (newer - older) / SHORT_MS;
    assert.ok(share > 0.4 && share < 0.9, `renewed at ${share} of its life`);
  });

  test('when the authority goes away certificates serve to their end, then nobody gets through, then all recovers', async () => {
    // Other pods of the node have certificates with ends of their own.
    const ofWeb = (message: string) => (l: LogLine) => l.message === message && l['identity'] === WEB;
    const failed = awaitNewLine(onN1, ofWeb('certificate renewal failed, the present one stays in use'));
    forwarder.leadTo(undefined);
    await failed;
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    await awaitLine(onN1, ofWeb('certificate expired without a successor'), 20_000);
    await refusedUnheard();
    const refused = await awaitRecord(records.n1, ({ error }) => error?.includes('certificate expired') === true);
    assert.equal(refused.reason, 'identity.unavailable');
    assert.equal(refused.direction, 'outbound');
    forwarder.leadTo(control.url);
    await untilOk();
  });

  test('a revoked peer loses its connections in both roles and gets no new ones; a new certificate is good', async () => {
    forwarder.leadTo(control.url);
    // Certificates of a day: a renewal would be the new certificate.
    await onN1.stop();
    onN1 = await startOnN1();
    await untilOk();
    const mine = [await peers.connect(web, cart.ip4, ECHO), await peers.connect(cart, web.ip4, ECHO)];
    const theirs = await peers.connect(other, cart.ip4, ECHO);
    for (const socket of [...mine, theirs]) await echo(socket, 'before');
    const endings = Promise.all(mine.map(async socket => endingOf(socket)));
    const { revoked } = (await control.ask('POST', '/ca/revoke', { identity: WEB })) as { revoked: object[] };
    assert.ok(revoked.length > 0);
    for (const ending of await endings) assert.match(ending, /ECONNRESET|end|close/);
    for (const direction of ['inbound', 'outbound'] as const) {
      const cut = await awaitRecord(records.n2, r => r.direction === direction && r.event === 'close' && isRevoked(r));
      assert.equal(cut.error, 'connection closed: peer certificate revoked by CRL');
    }
    await refusedUnheard();
    assert.notEqual(await tryEcho(peers, cart, web.ip4, ECHO), 'ok');
    await awaitRecord(records.n2, r => r.direction === 'inbound' && r.event === 'refused' && isRevoked(r));
    await echo(theirs, 'after');
    assert.equal(await tryEcho(peers, other, cart.ip4, ECHO), 'ok');
    theirs.destroy();
    await onN1.stop();
    onN1 = await startOnN1();
    await untilOk();
    assert.equal(await tryEcho(peers, cart, web.ip4, ECHO), 'ok');
  });

  test('the root is replaced under load without a request that fails', async () => {
    const pool = { POOL_UNUSED_RELEASE_TIMEOUT: '500ms' };
    await Promise.all([onN1.stop(), onN2.stop()]);
    [onN1, onN2] = await Promise.all([startOnN1({ SECRET_TTL: SHORT, ...pool }), startOnN2(pool)]);
    await untilOk();
    const former = await readFile(control.rootPath, 'utf8');
    const load = new Load(peers, web, [cart.ip4, ECHO]);
    // Less often than tunnels are kept, so that each makes a handshake of its own.
    const handshakes = new Load(peers, cart, [web.ip6, ECHO], { kept: 0, fresh: 1, pauseMs: 1000 });
    const phases = new Set<unknown>();
    await control.ask('POST', '/ca/rotate-root');
    await until(
      async () => {
        const { phase } = (await control.page('/debug/authority')) as { phase: unknown };
        phases.add(phase);
        return phase === 'steady' && phases.size === 3;
      },
      'the change of roots is over',
      60_000,
    );
    await handshakes.more(5);
    assert.deepEqual([...phases], ['announced', 'switched', 'steady']);
    assert.deepEqual((await handshakes.stop()).failures, []);
    const { kept, fresh, failures } = await load.stop();
    assert.deepEqual(failures, []);
    assert.ok(kept > 1000 && fresh > 1000, `${kept} and ${fresh} exchanges`);
    const now = await readFile(control.rootPath, 'utf8');
    assert.equal(now.match(/BEGIN CERTIFICATE/g)?.length, 1);
    assert.notEqual(now, former);
  });

  test('a plugged-in CA that is out of date or not valid yet stops the start and says so', async () => {
    const day = (days: number): Date => new Date(Date.now() + days * DAY_MS);
    for (const [notBefore, notAfter, said] of [
      [day(-3), day(-1), /which expired on/],
      [day(1), day(3), /which is valid only from/],
    ] as const) {
      const caDirectory = await writeCa({ notBefore, notAfter });
      await assert.rejects(startBeside(caDirectory), (error: unknown) => {
        assert.ok(error instanceof TestbedError);
        assert.match(error.next ?? '', said);
        assert.match(error.next ?? '', /\[ca\.bad_material\]/);
        return true;
      });
    }
  });

  test('no certificate outlives the CA that signed it', async () => {
    const ends = new Date(Math.floor(Date.now() / 1000) * 1000 + 3_600_000);
    const caDirectory = await writeCa({ notBefore: new Date(Date.now() - DAY_MS), notAfter: ends });
    const beside = await startBeside(caDirectory);
    // The bed hands out the tokens of its first control plane; this one is asked by its own.
    const bearer = { node: 'n1', namespace: 'istio-system', serviceAccount: 'ztunnel' };
    const { token } = (await beside.ask('POST', '/ca/token', bearer)) as { token: string };
    const tokenPath = join(await scratch('token'), 'token');
    await writeFile(tokenPath, token, { mode: 0o600 });
    await onN1.stop();
    const roots = join(caDirectory, 'root-cert.pem');
    const env = { CA_ADDRESS: beside.url, CA_ROOT_CA: roots, XDS_ADDRESS: beside.url, XDS_ROOT_CA: roots };
    onN1 = await startOnN1({ ...env, AUTH_TOKEN: tokenPath, CRL_PATH: beside.crlPath });
    const mine = async (): Promise<readonly ListedCertificate[]> =>
      (await certificatesOf(beside)).filter(({ identity }) => identity === WEB);
    await until(async () => (await mine()).length > 0, 'a certificate is issued');
    assert.deepEqual(
      (await mine()).map(({ notAfter }) => Date.parse(notAfter)),
      [ends.getTime()],
    );
    await beside.stop();
  });

  /** A second control plane, with a CA of its own. */
  async function startBeside(caDirectory: string): Promise<ControlProcess> {
    const stateDirectory = await scratch('beside');
    return startControl(bed, { flags: ['--ca-dir', caDirectory], portOffset: 100, stateDirectory });
  }
});

function isRevoked({ reason }: RecordLine): boolean {
  return reason === 'identity.revoked';
}
