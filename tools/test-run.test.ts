// The reporter and the sum, on real runs of Node's test runner over small files made for the purpose.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Tally } from './test-tally.ts';

const folder = mkdtempSync(join(tmpdir(), 'ambit-reporter-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs one test file under our reporter; returns what was printed and the sum of it. */
function run(name: string, source: string): { printed: string; tally: Tally } {
  const file = join(folder, `${name}.test.mjs`);
  const facts = join(folder, `${name}.jsonl`);
  writeFileSync(file, `import assert from 'node:assert';\nimport { describe, test } from 'node:test';\n${source}`);
  const reporter = new URL('test-reporter.mjs', import.meta.url).href;
  const args = ['--test', `--test-reporter=${reporter}`, '--test-reporter-destination=stdout', file];
  const env = { ...process.env, AMBIT_TEST_TALLY: facts, NO_COLOR: '1' };
  // The runner refuses to start inside a runner that it takes for its parent.
  const { status, stdout } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...env, NODE_TEST_CONTEXT: undefined },
  });
  const tally = new Tally();
  tally.addRun(facts, status ?? 1);
  return { printed: stdout, tally };
}

test('a good file is one line and the summary', () => {
  const { printed, tally } = run('good', `test('a', () => {}); describe('d', () => test('b', () => {}));`);
  assert.match(printed, /^ {2}ok {5}\S*good\.test\.mjs +2 passed/);
  assert.match(printed, /^ℹ pass 2$/m);
  assert.doesNotMatch(printed, /✔/);
  assert.equal(tally.text(), '\n2 passed, 0 failed, 0 skipped\n');
});

test('a failure is shown with its reason, nested or not', () => {
  const source = `test('top', () => assert.equal(1, 2)); describe('outer', () => test('inner', () => { throw new Error('deep') }));`;
  const { printed, tally } = run('bad', source);
  assert.match(printed, /FAILED \S*bad\.test\.mjs +0 passed, 2 failed/);
  assert.match(printed, /✖ top/);
  assert.match(printed, /1 == 2/);
  assert.match(printed, /✖ inner/);
  assert.match(printed, /deep/);
  assert.equal(tally.failed, 2);
});

test('skips are listed with their reasons', () => {
  const { tally } = run(
    'skips',
    `test('later', { skip: 'no peer' }, () => {}); test('b', t => t.skip('not root')); test('c', () => {});`,
  );
  assert.match(
    tally.text(),
    /^\nskipped, and why:\n {2}\S+ {2}later\n {4}no peer\n {2}\S+ {2}b\n {4}not root\n\n1 passed, 0 failed, 2 skipped\n$/,
  );
});

test('a file that does not load has failed', () => {
  assert.equal(run('broken', `import './not-there.mjs';`).tally.failed, 1);
});

test('a run that ends without counts has failed', () => {
  const tally = new Tally();
  tally.addRun(join(folder, 'never-written.jsonl'), 0);
  assert.equal(tally.failed, 1);
});

test('a run with a bad exit status has failed even if it counted none', () => {
  const facts = join(folder, 'odd.jsonl');
  writeFileSync(facts, '{"kind":"counts","passed":3,"failed":0,"cancelled":0,"skipped":0,"todo":0}\n');
  const tally = new Tally();
  tally.addRun(facts, 7);
  assert.equal(tally.failed, 1);
});
