import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Allowance } from './allowance.ts';

const taken = (allowance: Allowance, nowMs: number, wanted: number): number =>
  Array.from({ length: wanted }, () => allowance.take(nowMs)).filter(isTaken => isTaken).length;

test('so many at once, then one each while, and never more than so many', () => {
  const allowance = new Allowance(3, 1000, 5000);
  assert.equal(taken(allowance, 5000, 5), 3);
  assert.equal(taken(allowance, 5999, 1), 0);
  assert.equal(taken(allowance, 6000, 2), 1);
  assert.equal(taken(allowance, 1_000_000, 9), 3);
});

test('a clock that was set back gives nothing', () => {
  const allowance = new Allowance(1, 1000, 5000);
  assert.equal(taken(allowance, 5000, 1), 1);
  assert.equal(taken(allowance, 0, 1), 0);
  assert.equal(taken(allowance, 500, 1), 0);
  assert.equal(taken(allowance, 1000, 1), 1);
});
