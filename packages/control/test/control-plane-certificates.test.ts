// The authority of a running control plane, with grpc-js as its client and openssl as the judge of all that it signs: who
// gets whose certificate, what is in it, revocation, rotation, and a plugged-in intermediate.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { makeCsr, openssl, verifies } from '../src/ca/openssl-testing.ts';
import { ADDRESS, type CertificateQuestion, ControlPeer, nodeOf } from './control-plane-peer.ts';
import { type RunningControl, Workspace } from './control-plane-running.ts';
import { CART, podYaml, SHOP, WEB } from './control-plane-shop.ts';

const ZTUNNEL = 'spiffe://cluster.local/ns/istio-system/sa/ztunnel';

/** What openssl says of the server that it connects to; it ends with its input. */
async function shown(args: readonly string[]): Promise<string> {
  const child = spawn('openssl', ['s_client', ...args], { stdio: ['ignore', 'pipe', 'ignore'], timeout: 20_000 });
  return text(child.stdout);
}

describe('the authority of a running control plane', () => {
  let workspace: Workspace;
  let control: RunningControl;
  let peer: ControlPeer;
  let token: string;

  before(async () => {
    workspace = await Workspace.make(SHOP);
    control = await workspace.start();
    peer = await ControlPeer.secure(control);
    token = await control.token('n1');
  });

  after(async () => {
    await using _ = workspace;
    peer.client.close();
  });

  const csrOf = async (options: Parameters<typeof makeCsr>[1] = {}) => makeCsr(workspace.directory, options);
  const identitiesOf = (pem: string | undefined) => new X509Certificate(pem ?? '').subjectAltName;
  const refusal = async (question: CertificateQuestion, by = peer) =>
    by.certificate(question).then(
      chain => assert.fail(`a certificate of ${identitiesOf(chain[0])} was given`),
      (error: { code: number }) => error.code,
    );

  for (const key of ['ec:prime256v1', 'ec:secp384r1', 'rsa:2048']) {
    test(`signs ${key} for a pod on the caller's node; openssl agrees with chain and list`, async () => {
      const csr = await csrOf({ key, name: key.replace(':', '-') });
      const chain = await peer.certificate({ csr, identity: WEB, token, seconds: 3600 });
      assert.equal(chain.length, 2);
      assert.equal(chain[1], await control.rootPem());
      const crlPem = await control.crlPem();
      assert.ok(await verifies(workspace.directory, chain, { crlPem }));
      const leaf = new X509Certificate(chain[0] ?? '');
      assert.equal(leaf.subjectAltName, `URI:${WEB}`);
      assert.ok(Math.abs(leaf.validToDate.getTime() - Date.now() - 3_600_000) < 60_000);
    });
  }

  test('takes nothing from a request but its key', async () => {
    const names = 'subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/admin,DNS:istiod.istio-system.svc';
    const args = ['-addext', names, '-addext', 'basicConstraints=critical,CA:TRUE', '-subj', '/CN=root'];
    const chain = await peer.certificate({ csr: await csrOf({ args }), identity: WEB, token });
    const leaf = new X509Certificate(chain[0] ?? '');
    assert.equal(leaf.subjectAltName, `URI:${WEB}`);
    assert.equal(leaf.ca, false);
    assert.doesNotMatch(leaf.subject ?? '', /CN=root/);
  });

  test('gives nobody the identity of somebody else', async () => {
    const csr = await csrOf();
    const web = await control.token(undefined, 'shop/web');
    const unbound = await control.token(undefined);
    const all: readonly CertificateQuestion[] = [
      { csr, identity: WEB },
      { csr, identity: WEB, token: 'abc' },
      { csr, identity: CART, token },
      { csr, identity: CART, token: web },
      { csr, identity: WEB, token: unbound },
      { csr, identity: 'spiffe://cluster.local/ns/shop/sa/nobody', token },
      { csr, identity: 'spiffe://other.example/ns/shop/sa/web', token },
      { csr, identity: `${WEB}/more`, token },
      { csr, identity: 'web', token },
    ];
    for (const question of all) assert.equal(await refusal(question), status.UNAUTHENTICATED, question.identity);
    const own = await peer.certificate({ csr, token: web });
    assert.equal(identitiesOf(own[0]), `URI:${WEB}`, 'its own identity everybody may have');
    assert.equal(identitiesOf((await peer.certificate({ csr, token }))[0]), `URI:${ZTUNNEL}`);
  });

  test('gives a node the identity of a pod as soon as the pod is on it', async () => {
    const question = { csr: await csrOf(), identity: 'spiffe://cluster.local/ns/shop/sa/late', token };
    assert.equal(await refusal(question), status.UNAUTHENTICATED);
    using plain = ControlPeer.plain(control);
    const stream = await plain.stream().follow(nodeOf('n1')).untilFollowed();
    await workspace.write('late.yaml', podYaml('late', 'n1', '10.20.0.7'));
    await stream.until(() => stream.has(ADDRESS, 'Kubernetes//Pod/shop/late'));
    assert.equal(identitiesOf((await peer.certificate(question))[0]), `URI:${question.identity}`);
  });

  test('lets a certificate renew itself, until it is revoked', async () => {
    const csr = await csrOf({ name: 'renewing' });
    const keyPem = await readFile(join(workspace.directory, 'renewing.key'), 'utf8');
    const chain = await peer.certificate({ csr, identity: WEB, token });
    using own = await ControlPeer.secure(control, { chainPem: chain[0] ?? '', keyPem });
    const renewed = await own.certificate({ csr: await csrOf() });
    assert.equal(identitiesOf(renewed[0]), `URI:${WEB}`);
    assert.equal(await refusal({ csr, identity: CART }, own), status.UNAUTHENTICATED);

    const serial = new X509Certificate(chain[0] ?? '').serialNumber;
    assert.equal((await control.act('POST', '/ca/revoke', { serial })).status, 200);
    const crlPem = await control.crlPem();
    assert.equal(await verifies(workspace.directory, chain, { crlPem }), false);
    assert.ok(await verifies(workspace.directory, renewed, { crlPem }), 'the other one is still good');
    assert.equal(await refusal({ csr }, own), status.UNAUTHENTICATED, 'also on a connection that is open');
    interface Listed {
      readonly serial: string;
      readonly revoked: boolean;
    }
    const listed = await control.page<readonly Listed[]>('/debug/certificates');
    assert.deepEqual(
      listed.filter(({ revoked }) => revoked).map(each => each.serial.toUpperCase()),
      [serial],
    );
  });

  test('shows a serving certificate and publishes a list that openssl verifies', async () => {
    const root = join(control.state, 'root-cert.pem');
    for (const name of ['istiod.istio-system.svc', 'localhost']) {
      const at = ['-connect', `127.0.0.1:${control.securePort}`, '-servername', name, '-alpn', 'h2'];
      const check = ['-CAfile', root, '-verify_return_error', '-verify_hostname', name, '-x509_strict'];
      assert.match(await shown([...at, ...check]), /Verify return code: 0 \(ok\)/, name);
    }
    await openssl('crl', '-in', join(control.state, 'crl.pem'), '-CAfile', root, '-noout', '-verify');
  });

  test('says what is wrong with a request, and signs nothing for it', async () => {
    const csr = await csrOf();
    const tampered = csr.replace(/^([A-Za-z0-9+/]{40})([A-Za-z0-9+/])/m, (_, a: string, b: string) =>
      b === 'A' ? `${a}B` : `${a}A`,
    );
    const good = { identity: WEB, token };
    for (const bad of ['', 'x', csr.slice(0, -60), tampered, csr + csr, `${csr}${' '.repeat(20_000)}`]) {
      assert.equal(await refusal({ csr: bad, ...good }), status.INVALID_ARGUMENT, bad.slice(0, 40));
    }
    assert.equal(await refusal({ csr: await csrOf({ key: 'rsa:1024' }), ...good }), status.INVALID_ARGUMENT);
    assert.equal(await refusal({ csr: await csrOf({ key: 'ED25519' }), ...good }), status.INVALID_ARGUMENT);
    assert.equal(await refusal({ csr, ...good, seconds: 91 * 86_400 }), status.INVALID_ARGUMENT);
    assert.equal(await refusal({ csr: 'x'.repeat(100_000), ...good }), status.RESOURCE_EXHAUSTED);
    const chain = await peer.certificate({ csr, ...good, seconds: -5 });
    assert.ok(await verifies(workspace.directory, chain), 'no time at all means the usual one');
  });

  test('records every certificate and every refusal', async () => {
    const csr = await csrOf();
    await peer.certificate({ csr, identity: WEB, token });
    // What one caller is refused is written at a bounded rate; this one has not asked yet.
    await refusal({ csr, identity: WEB, token: await control.token('n2') });
    const lines = (await readFile(join(control.state, 'audit.jsonl'), 'utf8')).trim().split('\n');
    const records = lines.map(line => JSON.parse(line) as Readonly<Record<string, unknown>>);
    const [granted, made, refused] = records.slice(-3);
    assert.deepEqual([granted?.['event'], granted?.['requested']], ['certificate', WEB]);
    assert.deepEqual([made?.['event'], made?.['reason']], ['token', 'node n2']);
    assert.equal(refused?.['requested'], WEB);
    assert.equal(refused['code'], 'ca.not_on_node');
    assert.ok(!lines.join('').includes('PRIVATE') && !lines.join('').includes(token.split('.')[2] ?? '?'));
  });

  test('moves to a new root without a gap: old and new certificates hold, and clients are served on', async () => {
    const csr = await csrOf();
    const old = await peer.certificate({ csr, identity: WEB, token });
    const oldRoot = await control.rootPem();
    assert.equal((await control.act('POST', '/ca/rotate-root', {})).status, 200);
    const both = await control.rootPem();
    assert.equal(both.match(/BEGIN CERTIFICATE/g)?.length, 2);
    const crlPem = await control.crlPem();
    assert.ok(await verifies(workspace.directory, old, { rootsPem: both, crlPem }));
    // Who knows only the old root still gets in, and hears of the new one.
    using former = await ControlPeer.secure(control);
    const fresh = await former.certificate({ csr, identity: WEB, token });
    assert.equal(fresh.at(-1), both);
    assert.ok(await verifies(workspace.directory, fresh, { rootsPem: both, crlPem }));
    assert.ok(await verifies(workspace.directory, fresh, { rootsPem: oldRoot }), 'it signs with the root all know');
  });
});

test('an intermediate of somebody else signs as well; openssl agrees with its chain, list and serving certificate', async () => {
  await using workspace = await Workspace.make(SHOP);
  const caDir = join(workspace.directory, 'cacerts');
  await mkdir(caDir);
  const at = (name: string) => join(workspace.directory, name);
  const make = ['req', '-x509', '-nodes', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-days', '30'];
  const ca = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  await openssl(...make, '-keyout', at('root.key'), '-out', at('root.pem'), '-subj', '/O=corp/CN=root', ...ca);
  const by = ['-CA', at('root.pem'), '-CAkey', at('root.key')];
  const files = ['-keyout', join(caDir, 'ca-key.pem'), '-out', join(caDir, 'ca-cert.pem')];
  await openssl(...make, ...files, '-subj', '/O=corp/CN=mid', ...ca, ...by);
  const [root, mid] = await Promise.all(
    [at('root.pem'), join(caDir, 'ca-cert.pem')].map(async path => readFile(path, 'utf8')),
  );
  await writeFile(join(caDir, 'cert-chain.pem'), `${mid}${root}`);
  await copyFile(at('root.pem'), join(caDir, 'root-cert.pem'));

  const control = await workspace.start({ caDir });
  assert.equal(await control.rootPem(), root);
  using peer = await ControlPeer.secure(control);
  const token = await control.token('n1');
  const csr = await makeCsr(workspace.directory);
  const chain = await peer.certificate({ csr, identity: WEB, token });
  assert.equal(chain.length, 3);
  assert.ok(await verifies(workspace.directory, chain, { rootsPem: root ?? '', crlPem: await control.crlPem() }));
  assert.equal((await control.act('POST', '/ca/revoke', { identity: WEB })).status, 200);
  const crlPem = await control.crlPem();
  assert.equal(await verifies(workspace.directory, chain, { rootsPem: root ?? '', crlPem }), false);
  assert.equal((await control.act('POST', '/ca/rotate-root', {})).status, 409, 'its owner rotates it');
});
