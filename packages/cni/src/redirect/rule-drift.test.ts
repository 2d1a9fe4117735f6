import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ruleDrift } from './rule-drift.ts';

const seven = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
const told = (actual: readonly string[]) => ruleDrift('out', seven, actual).map(({ what }) => what);

test('equal rules are no drift', () => {
  assert.deepEqual(told([...seven]), []);
});

test('a missing rule is named by its number', () => {
  assert.deepEqual(told(['a', 'b', 'd', 'e', 'f', 'g']), ['rule 3 of 7 in out is missing']);
  assert.deepEqual(told(['a', 'e', 'f', 'g']), ['rules 2 to 4 of 7 in out are missing']);
  assert.deepEqual(told(['b', 'c', 'd', 'e', 'f']), ['rule 1 of 7 in out is missing', 'rule 7 of 7 in out is missing']);
});

test('an extra rule is placed', () => {
  assert.deepEqual(told(['x', ...seven]), ['an extra rule before rule 1 of 7 in out']);
  assert.deepEqual(told(['a', 'b', 'x', 'y', 'c', 'd', 'e', 'f', 'g']), ['2 extra rules before rule 3 of 7 in out']);
  assert.deepEqual(told([...seven, 'x']), ['an extra rule at the end of out']);
});

test('a rule that reads otherwise was changed, not removed and added', () => {
  assert.deepEqual(told(['a', 'b', 'x', 'd', 'e', 'f', 'g']), ['rule 3 of 7 in out is changed']);
  assert.deepEqual(told(['a', 'x', 'y', 'd', 'z', 'e', 'f', 'g']), [
    'rules 2 to 3 of 7 in out are changed',
    'an extra rule before rule 5 of 7 in out',
  ]);
});

test('the same rules in another order, none, and far too many are told as such', () => {
  assert.deepEqual(told(seven.toReversed()), ['the rules in out are in another order']);
  assert.deepEqual(told([]), ['out is empty instead of 7 rules']);
  assert.deepEqual(told(Array.from({ length: 5000 }, () => 'a')), ['out has 5000 rules instead of 7']);
});

test('many differences are told in a bounded number of sentences', () => {
  const thirty = Array.from({ length: 30 }, (_, i) => `rule ${i}`);
  const every = ruleDrift(
    'out',
    thirty,
    thirty.filter((_, i) => i % 2 === 0),
  );
  assert.equal(every.length, 5);
  assert.equal(every.at(-1)?.what, 'out differs in 11 more places');
});

test('lists are told to differ exactly when they do', () => {
  const rules = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 9 });
  fc.assert(
    fc.property(rules, rules, (expected, actual) => {
      const isEqual = JSON.stringify(expected) === JSON.stringify(actual);
      const drift = ruleDrift('out', expected, actual);
      assert.equal(drift.length === 0, isEqual);
      assert.ok(drift.length <= 5);
    }),
    { seed: 52, numRuns: 500 },
  );
});
