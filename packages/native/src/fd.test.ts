import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { closeRegistered, openFdCount } from './index.ts';

test('what a dead thread had open can be closed, and what it gave away stays open', async () => {
  const shared = new SharedArrayBuffer(4096);
  // The first worker of a process makes the runtime open descriptors of its own that stay.
  await once(new Worker('', { eval: true }), 'exit');
  const before = openFdCount();
  const worker = new Worker(new URL('../test/dying-thread.ts', import.meta.url), { workerData: shared });
  const ended = once(worker, 'exit').catch(() => {});
  const [error] = (await once(worker, 'error')) as [Error];
  assert.match(error.message, /dies with 2 eventfds/);
  await ended;
  assert.equal(closeRegistered(shared), 3);
  assert.equal(openFdCount(), before + 1, 'the one that was given away');
  assert.equal(closeRegistered(shared), 0, 'nothing is closed twice');
});
