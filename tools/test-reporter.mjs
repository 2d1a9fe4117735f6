// How a run of tests reads: one line a file, every failure in full, Node's own summary at the end. The events that
// matter for the sum over several runs go to the file named by AMBIT_TEST_TALLY as well (test-tally.ts reads it).

import { appendFileSync } from 'node:fs';
import { relative } from 'node:path';
import { env } from 'node:process';
import { spec } from 'node:test/reporters';
import { duration } from './progress.mjs';

export default async function* report(events) {
  const full = new spec();
  const chunks = [];
  full.on('data', chunk => chunks.push(chunk));
  for await (const event of events) {
    for (const passed of show(event)) full.write(passed);
    // spec transforms in the same turn; what it made of the event is there already.
    yield* chunks.splice(0);
    if (event.type === 'test:summary' && event.data.file !== undefined) yield fileLine(event.data);
    tally(event);
  }
  full.end();
  yield* chunks.splice(0);
}

/** The events that Node's spec reporter gets to see: no passes, and each failure with the start it expects. */
function show(event) {
  const { type, data } = event;
  if (type === 'test:fail') return [{ type: 'test:start', data }, event];
  // The counts of the whole come as diagnostics at level 0; those that tests print themselves are theirs to show.
  const isQuiet = ['test:pass', 'test:start', 'test:complete', 'test:enqueue', 'test:dequeue', 'test:plan'].includes(
    type,
  );
  return isQuiet || (type === 'test:summary' && data.file !== undefined) ? [] : [event];
}

function fileLine({ file, counts, success, duration_ms: ms }) {
  const { passed, skipped, failed, cancelled } = counts;
  const words = [`${passed} passed`];
  if (failed + cancelled > 0) words.push(`${failed + cancelled} failed`);
  if (skipped > 0) words.push(`${skipped} skipped`);
  return `  ${success ? 'ok    ' : 'FAILED'} ${relative('.', file).padEnd(52)} ${words.join(', ').padEnd(22)} ${duration(ms)}\n`;
}

function tally({ type, data }) {
  if (env.AMBIT_TEST_TALLY === undefined) return;
  const put = fact => appendFileSync(env.AMBIT_TEST_TALLY, `${JSON.stringify(fact)}\n`);
  const file = data.file === undefined ? '' : relative('.', data.file);
  if (type === 'test:summary' && data.file === undefined) put({ kind: 'counts', ...data.counts });
  if (type === 'test:pass' && (data.skip !== undefined || data.todo !== undefined)) {
    const reason = [data.skip, data.todo].find(value => typeof value === 'string' && value !== '');
    put({ kind: 'skip', file, name: data.name, reason: reason ?? 'no reason given' });
  }
}
