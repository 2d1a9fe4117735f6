import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Timers, type Timer } from './timers.ts';

test('timers fire in order of their due time, cancelled ones never', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ due: fc.integer({ min: 0, max: 1000 }), cancel: fc.boolean() })), plan => {
      const timers = new Timers();
      const fired: number[] = [];
      const armed: Timer[] = plan.map(({ due }) => timers.at(due, () => fired.push(due)));
      plan.forEach(({ cancel }, index) => {
        if (cancel) timers.cancel(armed[index]);
      });
      const expected = plan.filter(entry => !entry.cancel).map(entry => entry.due);
      assert.equal(timers.size, expected.length);
      for (let now = 0; now <= 1000; now += 250) timers.fire(now);
      assert.deepEqual(
        fired,
        expected.sort((a, b) => a - b),
      );
      assert.equal(timers.size, 0);
      assert.equal(timers.untilNext(0), -1);
    }),
    { seed: 4711, numRuns: 300 },
  );
});

test('a timer armed by a timer waits for the next call', () => {
  const timers = new Timers();
  let runs = 0;
  const again = (): void => {
    runs++;
    timers.at(0, again);
  };
  timers.at(0, again);
  timers.fire(5);
  assert.equal(runs, 1);
  assert.equal(timers.untilNext(5), 0);
});

test('many armed and cancelled timers do not grow the heap', () => {
  const timers = new Timers();
  const keep = timers.at(1e9, () => {});
  for (let i = 0; i < 100_000; i++) timers.cancel(timers.at(1e6, () => {}));
  assert.equal(timers.size, 1);
  timers.cancel(keep);
  assert.equal(timers.untilNext(0), -1);
});

test('a timer cancelled by another one of the same moment does not run and is not counted twice', () => {
  const timers = new Timers();
  const order: string[] = [];
  timers.at(1, () => {
    order.push('first');
    timers.cancel(second);
  });
  const second = timers.at(1, () => order.push('second'));
  timers.fire(1);
  assert.deepEqual(order, ['first']);
  assert.equal(timers.size, 0);
});
