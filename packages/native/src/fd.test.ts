import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { closeRegistered } from './index.ts';

const what = (number: number): string => readlinkSync(`/proc/self/fd/${number}`);

test('what a dead thread had open can be closed, and what it gave away stays open', async () => {
  const shared = new SharedArrayBuffer(4096);
  const worker = new Worker(new URL('../test/dying-thread.ts', import.meta.url), { workerData: shared });
  const ended = new Promise(resolve => worker.once('exit', resolve));
  const died = once(worker, 'error');
  // Its death may be told before its words, which `once` would take for their absence.
  const said = new Promise<{ kept: number[]; given: number }>(resolve => worker.once('message', resolve));
  const { kept, given } = await said;
  await assert.doesNotReject(died);
  await ended;
  for (const number of kept) assert.match(what(number), /eventfd|socket/, 'a dead thread leaves its descriptors open');
  assert.equal(closeRegistered(shared), kept.length);
  for (const number of kept) assert.throws(() => what(number), { code: 'ENOENT' });
  assert.match(what(given), /eventfd/);
  closeSync(given);
  assert.equal(closeRegistered(shared), 0, 'nothing is closed twice');
});
