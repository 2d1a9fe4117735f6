import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Caller } from '../auth/caller.ts';
import { IssuePace } from './issue-pace.ts';

const callerOf = (serviceAccount: string, node?: string): Caller => ({
  identity: { trustDomain: 'cluster.local', namespace: 'ns', serviceAccount },
  via: 'local_token',
  node,
  pod: undefined,
});

test('a caller has a burst and then a rate, for itself and for others apart, and takes nothing from anybody else', () => {
  let nowMs = 0;
  const pace = new IssuePace({
    now: () => nowMs,
    limits: { nodeBurst: 3, nodePerSecond: 1, ownBurst: 1, ownPerSecond: 0.5 },
  });
  const [a, b] = [callerOf('ztunnel', 'n1'), callerOf('ztunnel', 'n2')];
  const take = (caller: Caller, isOwn: boolean, times: number) =>
    Array.from({ length: times }, () => pace.take(caller, isOwn)).filter(Boolean).length;
  assert.equal(take(a, false, 9), 3);
  assert.equal(take(b, false, 9), 3);
  assert.equal(take(a, true, 9), 1);
  assert.equal(take(b, true, 9), 1);
  // Certificates of one account are one caller, wherever they are.
  assert.deepEqual([take(callerOf('cart'), true, 9), take(callerOf('cart'), true, 9)], [1, 0]);
  nowMs += 2_000;
  assert.deepEqual([take(a, false, 9), take(a, true, 9)], [2, 1]);
  nowMs += 1_000_000;
  assert.equal(take(a, false, 9), 3);
  // A clock that went back gives nothing.
  nowMs -= 500_000;
  assert.equal(take(a, false, 9), 0);
});

test('no more callers are remembered than allowed', () => {
  const pace = new IssuePace({ now: () => 0, limits: { ownBurst: 1, maxCallers: 2 } });
  assert.deepEqual(
    ['a', 'b', 'a', 'c', 'a', 'b'].map(name => pace.take(callerOf(name), true)),
    [true, true, false, true, false, true],
  );
});
