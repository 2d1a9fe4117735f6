import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../fake-clock.ts';
import { Lane } from './lane.ts';

interface Attempt {
  readonly items: readonly number[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function start(): { lane: Lane<number>; clock: FakeClock; attempts: Attempt[]; outcomes: (string | undefined)[] } {
  const clock = new FakeClock();
  const attempts: Attempt[] = [];
  const outcomes: (string | undefined)[] = [];
  const lane = new Lane<number>(
    {
      clock,
      random: () => 0.5,
      send: items => new Promise((resolve, reject) => void attempts.push({ items, resolve, reject })),
      onOutcome: error => void outcomes.push(error?.message),
    },
    { maxItems: 5, batchItems: 3, gatherMs: 100 },
  );
  return { lane, clock, attempts, outcomes };
}

test('items gather for a while, a full batch goes at once, one is under way at a time', async () => {
  const { lane, clock, attempts } = start();
  lane.push(1);
  await clock.advance(99);
  assert.equal(attempts.length, 0);
  await clock.advance(1);
  assert.deepEqual(attempts[0]?.items, [1]);
  for (const item of [2, 3, 4, 5]) lane.push(item);
  await clock.advance(10_000);
  assert.equal(attempts.length, 1);
  attempts[0]?.resolve();
  await clock.advance(0);
  assert.deepEqual(attempts[1]?.items, [2, 3, 4]);
  attempts[1]?.resolve();
  await clock.advance(100);
  assert.deepEqual(attempts[2]?.items, [5]);
  attempts[2]?.resolve();
  await clock.advance(0);
  for (const item of [6, 7, 8]) lane.push(item);
  assert.deepEqual(attempts[3]?.items, [6, 7, 8]);
  assert.deepEqual(lane.stats, { exported: 5, failed: 0, dropped: 0, queued: 0 });
});

test('past the bound items are dropped and counted, after a failure it pauses longer each time', async () => {
  const { lane, clock, attempts, outcomes } = start();
  for (const item of [1, 2, 3, 4, 5, 6, 7, 8, 9]) lane.push(item);
  assert.deepEqual(lane.stats, { exported: 0, failed: 0, dropped: 1, queued: 5 });
  for (const [index, pauseMs] of [1000, 2000, 4000].entries()) {
    attempts[index]?.reject(new Error('away'));
    await clock.advance(pauseMs - 1);
    assert.equal(attempts.length, index + 1);
    for (const item of [1, 2, 3]) lane.push(item);
    await clock.advance(1);
    assert.equal(attempts.length, index + 2);
  }
  attempts[3]?.resolve();
  await clock.advance(0);
  assert.deepEqual(outcomes, ['away', undefined]);
  const { exported, failed, dropped, queued } = lane.stats;
  assert.deepEqual(
    [exported, failed, exported + failed + dropped + queued],
    [3, 9, 9 + 9 - (attempts[4]?.items.length ?? 0)],
  );
});

test('a pause with nothing to send ends idle', async () => {
  const { lane, clock, attempts } = start();
  lane.push(1);
  await clock.advance(100);
  attempts[0]?.reject(new Error('away'));
  await clock.advance(1000);
  assert.equal(clock.nextInMs, undefined);
  lane.push(2);
  await clock.advance(100);
  assert.deepEqual(attempts[1]?.items, [2]);
});

test('a flush waits for what is under way and sends the rest, and gives up at a failure', async () => {
  const { lane, clock, attempts } = start();
  for (const item of [1, 2, 3, 4]) lane.push(item);
  const flushed = lane.flush();
  attempts[0]?.resolve();
  await clock.advance(0);
  assert.deepEqual(attempts[1]?.items, [4]);
  attempts[1]?.reject(new Error('away'));
  await flushed;
  lane.push(5);
  await lane.flush();
  lane.close();
  lane.push(6);
  assert.deepEqual(lane.stats, { exported: 3, failed: 1, dropped: 2, queued: 0 });
  assert.equal(clock.nextInMs, undefined);
});
