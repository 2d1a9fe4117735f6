import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SocksNegotiation, type SocksMove } from './negotiation.ts';

/** Feeds a byte stream as the machine wants it; the last move, the replies, and what was left unread. */
function run(bytes: readonly number[]): { readonly last: SocksMove | undefined; replies: number[][]; left: number[] } {
  const machine = new SocksNegotiation();
  const left = [...bytes];
  const replies: number[][] = [];
  let last: SocksMove | undefined;
  while (machine.wanted > 0 && left.length >= machine.wanted) {
    last = machine.take(Uint8Array.from(left.splice(0, machine.wanted)));
    if (last.kind === 'more' && last.reply !== undefined) replies.push([...last.reply]);
    if (last.kind === 'refused') replies.push([...last.reply]);
  }
  return { last, replies, left };
}

const HELLO = [5, 1, 0];

test('an address of either family is the target, and what comes after the request is left alone', () => {
  const v4 = run([...HELLO, 5, 1, 0, 1, 10, 0, 0, 7, 0, 80, 71, 69, 84]);
  assert.deepEqual(v4.last, { kind: 'target', target: { kind: 'address', address: { ip: '10.0.0.7', port: 80 } } });
  assert.deepEqual(v4.replies, [[5, 0]]);
  assert.deepEqual(v4.left, [71, 69, 84]);
  const ip6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
  const v6 = run([...HELLO, 5, 1, 0, 4, ...ip6, 0x1f, 0x90]);
  assert.deepEqual(v6.last, { kind: 'target', target: { kind: 'address', address: { ip: 'fd00::9', port: 8080 } } });
});

test('a name is the target as it was written', () => {
  const { last } = run([...HELLO, 5, 1, 0, 3, 4, ...Buffer.from('cart'), 0, 80]);
  assert.deepEqual(last, { kind: 'target', target: { kind: 'name', hostname: 'cart', port: 80 } });
});

test('an address that is written as a name is an address', () => {
  for (const ip of ['10.0.0.7', 'fd00::9']) {
    const { last } = run([...HELLO, 5, 1, 0, 3, ip.length, ...Buffer.from(ip), 0, 80]);
    assert.deepEqual(last, { kind: 'target', target: { kind: 'address', address: { ip, port: 80 } } });
  }
});

test('no authentication is chosen among other methods, and its absence is refused', () => {
  assert.deepEqual(run([5, 3, 1, 2, 0]).replies, [[5, 0]]);
  assert.equal(run([5, 2, 1, 2]).last?.kind, 'refused');
  assert.equal(run([5, 0]).last?.kind, 'refused');
});

test('whatever else breaks the protocol is answered with status 7', () => {
  const broken = [
    [4, 1],
    [...HELLO, 4, 1, 0, 1],
    [...HELLO, 5, 2, 0, 1],
    [...HELLO, 5, 3, 0, 1],
    [...HELLO, 5, 1, 0, 2],
    [...HELLO, 5, 1, 0, 3, 0],
    [...HELLO, 5, 1, 0, 3, 2, 0xff, 0xfe, 0, 80],
  ];
  for (const bytes of broken) {
    const { last, replies } = run(bytes);
    assert.equal(last?.kind, 'refused', String(bytes));
    assert.deepEqual(replies.at(-1), [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
  }
});

test('no bytes make it fail, and it never wants more than a request can hold', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 600 }), bytes => {
      const machine = new SocksNegotiation();
      const left = [...bytes];
      let moves = 0;
      while (machine.wanted > 0 && left.length >= machine.wanted) {
        assert.ok(machine.wanted <= 257);
        machine.take(Uint8Array.from(left.splice(0, machine.wanted)));
        moves++;
      }
      assert.ok(moves <= 5);
    }),
    { seed: 5, numRuns: 500 },
  );
});
