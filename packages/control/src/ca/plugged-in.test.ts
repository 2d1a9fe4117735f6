import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { CertificateAuthority } from './certificate-authority.ts';
import { makeCsr, openssl, verifies, withDirectory } from './openssl-testing.ts';
import { hasPluggedIn, PluggedIn } from './plugged-in.ts';

const CART = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'cart' };
const CA_EXTENSIONS = [
  '-addext',
  'basicConstraints=critical,CA:TRUE',
  '-addext',
  'keyUsage=critical,keyCertSign,cRLSign',
];

/** `NAME.pem` and `NAME.key`: a root, or an intermediate of `issuer`. */
async function makeAuthority(directory: string, name: string, key: readonly string[], issuer?: string): Promise<void> {
  const at = (file: string): string => join(directory, file);
  const by = issuer === undefined ? [] : ['-CA', at(`${issuer}.pem`), '-CAkey', at(`${issuer}.key`)];
  const make = ['req', '-x509', '-nodes', '-newkey', ...key, '-keyout', at(`${name}.key`), '-out', at(`${name}.pem`)];
  await openssl(...make, '-subj', `/O=example/CN=${name}`, '-days', '30', ...CA_EXTENSIONS, ...by);
}

const EC = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const P384 = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'];
const RSA = ['rsa:2048'];

async function plug(
  directory: string,
  signer: string,
  chain: readonly string[],
  roots: readonly string[],
): Promise<string> {
  const to = join(directory, 'cacerts');
  const join2 = async (names: readonly string[]): Promise<string> =>
    (await Promise.all(names.map(name => readFile(join(directory, `${name}.pem`), 'utf8')))).join('');
  await mkdir(to, { recursive: true });
  await copyFile(join(directory, `${signer}.pem`), join(to, 'ca-cert.pem'));
  await copyFile(join(directory, `${signer}.key`), join(to, 'ca-key.pem'));
  await writeFile(join(to, 'cert-chain.pem'), await join2(chain));
  await writeFile(join(to, 'root-cert.pem'), await join2(roots));
  return to;
}

function sourceOf(directory: string, now = Date.now): PluggedIn {
  return new PluggedIn({ directory, retainMs: 86_400_000, now });
}

for (const [name, root, intermediate] of [
  ['EC', EC, EC],
  ['P-384', P384, P384],
  ['RSA', RSA, RSA],
  ['mixed', RSA, EC],
] as const) {
  test(`signs with a plugged-in ${name} intermediate; leaf, chain and list hold at openssl`, async () => {
    await withDirectory(async directory => {
      await makeAuthority(directory, 'root', root);
      await makeAuthority(directory, 'mid', intermediate, 'root');
      const cacerts = await plug(directory, 'mid', ['mid', 'root'], ['root']);
      const ca = await CertificateAuthority.open({
        source: sourceOf(cacerts),
        stateDirectory: join(directory, 'state'),
        trustDomain: 'cluster.local',
        log: SILENT_LOG,
      });
      const caller = { identity: CART, via: 'certificate', node: undefined, pod: undefined } as const;
      const csrPem = await makeCsr(directory);
      const chain = ca.issue({ caller, peer: '', identity: CART, csrPem, ttlMs: 0 });
      assert.equal(chain.length, 3);
      assert.ok(await verifies(directory, chain, { crlPem: ca.crlPem }));
      await ca.revoke({ identity: 'spiffe://cluster.local/ns/shop/sa/cart' });
      assert.equal(await verifies(directory, chain, { crlPem: ca.crlPem }), false);
      // A ztunnel knows no more than the root: the lists bring along who signed them, behind them.
      assert.match(ca.crlPem, /^-----BEGIN X509 CRL-----/);
      assert.ok(ca.crlPem.endsWith(chain[1] ?? '?'));
      await assert.rejects(ca.rotateRoot(), { code: 'ca.rotation' });
      await ca.close();
    });
  });
}

test('what is missing or does not fit stops the start and names the file', async () => {
  await withDirectory(async directory => {
    await makeAuthority(directory, 'root', EC);
    await makeAuthority(directory, 'other', EC);
    await makeAuthority(directory, 'mid', EC, 'root');
    const refuses = async (break_: (cacerts: string) => Promise<unknown>, message: RegExp): Promise<void> => {
      const cacerts = await plug(directory, 'mid', ['mid'], ['root']);
      await break_(cacerts);
      assert.ok(await hasPluggedIn(cacerts));
      await assert.rejects(sourceOf(cacerts).start(), { code: 'ca.bad_material', message });
    };
    await refuses(to => rm(join(to, 'ca-key.pem')), /ca-key\.pem/);
    await refuses(to => rm(join(to, 'root-cert.pem')), /root-cert\.pem/);
    await refuses(to => copyFile(join(directory, 'other.key'), join(to, 'ca-key.pem')), /ca-key\.pem does not belong/);
    await refuses(
      to => copyFile(join(directory, 'other.pem'), join(to, 'root-cert.pem')),
      /cert-chain\.pem does not lead/,
    );
    await refuses(to => writeFile(join(to, 'ca-cert.pem'), 'x'), /ca-cert\.pem holds no certificate/);
    const cacerts = await plug(directory, 'mid', ['mid'], ['root']);
    const late = sourceOf(cacerts, () => Date.now() + 40 * 86_400_000);
    await assert.rejects(late.start(), { code: 'ca.bad_material', message: /ca-cert\.pem .* expired/ });
    assert.equal(await hasPluggedIn(join(directory, 'nothing')), false);
  });
});

test('a good change is taken over and the old signer keeps its list; a bad one is reported and left', async () => {
  await withDirectory(async directory => {
    await makeAuthority(directory, 'root', EC);
    await makeAuthority(directory, 'mid', EC, 'root');
    await makeAuthority(directory, 'mid2', EC, 'root');
    await makeAuthority(directory, 'stranger', EC);
    const source = sourceOf(await plug(directory, 'mid', ['mid'], ['root']));
    await source.start();
    assert.equal(await source.refresh(), false);
    await plug(directory, 'mid2', ['mid2'], ['root', 'stranger']);
    assert.equal(await source.refresh(), true);
    assert.match(source.state?.signer.certificate.subject ?? '', /CN=mid2/);
    assert.equal(source.state?.signers.length, 2);
    await writeFile(join(directory, 'cacerts', 'ca-key.pem'), 'half written');
    assert.equal(await source.refresh(), false);
    assert.equal(source.problems[0]?.code, 'ca.bad_material');
    assert.match(source.state?.signer.certificate.subject ?? '', /CN=mid2/);
    await makeAuthority(directory, 'fresh', EC);
    await plug(directory, 'fresh', [], ['fresh']);
    assert.equal(await source.refresh(), false);
    assert.equal(source.problems[0]?.code, 'ca.root_no_overlap');
    await plug(directory, 'mid', ['mid'], ['root']);
    assert.equal(await source.refresh(), true);
    assert.deepEqual(source.problems, []);
  });
});

test('the layout of kubernetes.io/tls is read too', async () => {
  await withDirectory(async directory => {
    await makeAuthority(directory, 'root', EC);
    await makeAuthority(directory, 'mid', EC, 'root');
    const to = join(directory, 'tls');
    await mkdir(to);
    await copyFile(join(directory, 'mid.pem'), join(to, 'tls.crt'));
    await copyFile(join(directory, 'mid.key'), join(to, 'tls.key'));
    await copyFile(join(directory, 'root.pem'), join(to, 'ca.crt'));
    const source = sourceOf(to);
    await source.start();
    assert.equal(source.state?.signer.intermediates.length, 1);
    const changed = Promise.withResolvers<void>();
    const stop = source.watch(changed.resolve);
    await copyFile(join(directory, 'root.pem'), join(to, 'ca.crt'));
    await changed.promise;
    stop();
  });
});
