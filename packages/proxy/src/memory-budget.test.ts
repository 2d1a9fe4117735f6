import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryBudget } from './memory-budget.ts';

test('the budget hands out no more than its hard mark and takes back what was given', () => {
  const shared = MemoryBudget.shared(2);
  const one = new MemoryBudget(1000, shared, 0);
  const two = new MemoryBudget(1000, shared, 1);
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

test('what a dead owner held is free again, and the others keep theirs', () => {
  const shared = MemoryBudget.shared(2);
  const dead = new MemoryBudget(1000, shared, 0);
  const alive = new MemoryBudget(1000, shared, 1);
  assert.ok(dead.take(500));
  dead.takeAnyway(300);
  dead.give(100);
  assert.ok(alive.take(200));
  MemoryBudget.forget(shared, 0);
  assert.equal(alive.usedBytes, 200);
  MemoryBudget.forget(shared, 0);
  assert.equal(alive.usedBytes, 200, 'nothing is freed twice');
});
