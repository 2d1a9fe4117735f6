import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Errno } from './errno.ts';
import { EventFd } from './event-fd.ts';
import { monotonicMs } from './monotonic.ts';
import { openFdCount, openFileLimit, setOpenFileLimitToMax } from './resources.ts';

test('the file limit is the one the kernel shows, and can be raised to the hard one', () => {
  const shown = () => /Max open files\s+(\S+)\s+(\S+)/.exec(readFileSync('/proc/self/limits', 'utf8'));
  const limit = openFileLimit();
  assert.equal(String(limit.soft), shown()?.[1]);
  assert.equal(String(limit.hard), shown()?.[2]);
  const raised = setOpenFileLimitToMax();
  assert.equal(raised.soft, raised.hard);
  assert.equal(String(raised.soft), shown()?.[1]);
});

test('openFdCount follows opening and closing', () => {
  const before = openFdCount();
  const event = EventFd.create();
  assert.equal(openFdCount(), before + 1);
  event.close();
  assert.equal(openFdCount(), before);
});

test('our errno numbers are those of this system', () => {
  const known: Readonly<Record<string, number>> = constants.errno;
  for (const [name, value] of Object.entries(Errno)) {
    // EHOSTDOWN and its like are missing in Node's table.
    if (known[name] !== undefined) assert.equal(value, known[name], name);
  }
});

test('the clock is the same in every thread', async () => {
  const source = JSON.stringify(new URL('./monotonic.ts', import.meta.url).href);
  const code = `import { parentPort } from 'node:worker_threads';
    const { monotonicMs } = await import(${source}); parentPort.postMessage(monotonicMs());`;
  const before = monotonicMs();
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  const inWorker = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  const after = monotonicMs();
  assert.ok(before < inWorker && inWorker < after, `${before} < ${inWorker} < ${after}`);
});
