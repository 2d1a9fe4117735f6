import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryBudget } from './memory-budget.ts';

test('the budget hands out no more than its hard mark and takes back what was given', () => {
  const shared = new SharedArrayBuffer(4);
  const one = new MemoryBudget(1000, shared);
  const two = new MemoryBudget(1000, shared);
  assert.ok(one.take(700));
  assert.equal(two.isTight, false);
  assert.ok(two.take(100));
  assert.equal(one.isTight, true);
  assert.equal(one.take(201), false);
  assert.equal(two.usedBytes, 800);
  one.give(700);
  two.give(100);
  assert.equal(one.usedBytes, 0);
});
