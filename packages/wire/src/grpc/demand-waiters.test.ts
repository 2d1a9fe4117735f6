import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DemandWaiters } from './demand-waiters.ts';

function withTimers(maxNames = 10) {
  const timers = new Set<() => void>();
  const after = (_ms: number, run: () => void) => {
    timers.add(run);
    return () => void timers.delete(run);
  };
  return { timers, waiters: new DemandWaiters(after, { timeoutMs: 5000, maxNames }) };
}

const resource = (name: string, aliases: string[] = []) => ({
  name,
  aliases,
  version: '',
  typeUrl: '',
  value: new Uint8Array(),
});

test('waiters for one name share one wait, and all are woken', async () => {
  const { waiters, timers } = withTimers();
  const results = Promise.all([waiters.wait('a'), waiters.wait('a')]);
  assert.equal(timers.size, 1);
  waiters.onUpdate({ typeUrl: '', resources: [resource('a')], removed: [] });
  assert.deepEqual(await results, ['answered', 'answered']);
  assert.equal(timers.size, 0);
});

test('an alias and a removal wake as well', async () => {
  const { waiters } = withTimers();
  const results = Promise.all([waiters.wait('/10.0.0.1'), waiters.wait('gone')]);
  waiters.onUpdate({ typeUrl: '', resources: [resource('uid', ['/10.0.0.1'])], removed: ['gone'] });
  assert.deepEqual(await results, ['answered', 'answered']);
});

test('a wait has an end', async () => {
  const { waiters, timers } = withTimers();
  const result = waiters.wait('a');
  for (const run of timers) run();
  assert.equal(await result, 'late');
  assert.equal(waiters.size, 0);
});

test('the number of waits has a limit', async () => {
  const { waiters } = withTimers(1);
  const first = waiters.wait('a');
  assert.equal(await waiters.wait('b'), 'full');
  waiters.stop();
  assert.equal(await first, 'late');
});
