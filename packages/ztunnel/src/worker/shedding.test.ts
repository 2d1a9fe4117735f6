import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chooseToShed } from './shedding.ts';

test('the chosen tunnels never exceed the share, and idle ones stay', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(1_000_000)), fc.double({ min: 0, max: 1, noNaN: true }), (moves, share) => {
      const tunnels = moves.map(movedBytes => ({ movedBytes }));
      const chosen = chooseToShed(tunnels, new WeakMap(), share);
      const total = moves.reduce((sum, moved) => sum + moved, 0);
      const shed = chosen.reduce((sum, tunnel) => sum + tunnel.movedBytes, 0);
      assert.ok(shed <= total * share);
      assert.ok(chosen.every(tunnel => tunnel.movedBytes > 0));
    }),
    { seed: 20_26, numRuns: 500 },
  );
});

test('of two equally busy tunnels one goes, and a single busy one stays', () => {
  const since = new WeakMap<{ movedBytes: number }, number>();
  assert.equal(chooseToShed([{ movedBytes: 500 }, { movedBytes: 500 }], since, 0.5).length, 1);
  assert.equal(chooseToShed([{ movedBytes: 900 }, { movedBytes: 10 }], since, 0.5).length, 1);
  assert.equal(chooseToShed([{ movedBytes: 900 }], since, 0.5).length, 0);
});

test('only what moved since the last choice counts', () => {
  const since = new WeakMap<{ movedBytes: number }, number>();
  const once = { movedBytes: 1000 };
  const now = { movedBytes: 0 };
  chooseToShed([once, now], since, 0);
  now.movedBytes = 10;
  const other = { movedBytes: 10 };
  assert.deepEqual(chooseToShed([once, now, other], since, 0.5), [now]);
});
