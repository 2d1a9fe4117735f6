import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatGatewayDestination, parseGatewayDestination } from './gateway.ts';
import { formatPrincipal, formatSpiffeId, parseSpiffeId, sameSpiffeId } from './identity.ts';

describe('SPIFFE ids (T10)', () => {
  for (const [text, trustDomain, namespace, serviceAccount] of [
    ['spiffe://cluster.local/ns/a/sa/b', 'cluster.local', 'a', 'b'],
    ['spiffe://td/ns/a.b-c/sa/d.e', 'td', 'a.b-c', 'd.e'],
    ['spiffe://td/ns//sa/', 'td', '', ''],
    ['spiffe:///ns/shop/sa/web', '', 'shop', 'web'],
  ] as const) {
    test(`reads ${text}`, () => {
      const id = parseSpiffeId(text) ?? assert.fail();
      assert.deepEqual(id, { trustDomain, namespace, serviceAccount });
      assert.equal(formatSpiffeId(id), text);
      assert.equal(`spiffe://${formatPrincipal(id)}`, text);
    });
  }

  for (const text of [
    '',
    'td/ns/a/sa/b',
    'SPIFFE://td/ns/a/sa/b',
    'spiffe://td/ns/a/sa',
    'spiffe://td/ns/a/sa/b/',
    'spiffe://td/ns/a/sa/b/c',
    'spiffe://td/xx/a/sa/b',
    'spiffe://td/ns/a/xx/b',
    'spiffe://td/NS/a/sa/b',
    'https://td/ns/a/sa/b',
    `spiffe://td/ns/a/sa/${'b'.repeat(3000)}`,
  ]) {
    test(`refuses ${text.slice(0, 50)}`, () => assert.equal(parseSpiffeId(text), undefined));
  }

  test('format and parse round-trip for parts without a slash', () => {
    const part = fc.string({ maxLength: 40 }).filter(text => !text.includes('/'));
    fc.assert(
      fc.property(fc.record({ trustDomain: part, namespace: part, serviceAccount: part }), id => {
        const parsed = parseSpiffeId(formatSpiffeId(id)) ?? assert.fail();
        assert.deepEqual(parsed, { ...id });
        assert.ok(sameSpiffeId(parsed, id));
      }),
      { seed: 61 },
    );
  });

  test('no text reads as an id that writes differently', () => {
    const piece = fc.constantFrom('spiffe://', '/', 'ns', 'sa', 'a', '//', 'td', '%2f');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 9 }), pieces => {
        const text = pieces.join('');
        const id = parseSpiffeId(text);
        if (id !== undefined) assert.equal(formatSpiffeId(id), text);
      }),
      { seed: 62, numRuns: 3000 },
    );
  });

  test('ids that differ in one part are not the same', () => {
    const id = { trustDomain: 'a', namespace: 'b', serviceAccount: 'c' };
    assert.ok(!sameSpiffeId(id, { ...id, trustDomain: 'x' }));
    assert.ok(!sameSpiffeId(id, { ...id, namespace: 'x' }));
    assert.ok(!sameSpiffeId(id, { ...id, serviceAccount: 'x' }));
  });
});

describe('gateway destinations', () => {
  test('are addresses first and names otherwise', () => {
    assert.deepEqual(parseGatewayDestination('net/10.0.0.1'), { kind: 'address', network: 'net', ip: '10.0.0.1' });
    assert.deepEqual(parseGatewayDestination('/::1'), { kind: 'address', network: '', ip: '::1' });
    assert.deepEqual(parseGatewayDestination('ns/gw.example'), {
      kind: 'hostname',
      namespace: 'ns',
      hostname: 'gw.example',
    });
    for (const text of ['', 'x', 'ns/', 'a/b/c']) assert.equal(parseGatewayDestination(text), undefined, text);
  });

  test('are written as they are read', () => {
    for (const text of ['net/10.0.0.1', '/fd00::1', 'ns/gw.example.com']) {
      assert.equal(formatGatewayDestination(parseGatewayDestination(text) ?? assert.fail()), text);
    }
  });
});
