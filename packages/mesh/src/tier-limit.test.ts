import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitTier } from './tier-limit.ts';

const tier = Array.from({ length: 2000 }, (_, index) => ({ workload: { uid: `cluster//Pod/shop/cart-${index}` } }));

test('a tier within the limit is left alone', () => {
  assert.equal(limitTier(tier, 2000, 'client'), tier);
});

test('a longer one becomes a sample without repetition, the same each time', () => {
  const kept = limitTier(tier, 100, 'client');
  assert.equal(new Set(kept).size, 100);
  assert.deepEqual(
    limitTier(tier.toReversed(), 100, 'client')
      .map(item => item.workload.uid)
      .toSorted(),
    kept.map(item => item.workload.uid).toSorted(),
  );
});

test('many clients together use every endpoint about equally', () => {
  const uses = new Map<unknown, number>();
  for (let client = 0; client < 400; client++) {
    for (const item of limitTier(tier, 100, `cluster//Pod/shop/web-${client}`))
      uses.set(item, (uses.get(item) ?? 0) + 1);
  }
  // 400 clients x 100 of 2000: 20 each. A binomial spread of 4.4 puts all 2000 within 1..45 by a wide margin.
  assert.equal(uses.size, 2000);
  assert.ok(Math.max(...uses.values()) < 45, String(Math.max(...uses.values())));
});
