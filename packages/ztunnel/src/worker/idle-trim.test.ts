import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Engine, Timers } from '@ambit/proxy';
import { IdleTrim } from './idle-trim.ts';

/** Lets five-second periods pass with these numbers of connections; returns how often memory was given back. */
function run(counts: readonly number[]): { trims: number; timers: number } {
  const timers = new Timers();
  const engine = { timers, nowMs: 0 };
  let count = 0;
  let trims = 0;
  const trim = new IdleTrim(
    engine as unknown as Engine,
    () => count,
    () => trims++,
  );
  trim.watch();
  for (const next of counts) {
    count = next;
    engine.nowMs += 5000;
    timers.fire(engine.nowMs);
  }
  return { trims, timers: timers.size };
}

test('memory is given back once, when a crowd has left for good', () => {
  assert.deepEqual(run([5000, 5000, 10, 10, 10, 10]), { trims: 1, timers: 1 });
  assert.deepEqual(run([5000, 0, 0, 0, 0]), { trims: 1, timers: 0 });
});

test('small falls, short dips and steady loads do nothing', () => {
  assert.equal(run([400, 0, 0, 0]).trims, 0);
  assert.equal(run([5000, 10, 5000, 10, 5000]).trims, 0);
  assert.equal(run([5000, 3000, 3000, 3000]).trims, 0);
});

test('an idle worker is not woken', () => {
  assert.equal(run([10, 0]).timers, 0);
});
