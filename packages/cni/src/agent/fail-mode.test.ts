import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { type FailMode, FailModeKeeper } from './fail-mode.ts';

function bench(t: TestContext, mode: FailMode) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const world = { ztunnels: 0 };
  const calls: boolean[] = [];
  const setLifted = (isLifted: boolean) => void calls.push(isLifted);
  const keeper = new FailModeKeeper({ ztunnels: () => world.ztunnels, setLifted, log: SILENT_LOG }, mode, 1000);
  return { world, keeper, calls };
}

test('closed: nothing is ever lifted', t => {
  const { keeper, calls } = bench(t, 'closed');
  keeper.update();
  t.mock.timers.tick(100_000);
  assert.deepEqual(calls, []);
});

test('open: lifted after the time without a ztunnel, put back with the first one', t => {
  const { world, keeper, calls } = bench(t, 'open');
  keeper.update();
  t.mock.timers.tick(999);
  assert.deepEqual(calls, []);
  t.mock.timers.tick(1);
  assert.deepEqual(calls, [true]);
  keeper.update();
  world.ztunnels = 1;
  keeper.update();
  assert.deepEqual(calls, [true, false]);
  assert.equal(keeper.isLifted, false);
});

test('open: a ztunnel that is replaced in time lifts nothing, however often others go', t => {
  const { world, keeper, calls } = bench(t, 'open');
  keeper.update();
  t.mock.timers.tick(900);
  keeper.update();
  world.ztunnels = 1;
  keeper.update();
  t.mock.timers.tick(5000);
  world.ztunnels = 0;
  keeper.update();
  t.mock.timers.tick(900);
  keeper.close();
  t.mock.timers.tick(5000);
  assert.deepEqual(calls, []);
});
