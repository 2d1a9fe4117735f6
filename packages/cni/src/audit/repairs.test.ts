import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { Repairs } from './repairs.ts';

const WEB = { uid: 'u1', name: 'shop/web' };

function bench(outcome: () => Promise<void> = async () => {}) {
  const state = { clock: 0, calls: [] as string[], done: 0 };
  const act =
    (name: string) =>
    async (uid = 'node') => {
      state.calls.push(`${name} ${uid}`);
      await outcome();
    };
  const repairs = new Repairs({
    subject: { enrolAgain: act('enrol'), removeLeftovers: act('remove'), repairHost: act('host') },
    log: SILENT_LOG,
    nowMs: () => state.clock,
    onDone: () => state.done++,
  });
  return { state, repairs };
}

test('each action does its own, and the end of it is told', async () => {
  const { state, repairs } = bench();
  assert.ok(repairs.begin(WEB, 'enrol'));
  assert.ok(repairs.begin({ uid: 'u2', name: 'plain/x' }, 'remove'));
  assert.ok(repairs.begin({ uid: undefined, name: 'node' }, 'host'));
  assert.ok(repairs.isRunning(WEB));
  await repairs.idle();
  assert.deepEqual(state.calls, ['enrol u1', 'remove u2', 'host node']);
  assert.deepEqual([state.done, repairs.counters.done, repairs.isRunning(WEB)], [3, 3, false]);
});

test('the first is at once, and each further one of a pod waits twice as long, a minute at most', async () => {
  const { state, repairs } = bench();
  const begunAt: number[] = [];
  for (; state.clock < 250_000; state.clock += 500) {
    if (!repairs.begin(WEB, 'enrol')) continue;
    begunAt.push(state.clock);
    await repairs.idle();
  }
  assert.deepEqual(begunAt, [0, 1_000, 3_000, 7_000, 15_000, 31_000, 63_000, 123_000, 183_000, 243_000]);
});

test('when one was refused as too soon, it is known when its time comes', async () => {
  const { state, repairs } = bench();
  repairs.begin(WEB, 'enrol');
  await repairs.idle();
  assert.equal(repairs.waitingUntil(WEB), Infinity);
  assert.equal(repairs.begin(WEB, 'enrol'), false);
  assert.equal(repairs.waitingUntil(WEB), 1_000);
  repairs.settle(WEB);
  assert.equal(repairs.waitingUntil(WEB), Infinity);
  state.clock = 300_000;
  repairs.prune(new Set(['u1']));
  assert.ok(repairs.begin(WEB, 'enrol'), 'five minutes later everything is forgotten');
  await repairs.idle();
});

test('somebody who keeps undoing them is told of after five', async () => {
  const { state, repairs } = bench();
  for (let i = 0; i < 5; i++) {
    assert.equal(repairs.remark(WEB), undefined);
    state.clock += 20_000;
    assert.ok(repairs.begin(WEB, 'enrol'));
    await repairs.idle();
  }
  assert.match(repairs.remark(WEB) ?? '', /^repaired 5 times in 5 min: something keeps undoing it$/);
});

test('one that fails says why until one succeeds, and not more than eight run at once', async () => {
  const failing = bench(async () => Promise.reject(new Error('no way in')));
  failing.repairs.begin(WEB, 'enrol');
  await failing.repairs.idle();
  assert.equal(failing.repairs.remark(WEB), 'the repair failed: no way in');
  assert.deepEqual(failing.repairs.counters, { done: 0, failed: 1 });

  const { promise, resolve } = Promise.withResolvers<void>();
  const slow = bench(async () => promise);
  const begun = Array.from({ length: 12 }, (_, i) => slow.repairs.begin({ uid: `u${i}`, name: `shop/${i}` }, 'enrol'));
  assert.equal(begun.filter(Boolean).length, 8);
  resolve();
  await slow.repairs.idle();
});
