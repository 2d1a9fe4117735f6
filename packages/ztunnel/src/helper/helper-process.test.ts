import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { HelperProcess } from './helper-process.ts';

const SERVE = new URL('./serve-helper.ts', import.meta.url).href;

async function withHelper(deadlineMs: number, run: (helper: HelperProcess) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-helper-'));
  const entry = join(directory, 'child.mjs');
  await writeFile(
    entry,
    `import { serveHelper } from '${SERVE}';
     serveHelper('identity.unavailable', async payload => {
       if (payload === 'fail') throw new Error('as asked');
       if (payload === 'die') process.exit(3);
       if (payload === 'hang') await new Promise(() => {});
       return { pid: process.pid, map: new Map([[payload, 1]]) };
     });`,
  );
  const options = { entry: pathToFileURL(entry), idleMs: 50, deadlineMs, failureCode: 'identity.unavailable' as const };
  const helper = new HelperProcess(options);
  try {
    await run(helper);
  } finally {
    helper.close();
    await rm(directory, { recursive: true });
  }
}

function pidOf(answer: unknown): number {
  assert.ok(typeof answer === 'object' && answer !== null && 'pid' in answer && typeof answer.pid === 'number');
  return answer.pid;
}

test('answers, keeps maps, shares one child, and carries errors with their code', () =>
  withHelper(20_000, async helper => {
    assert.equal(helper.isRunning, false);
    const [a, b] = await Promise.all([helper.request('a'), helper.request('b')]);
    assert.equal(pidOf(a), pidOf(b));
    assert.ok(typeof a === 'object' && a !== null && 'map' in a && a.map instanceof Map && a.map.get('a') === 1);
    await assert.rejects(helper.request('fail'), { code: 'identity.unavailable', message: 'as asked' });
  }));

test('a child that dies fails its requests, and the next request gets a new child', () =>
  withHelper(20_000, async helper => {
    const first = pidOf(await helper.request('a'));
    await assert.rejects(helper.request('die'), { code: 'identity.unavailable', message: /status 3/ });
    assert.notEqual(pidOf(await helper.request('a')), first);
  }));

test('a child that hangs is killed at the deadline', () =>
  withHelper(1500, async helper => {
    const pid = pidOf(await helper.request('a'));
    await assert.rejects(helper.request('hang'), { code: 'identity.unavailable', message: /no answer/ });
    assert.notEqual(pidOf(await helper.request('a')), pid);
  }));
