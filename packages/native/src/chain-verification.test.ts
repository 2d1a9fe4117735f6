import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Eku, makeLeaf, makeRoot } from '../test/certificates.ts';
import { verifyCertificateChain } from './chain-verification.ts';
import { TlsError } from './tls-error.ts';

const DAY_MS = 86_400_000;
const root = await makeRoot();
const other = await makeRoot('O=elsewhere');
const intermediate = await makeRoot('O=intermediate', root);

function verdict(certChainPem: string, rootsPem: string, atMs = Date.now()): string {
  const result = verifyCertificateChain({ certChainPem, rootsPem, atMs });
  return result.kind === 'trusted' ? 'trusted' : `${result.depth}: ${result.reason}`;
}

test('a chain to one of several roots is trusted', async () => {
  const leaf = await makeLeaf(intermediate, { chainPem: intermediate.certPem });
  assert.equal(verdict(leaf.certChainPem, other.certPem + root.certPem), 'trusted');
  assert.equal(verdict((await makeLeaf(root)).certChainPem, root.certPem), 'trusted');
});

test('an intermediate that is given as a root is an anchor', async () => {
  assert.equal(verdict((await makeLeaf(intermediate)).certChainPem, intermediate.certPem), 'trusted');
});

test('a missing intermediate and a foreign root are refused', async () => {
  const leaf = await makeLeaf(intermediate);
  assert.match(verdict(leaf.certChainPem, root.certPem), /^0: unable to get local issuer/);
  assert.match(verdict((await makeLeaf(root)).certChainPem, other.certPem), /^0: unable to get local issuer/);
});

test('a root of the same name and another key is refused', async () => {
  const twin = await makeRoot();
  const leaf = await makeLeaf(root);
  assert.notEqual(verdict(leaf.certChainPem, twin.certPem), 'trusted');
});

test('dates are compared with the moment that was asked about', async () => {
  const leaf = await makeLeaf(root);
  assert.match(verdict(leaf.certChainPem, root.certPem, Date.now() + 40 * DAY_MS), /expired/);
  assert.match(verdict(leaf.certChainPem, root.certPem, Date.now() - 40 * DAY_MS), /not yet valid/);
});

test('a certificate for one end of TLS only is refused', async () => {
  for (const eku of [[Eku.serverAuth], [Eku.clientAuth], [Eku.codeSigning]]) {
    const leaf = await makeLeaf(root, { eku });
    assert.match(verdict(leaf.certChainPem, root.certPem), /purpose/);
  }
});

test('unreadable PEM is an error that names the part', async () => {
  const { certChainPem } = await makeLeaf(root);
  for (const [chain, roots, code] of [
    ['nothing', root.certPem, 'tls.bad_certificate'],
    [certChainPem, '', 'tls.bad_roots'],
  ] as const) {
    assert.throws(
      () => verdict(chain, roots),
      error => error instanceof TlsError && error.code === code,
    );
  }
});

test('five thousand verifications leave no memory behind', async () => {
  const leaf = await makeLeaf(intermediate, { chainPem: intermediate.certPem });
  const once = (): string => verdict(leaf.certChainPem, root.certPem);
  for (let i = 0; i < 500; i++) once();
  const before = process.memoryUsage.rss();
  for (let i = 0; i < 5000; i++) once();
  const grown = process.memoryUsage.rss() - before;
  assert.ok(grown < 16 << 20, `${grown} bytes`);
});
