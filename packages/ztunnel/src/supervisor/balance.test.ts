import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Balance } from './balance.ts';

/** Runs periods of one second with the given loads (share of a core by worker) and returns the moves. */
function run(periods: readonly (readonly number[])[]): unknown[] {
  const balance = new Balance();
  const used = new Map<number, number>();
  balance.next(new Map(periods[0]?.map((_, worker) => [worker, 0])), 1000);
  return periods.map(loads => {
    loads.forEach((load, worker) => used.set(worker, (used.get(worker) ?? 0) + load * 1e6));
    return balance.next(used, 1000);
  });
}

test('a lasting gap moves half of it, after patience, and then rests', () => {
  const moves = run([
    [1, 0],
    [1, 0],
    [1, 0],
    [1, 0],
    [1, 0],
    [1, 0],
    [1, 0],
  ]);
  assert.deepEqual(moves[0], undefined);
  assert.deepEqual(moves[1], { from: 0, to: 1, share: 0.5 });
  assert.deepEqual(moves.slice(2, 6), [undefined, undefined, undefined, undefined]);
  assert.deepEqual(moves[6], { from: 0, to: 1, share: 0.5 });
});

test('a short burst, an even load and an idle process move nothing', () => {
  for (const periods of [
    [
      [1, 0],
      [0.2, 0.2],
      [1, 0],
      [0.1, 0],
    ],
    [
      [1, 1],
      [1, 0.9],
      [0.9, 1],
    ],
    [
      [0.5, 0],
      [0.5, 0],
      [0.5, 0],
    ],
    [[1], [1], [1]],
  ]) {
    assert.ok(run(periods).every(move => move === undefined));
  }
});
