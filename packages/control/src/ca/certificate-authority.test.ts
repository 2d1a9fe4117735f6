import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Caller } from '../auth/caller.ts';
import { SILENT_LOG } from '@ambit/log';
import { CertificateAuthority } from './certificate-authority.ts';
import { DirectoryStore } from './directory-store.ts';
import { makeCsr, openssl, verifies, withDirectory } from './openssl-testing.ts';
import { SelfSigned } from './self-signed.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const CART = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' };
const CALLER: Caller = { identity: CART, via: 'local_token', node: 'n1', pod: undefined };

interface Clock {
  ms: number;
}

async function open(
  directory: string,
  clock: Clock,
  options: { readonly overlapMs?: number; readonly maxTtlMs?: number; readonly rootLifetimeMs?: number } = {},
): Promise<CertificateAuthority> {
  const { overlapMs = DAY, ...rest } = options;
  const now = (): number => clock.ms;
  const store = new DirectoryStore(directory);
  return CertificateAuthority.open({
    source: new SelfSigned({ store, trustDomain: 'cluster.local', overlapMs, now, ...rest }),
    stateDirectory: directory,
    trustDomain: 'cluster.local',
    log: SILENT_LOG,
    now,
    ...rest,
  });
}

async function withCa(
  body: (ca: CertificateAuthority, directory: string, clock: Clock) => Promise<void>,
  options: { readonly overlapMs?: number; readonly maxTtlMs?: number; readonly rootLifetimeMs?: number } = {},
): Promise<void> {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    const ca = await open(directory, clock, options);
    try {
      await body(ca, directory, clock);
    } finally {
      await ca.close();
    }
  });
}

function issue(ca: CertificateAuthority, csrPem: string, ttlMs = 0, identity = CART): readonly string[] {
  return ca.issue({ caller: CALLER, peer: '127.0.0.1:1', identity, csrPem, ttlMs });
}

function leafOf(chain: readonly string[]): X509Certificate {
  return new X509Certificate(chain[0] ?? '');
}

async function auditOf(directory: string): Promise<readonly Record<string, unknown>[]> {
  const text = await readFile(join(directory, 'audit.jsonl'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>);
}

test('openssl accepts leaf, root and list, and finds in the leaf only what was authorised', async () => {
  await withCa(async (ca, directory, clock) => {
    const chain = issue(ca, await makeCsr(directory));
    assert.equal(chain.length, 2);
    assert.ok(await verifies(directory, chain, { crlPem: ca.crlPem }));
    const text = await openssl('x509', '-in', join(directory, 'verify-leaf.pem'), '-noout', '-text');
    assert.match(text, /Subject: *\n/);
    assert.match(text, /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart\n/);
    assert.match(text, /Basic Constraints: critical\s+CA:FALSE/);
    assert.match(text, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
    assert.match(text, /Extended Key Usage: \s+TLS Web Server Authentication, TLS Web Client Authentication\n/);
    const leaf = leafOf(chain);
    assert.equal(leaf.serialNumber.length, 32);
    assert.equal(leaf.validFromDate.getTime(), Math.floor((clock.ms - 120_000) / 1000) * 1000);
    assert.equal(leaf.validToDate.getTime(), Math.floor((clock.ms + DAY) / 1000) * 1000);
    assert.ok(leaf.checkIssued(new X509Certificate(ca.rootsPem)));
  });
});

test('keys of P-256, P-384 and RSA are certified, others are refused', async () => {
  await withCa(async (ca, directory) => {
    for (const key of ['ec:prime256v1', 'ec:secp384r1', 'rsa:2048', 'rsa:4096']) {
      assert.ok(await verifies(directory, issue(ca, await makeCsr(directory, { key }))), key);
    }
    for (const key of ['rsa:512', 'rsa:1024', 'ec:secp521r1', 'ec:secp256k1', 'ed25519']) {
      const csr = await makeCsr(directory, { key });
      assert.throws(() => issue(ca, csr), { code: 'ca.bad_key' }, key);
    }
  });
});

test('names, CA rights and usages that a request asks for are dropped', async () => {
  await withCa(async (ca, directory) => {
    const asks = [
      'subjectAltName=URI:spiffe://cluster.local/ns/kube-system/sa/admin,DNS:istiod.istio-system.svc',
      'basicConstraints=critical,CA:TRUE',
      'keyUsage=keyCertSign,cRLSign',
      'extendedKeyUsage=codeSigning',
    ].flatMap(each => ['-addext', each]);
    const csr = await makeCsr(directory, { args: ['-subj', '/O=evil/CN=istiod.istio-system.svc', ...asks] });
    const leaf = leafOf(issue(ca, csr));
    assert.equal(leaf.subjectAltName, 'URI:spiffe://cluster.local/ns/shop/sa/cart');
    assert.equal(leaf.subject ?? '', '');
    assert.equal(leaf.ca, false);
    assert.deepEqual(leaf.keyUsage?.toSorted(), ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  });
});

test('lives are bounded by the longest, by the root, and nought means the default', async () => {
  await withCa(
    async (ca, directory, clock) => {
      const csr = await makeCsr(directory);
      const end = (ttlMs: number): number => leafOf(issue(ca, csr, ttlMs)).validToDate.getTime() - clock.ms;
      assert.ok(Math.abs(end(-5) - DAY) <= 1000);
      assert.ok(Math.abs(end(HOUR) - HOUR) <= 1000);
      assert.throws(() => issue(ca, csr, 40 * DAY + 1000), { code: 'ca.bad_ttl' });
      assert.throws(() => issue(ca, csr, Number.POSITIVE_INFINITY), { code: 'ca.bad_ttl' });
      const chain = issue(ca, csr, 39 * DAY);
      assert.equal(leafOf(chain).validToDate.getTime(), new X509Certificate(ca.rootsPem).validToDate.getTime());
      clock.ms += 31 * DAY;
      assert.throws(() => issue(ca, csr), { code: 'ca.expired' });
      clock.ms -= 62 * DAY;
      assert.throws(() => issue(ca, csr), { code: 'ca.expired' });
    },
    { maxTtlMs: 40 * DAY, rootLifetimeMs: 30 * DAY },
  );
});

test('an identity of another trust domain, or one that would be two names, is never signed', async () => {
  await withCa(async (ca, directory) => {
    const csr = await makeCsr(directory);
    for (const bad of [
      { ...CART, trustDomain: 'other' },
      { ...CART, serviceAccount: 'a/b' },
      { ...CART, serviceAccount: 'a b' },
      { ...CART, serviceAccount: 'ä' },
    ]) {
      assert.throws(() => issue(ca, csr, 0, bad), { code: 'ca.bad_identity' });
    }
  });
});

test('a revoked certificate fails at openssl, its neighbour does not, and both survive a restart', async () => {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    const csr = await makeCsr(directory);
    const first = await open(directory, clock);
    const [bad, good] = [issue(first, csr), issue(first, csr)];
    const serial = leafOf(bad).serialNumber;
    await assert.rejects(first.revoke({ serial: 'abcdef' }), { code: 'ca.unknown_serial' });
    assert.equal((await first.revoke({ serial: `0x${serial}` })).length, 1);
    const number = first.status.crlNumber;
    await first.close();

    const second = await open(directory, clock);
    assert.ok(second.status.crlNumber > number);
    assert.ok(second.isRevoked(serial) && !second.isRevoked(leafOf(good).serialNumber));
    assert.equal(await verifies(directory, bad, { crlPem: second.crlPem }), false);
    assert.equal(await verifies(directory, good, { crlPem: second.crlPem }), true);
    assert.equal(await readFile(join(directory, 'crl.pem'), 'utf8'), second.crlPem);
    assert.equal(second.rootsPem, good.at(-1));
    const listed = second.list();
    assert.deepEqual(
      listed.filter(each => each.isRevoked).map(each => each.serial.toUpperCase()),
      [serial],
    );
    assert.equal(listed.length, 2);
    // The identity's other certificates go with it.
    assert.equal((await second.revoke({ identity: 'spiffe://cluster.local/ns/shop/sa/cart' })).length, 2);
    assert.equal(await verifies(directory, good, { crlPem: second.crlPem }), false);
    // Expired, they leave the list and the index.
    clock.ms += 2 * DAY;
    await second.maintain();
    assert.deepEqual(second.list(), []);
    assert.equal(second.isRevoked(serial), false);
    await second.close();
  });
});

test('the list is published again at half of its life, with a higher number', async () => {
  await withCa(async (ca, _directory, clock) => {
    const number = ca.status.crlNumber;
    const seen: string[] = [];
    ca.listen({ crl: pem => void seen.push(pem) });
    clock.ms += 11 * HOUR;
    await ca.maintain();
    assert.equal(ca.status.crlNumber, number);
    clock.ms += 2 * HOUR;
    await ca.maintain();
    assert.equal(ca.status.crlNumber, number + 1);
    assert.deepEqual(seen, [ca.crlPem]);
  });
});

test('through a change of roots leaves verify under the bundle of every neighbouring phase', async () => {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    const csr = await makeCsr(directory);
    let ca = await open(directory, clock);
    const phases: { phase: string; chain: readonly string[]; roots: string; crl: string; atMs: number }[] = [];
    const note = (): void => {
      const chain = issue(ca, csr);
      phases.push({ phase: ca.status.phase, chain, roots: ca.rootsPem, crl: ca.crlPem, atMs: clock.ms });
    };
    note();
    await ca.rotateRoot();
    await assert.rejects(ca.rotateRoot(), { code: 'ca.rotation' });
    note();
    for (let step = 0; step < 2; step += 1) {
      clock.ms += DAY / 2;
      // A restart in between changes nothing.
      await ca.close();
      ca = await open(directory, clock);
      assert.equal(ca.status.phase, phases.at(-1)?.phase);
      clock.ms += DAY / 2;
      await ca.maintain();
      note();
    }
    assert.deepEqual(
      phases.map(each => each.phase),
      ['steady', 'announced', 'switched', 'steady'],
    );
    for (const [index, { chain, atMs }] of phases.entries()) {
      for (const other of phases.slice(Math.max(0, index - 1), index + 2)) {
        const where = `${index} under ${other.phase}`;
        assert.ok(await verifies(directory, chain, { rootsPem: other.roots, atMs }), where);
      }
      const crlPem = phases[index]?.crl ?? '';
      assert.ok(await verifies(directory, chain, { crlPem, atMs }), `${index} with its list`);
    }
    const [before, , , after] = phases;
    assert.equal(await verifies(directory, before?.chain ?? [], { rootsPem: after?.roots ?? '' }), false);
    assert.equal(await readFile(join(directory, 'root-cert.pem'), 'utf8'), after?.roots);
    await ca.close();
  });
});

test('a change of roots takes its steps when they are due, without being asked', async () => {
  await withDirectory(async directory => {
    const store = new DirectoryStore(directory);
    const trust = { trustDomain: 'cluster.local' };
    const ca = await CertificateAuthority.open({
      source: new SelfSigned({ store, ...trust, overlapMs: 50, now: Date.now }),
      stateDirectory: directory,
      ...trust,
      log: SILENT_LOG,
    });
    const phases: string[] = [];
    const isOver = Promise.withResolvers<void>();
    ca.listen({
      roots: () => {
        phases.push(ca.status.phase);
        if (ca.status.phase === 'steady') isOver.resolve();
      },
    });
    const before = ca.rootsPem;
    // The authority's own timers keep no process alive.
    const deadline = setTimeout(isOver.reject, 20_000, new Error(`stuck at ${phases.join()}`));
    await ca.rotateRoot();
    await isOver.promise;
    clearTimeout(deadline);
    assert.deepEqual(phases, ['announced', 'switched', 'steady']);
    assert.notEqual(ca.rootsPem, before);
    await ca.close();
  });
});

test('a certificate of the old root can still be revoked when the new one signs', async () => {
  await withCa(async (ca, directory, clock) => {
    await ca.rotateRoot();
    clock.ms += DAY - HOUR;
    const old = issue(ca, await makeCsr(directory));
    clock.ms += HOUR;
    await ca.maintain();
    assert.equal(ca.status.phase, 'switched');
    const check = { rootsPem: ca.rootsPem, atMs: clock.ms };
    assert.equal(await verifies(directory, old, { ...check, crlPem: ca.crlPem }), true);
    await ca.revoke({ serial: leafOf(old).serialNumber });
    assert.equal(await verifies(directory, old, { ...check, crlPem: ca.crlPem }), false);
  });
});

test('a root with a fifth of its life left announces its successor by itself', async () => {
  await withCa(
    async (ca, _directory, clock) => {
      clock.ms += 79 * DAY;
      await ca.maintain();
      assert.equal(ca.status.phase, 'steady');
      clock.ms += 2 * DAY;
      await ca.maintain();
      assert.equal(ca.status.phase, 'announced');
    },
    { rootLifetimeMs: 100 * DAY },
  );
});

test('an authority that slept past the end of an announced root goes on with the next', async () => {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    const first = await open(directory, clock, { rootLifetimeMs: 100 * DAY });
    clock.ms += 90 * DAY;
    await first.maintain();
    await first.close();
    clock.ms += 20 * DAY;
    const second = await open(directory, clock, { rootLifetimeMs: 100 * DAY });
    assert.equal(second.status.phase, 'switched');
    const chain = issue(second, await makeCsr(directory));
    assert.ok(await verifies(directory, chain, { atMs: clock.ms }));
    await second.close();
  });
});

test('an expired root stops the start and says which', async () => {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    await (await open(directory, clock, { rootLifetimeMs: DAY })).close();
    clock.ms += 2 * DAY;
    await assert.rejects(open(directory, clock), { code: 'ca.bad_material', message: / expired on / });
  });
});

test('two authorities that start at once on one directory agree on one root', async () => {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    const state = join(directory, 'root');
    const openAt = async (name: string): Promise<CertificateAuthority> =>
      CertificateAuthority.open({
        source: new SelfSigned({
          store: new DirectoryStore(state),
          trustDomain: 'cluster.local',
          overlapMs: DAY,
          now: () => clock.ms,
        }),
        stateDirectory: join(directory, name),
        trustDomain: 'cluster.local',
        log: SILENT_LOG,
        now: () => clock.ms,
      });
    const all = await Promise.all(['a', 'b', 'c', 'd'].map(openAt));
    assert.equal(new Set(all.map(each => each.rootsPem)).size, 1);
    // One rotates, the others follow; the step is taken once.
    await all[0]?.rotateRoot();
    clock.ms += DAY;
    await Promise.all(all.map(each => each.maintain()));
    await Promise.all(all.map(each => each.maintain()));
    assert.equal(new Set(all.map(each => each.rootsPem)).size, 1);
    assert.deepEqual(new Set(all.map(each => each.status.phase)), new Set(['switched']));
    await Promise.all(all.map(each => each.close()));
  });
});

test('secrets are readable by their owner only, public files by all, and open secrets are refused', async () => {
  await withDirectory(async parent => {
    const directory = join(parent, 'state');
    const clock = { ms: Date.now() };
    await (await open(directory, clock)).close();
    const mode = async (name: string): Promise<string> =>
      ((await stat(join(directory, name))).mode & 0o777).toString(8);
    assert.equal(await mode(''), '700');
    for (const name of ['root-key.pem', 'revoked.json', 'audit.jsonl', 'issued.jsonl'])
      assert.equal(await mode(name), '600');
    for (const name of ['root-cert.pem', 'crl.pem']) assert.equal(await mode(name), '644');
    execFileSync('chmod', ['640', join(directory, 'root-key.pem')]);
    await assert.rejects(open(directory, clock), { code: 'ca.key_permissions', message: /mode 640/ });
    execFileSync('chmod', ['600', join(directory, 'root-key.pem')]);
    await writeFile(join(directory, 'root-key.pem'), 'not pem at all');
    await assert.rejects(open(directory, clock), { code: 'ca.bad_material', message: /0 roots/ });
  });
});

test('a list of revoked certificates that cannot be read stops the start', async () => {
  await withDirectory(async directory => {
    const clock = { ms: Date.now() };
    await (await open(directory, clock)).close();
    await writeFile(join(directory, 'revoked.json'), '{"number": 3, "revo');
    await assert.rejects(open(directory, clock), { code: 'ca.state', message: /revoked\.json/ });
  });
});

test('every grant and refusal is a line of the audit log, a flood of refusals is not', async () => {
  await withCa(async (ca, directory, clock) => {
    const serial = leafOf(issue(ca, await makeCsr(directory))).serialNumber.toLowerCase();
    for (let count = 0; count < 5000; count += 1) assert.throws(() => issue(ca, 'garbage'), { code: 'ca.bad_csr' });
    const lines = await auditOf(directory);
    assert.equal(lines.length, 11);
    assert.deepEqual(
      [lines[0]?.['event'], lines[0]?.['decision'], lines[0]?.['serial']],
      ['certificate', 'granted', serial],
    );
    assert.deepEqual(lines[0]?.['caller'], {
      identity: 'spiffe://cluster.local/ns/shop/sa/cart',
      via: 'local_token',
      node: 'n1',
    });
    assert.equal(lines[1]?.['code'], 'ca.bad_csr');
    assert.equal(ca.status.refusals['ca.bad_csr'], 5000);
    clock.ms += 6_000;
    assert.throws(() => issue(ca, 'garbage'));
    assert.equal((await auditOf(directory)).at(-1)?.['suppressed'], 4990);
  });
});

test('on a full disk nothing is issued, and issuing goes on when there is space again', async context => {
  if (process.getuid?.() !== 0) return context.skip('mounting needs root');
  await withDirectory(async directory => {
    const state = join(directory, 'state');
    await mkdir(state, { mode: 0o700 });
    const csr = await makeCsr(directory);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k,mode=700', 'tmpfs', state], { stdio: 'pipe' });
    } catch {
      return context.skip('this machine does not allow mounting');
    }
    try {
      const ca = await open(state, { ms: Date.now() });
      let refused: unknown;
      let given = 0;
      for (; given < 5000 && refused === undefined; given += 1) {
        try {
          issue(ca, csr);
        } catch (error) {
          refused = error;
        }
      }
      assert.ok(refused instanceof Error && 'code' in refused && refused.code === 'ca.audit');
      const granted = (await auditOf(state)).filter(line => line['decision'] === 'granted').length;
      assert.equal(granted, given - 1);
      assert.ok(ca.status.problems.some(each => each.code === 'ca.audit'));
      execFileSync('mount', ['-o', 'remount,size=4m', state]);
      issue(ca, csr);
      assert.equal((await auditOf(state)).at(-1)?.['decision'], 'granted');
      await ca.close();
    } finally {
      execFileSync('umount', [state]);
    }
  });
});

test('the serving certificate has the names and addresses, and openssl takes it for a server', async () => {
  await withCa(async (ca, directory) => {
    const names = ['istiod.istio-system.svc', 'localhost', '127.0.0.1', '::1', 'not a name', 'localhost'];
    const { certChainPem, privateKeyPem, rootsPem } = await ca.servingCertificate(names);
    assert.ok(await verifies(directory, [certChainPem, rootsPem]));
    const leaf = new X509Certificate(certChainPem);
    assert.equal(
      leaf.subjectAltName,
      'DNS:istiod.istio-system.svc, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
    );
    assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1']);
    assert.match(privateKeyPem, /BEGIN PRIVATE KEY/);
  });
});
