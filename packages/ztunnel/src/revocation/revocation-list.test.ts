import 'reflect-metadata';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { webcrypto } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { certificateKey } from '@ambit/native';
import * as x509 from '@peculiar/x509';
import { type Authority, makeLeaf, makeRoot } from '../../../native/test/certificates.ts';
import { Log, LogFilter } from '../log.ts';
import { readCrls } from './crl-reader.ts';
import { RevocationList } from './revocation-list.ts';

const directory = await mkdtemp(join(tmpdir(), 'ambit-crl-'));
after(async () => rm(directory, { recursive: true }));
const root = await makeRoot('CN=the root');
const leaf = await makeLeaf(root);
const other = await makeLeaf(root);

async function crlOf(issuer: Authority, leaves: readonly Buffer[], nextUpdate = new Date(Date.now() + 1e8)) {
  const crl = await x509.X509CrlGenerator.create(
    {
      issuer: issuer.certificate.subject,
      thisUpdate: new Date(Date.now() - 1e8),
      nextUpdate,
      entries: leaves.map(der => ({ serialNumber: new x509.X509Certificate(der).serialNumber })),
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      signingKey: issuer.keys.privateKey,
    },
    webcrypto,
  );
  return { pem: `${crl.toString('pem')}\n`, der: Buffer.from(crl.rawData) };
}

const read = async (content: string | Buffer, issuersPem = root.certPem) =>
  readCrls({ content: Buffer.from(content), issuersPem }, Date.now());

test('a list names certificates as a handshake names them, in PEM and in DER', async () => {
  const { pem, der } = await crlOf(root, [leaf.certDer]);
  for (const content of [pem, der]) {
    assert.deepEqual((await read(content)).keys, [certificateKey(leaf.certDer)]);
  }
  assert.ok(!(await read(pem)).keys.includes(certificateKey(other.certDer)));
});

test('serials with a leading bit set are the same in both', async () => {
  // openssl writes 00 in front of such numbers; so must the key.
  const dir = await mkdtemp(join(directory, 'openssl-'));
  const run = (...args: string[]) => {
    const result = spawnSync('openssl', args, { cwd: dir, encoding: 'utf8' });
    assert.equal(result.status, 0, result.stderr);
  };
  await writeFile(join(dir, 'index.txt'), '');
  await writeFile(join(dir, 'number'), '01\n');
  await writeFile(
    join(dir, 'ca.cnf'),
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=1\n',
  );
  run(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-subj',
    '/O=foreign/CN=ca',
  );
  run(
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    'leaf.key',
    '-out',
    'leaf.csr',
    '-subj',
    '/CN=leaf',
  );
  run(
    'x509',
    '-req',
    '-in',
    'leaf.csr',
    '-CA',
    'ca.pem',
    '-CAkey',
    'ca.key',
    '-set_serial',
    '0xF1F2F3F4F5F6F7F8',
    '-out',
    'leaf.pem',
  );
  run('ca', '-config', 'ca.cnf', '-revoke', 'leaf.pem', '-keyfile', 'ca.key', '-cert', 'ca.pem');
  run('ca', '-config', 'ca.cnf', '-gencrl', '-keyfile', 'ca.key', '-cert', 'ca.pem', '-out', 'crl.pem');
  const text = async (name: string) => (await import('node:fs/promises')).readFile(join(dir, name), 'utf8');
  const der = Buffer.from(new x509.X509Certificate(await text('leaf.pem')).rawData);
  assert.deepEqual((await read(await text('crl.pem'), await text('ca.pem'))).keys, [certificateKey(der)]);
});

test('a list by a stranger says nothing, though it names an authority of ours', async () => {
  const impostor = await makeRoot('CN=the root');
  const { pem } = await crlOf(impostor, [leaf.certDer]);
  const facts = await read(pem);
  assert.deepEqual(facts.keys, []);
  assert.deepEqual(facts.unverified, ['CN=the root']);
});

test('several lists add up, one past its time counts and is told', async () => {
  const second = await makeRoot('CN=second');
  const foreign = await makeLeaf(second);
  const a = await crlOf(root, [leaf.certDer]);
  const b = await crlOf(second, [foreign.certDer], new Date(Date.now() - 1000));
  const facts = await read(a.pem + b.pem, root.certPem + second.certPem);
  assert.deepEqual([...facts.keys].sort(), [certificateKey(leaf.certDer), certificateKey(foreign.certDer)].sort());
  assert.deepEqual(facts.overdue, ['CN=second']);
});

test('nothing is no list, rubbish is an error', async () => {
  assert.equal((await read('')).lists, 0);
  assert.equal((await read('-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----')).lists, 0);
  const broken = ['hello', '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----', '-----BEGIN X509 CRL-----\nAAAA'];
  for (const text of broken) await assert.rejects(read(text), { code: 'config.invalid' }, text);
});

/** A list that is watched, with what it told. */
async function watched(name: string) {
  const path = join(directory, name);
  const told: (readonly string[])[] = [];
  const waiting: (() => void)[] = [];
  let usable = false;
  const filter = LogFilter.parse('off');
  assert.ok(filter !== undefined);
  const list = new RevocationList(path, {
    log: new Log({ write: () => undefined, now: Date.now }, { format: 'plain', filter }).scope('test'),
    onChange: keys => {
      told.push(keys);
      waiting.splice(0).forEach(wake => wake());
    },
    onUsable: () => {
      usable = true;
    },
  });
  list.setIssuers(root.certPem);
  await list.start();
  const next = async (): Promise<readonly string[]> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push(resolve);
    await promise;
    return told.at(-1) ?? [];
  };
  return { list, path, told, next, isUsable: () => usable };
}

const put = async (path: string, text: string): Promise<void> => {
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
};

test('a file that comes later, changes and breaks: the last good set stays', { timeout: 30_000 }, async () => {
  const { list, path, told, next, isUsable } = await watched('late.pem');
  assert.ok(isUsable(), 'a missing file revokes nobody');
  const first = next();
  await put(path, (await crlOf(root, [leaf.certDer])).pem);
  assert.deepEqual(await first, [certificateKey(leaf.certDer)]);
  await put(path, 'rubbish');
  while (list.status.state !== 'broken') await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(told.length, 1);
  assert.equal(list.status.failures, 1);
  const second = next();
  await put(path, (await crlOf(root, [leaf.certDer, other.certDer])).pem);
  assert.equal((await second).length, 2);
  list.close();
});

test('a broken file at the start is not usable, and lists are judged again by new authorities', {
  timeout: 30_000,
}, async () => {
  const second = await makeRoot('CN=later');
  const path = join(directory, 'judged.pem');
  await writeFile(path, 'rubbish');
  const { list, told, next, isUsable } = await watched('judged.pem');
  assert.ok(!isUsable());
  await put(path, (await crlOf(second, [leaf.certDer])).pem);
  while (!isUsable()) await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(told.length, 0);
  const judged = next();
  list.setIssuers(root.certPem + second.certPem);
  assert.equal((await judged).length, 1);
  list.close();
});

test('while no authority is known lists are believed, so that nobody they name comes in with the first certificate', async () => {
  const { pem } = await crlOf(root, [leaf.certDer]);
  const facts = await read(pem, '');
  assert.deepEqual([facts.keys, facts.unverified], [[certificateKey(leaf.certDer)], []]);
});

test('a file that becomes empty takes nothing back', { timeout: 30_000 }, async () => {
  await writeFile(join(directory, 'emptied.pem'), (await crlOf(root, [leaf.certDer])).pem);
  const { list, path, told } = await watched('emptied.pem');
  assert.equal(told.length, 1);
  // As it looks to a reader between the truncation and the first byte.
  await writeFile(path, '');
  while (list.status.state !== 'missing') await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(told.length, 1);
  assert.equal(list.status.revoked, 1);
  list.close();
});

test('a list that could not be read for a fault of this machine is tried again', { timeout: 30_000 }, async () => {
  await writeFile(join(directory, 'unlucky.pem'), (await crlOf(root, [leaf.certDer])).pem);
  const { execPath } = process;
  process.execPath = '/nonexistent/node';
  const { list, told, next, isUsable } = await watched('unlucky.pem').finally(() => (process.execPath = execPath));
  assert.deepEqual([list.status.state, told.length, isUsable()], ['broken', 0, false]);
  const judged = next();
  await writeFile(join(directory, 'beside'), 'the file itself is as it was');
  assert.deepEqual(await judged, [certificateKey(leaf.certDer)]);
  assert.ok(isUsable());
  list.close();
});

test('an authority below a known one signs lists of its own, if its certificate comes with them', async () => {
  const middle = await makeRoot('CN=middle', root);
  const lower = await makeRoot('CN=lower', middle);
  const below = await makeLeaf(lower);
  const { pem } = await crlOf(lower, [below.certDer]);
  assert.deepEqual((await read(pem)).unverified, ['CN=lower']);
  for (const others of [middle.certPem + lower.certPem, lower.certPem + middle.certPem]) {
    const facts = await read(pem + others);
    assert.deepEqual([facts.keys, facts.unverified], [[certificateKey(below.certDer)], []]);
  }
  // Nobody becomes an authority by being in the file: not a stranger of that name, nor one whose chain has a gap, nor a leaf.
  const impostor = await makeRoot('CN=lower');
  const forged = await crlOf(impostor, [leaf.certDer]);
  for (const others of [
    impostor.certPem,
    impostor.certPem + lower.certPem + middle.certPem,
    lower.certPem,
    leaf.certChainPem,
  ]) {
    assert.deepEqual((await read(forged.pem + others)).keys, []);
  }
});
