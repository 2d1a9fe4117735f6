// Wrong usage is refused with status 2 and the way out, before any ztunnel is asked: none listens here.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLAIN } from '../render/style.ts';
import type { Screen } from '../screen.ts';
import { findings } from './findings.ts';
import { stat } from './stat.ts';
import { tap } from './tap.ts';
import { top } from './top.ts';
import { why } from './why.ts';

const ztunnel = ['http://127.0.0.1:1'];
const TRAFFIC = { ztunnel, by: 'edge', sort: 'rate' };

async function refused(command: (screen: Screen) => Promise<number>): Promise<string> {
  let said = '';
  const output = {
    style: PLAIN,
    answer: () => undefined,
    remark: (text: string) => {
      said += text;
    },
  };
  const status = await command({ output, isTerminal: false, width: () => 80, height: () => 24 });
  return `${status} ${said}`;
}

test('what cannot be is named beside what can', async () => {
  const stats = async (more: object) => refused(async screen => stat({ ...TRAFFIC, output: 'table', ...more }, screen));
  assert.match(
    await stats({ by: 'workloat' }),
    /^2 error: --by cannot be "workloat".*\n {2}next +did you mean workload\?/,
  );
  assert.match(await stats({ window: '90s' }), /^2 .*\n {2}next +whole minutes/);
  assert.match(await stats({ window: '15m' }), /^2 /);
  assert.match(await stats({ interval: 'soon' }), /^2 error: --interval/);
  assert.match(await stats({ interval: '2s', window: '5m' }), /^2 .*exclude each other/);
  assert.match(await refused(async screen => top({ ...TRAFFIC, sort: 'size' }, screen)), /^2 error: --sort/);
  const taps = async (more: object) => refused(async screen => tap({ ztunnel, output: 'table', ...more }, screen));
  assert.match(await taps({ count: '0' }), /^2 error: --count/);
  assert.match(await taps({ for: 'ever' }), /^2 error: --for/);
  assert.match(await taps({ to: '' }), /^2 error: --to is empty/);
  assert.match(await refused(async screen => findings({ ztunnel, output: 'xml' }, screen)), /^2 error: --output/);
  assert.match(await refused(async screen => why('a', 'b', { ztunnel, output: 'xml' }, screen)), /^2 error: --output/);
});

test('without any ztunnel the status is 3, and the way there is said', async () => {
  for (const command of [
    async (screen: Screen) => stat({ ...TRAFFIC, output: 'table' }, screen),
    async (screen: Screen) => top(TRAFFIC, screen),
    async (screen: Screen) => tap({ ztunnel, output: 'table' }, screen),
    async (screen: Screen) => findings({ ztunnel, output: 'table' }, screen),
  ]) {
    assert.match(
      await refused(command),
      /^3 error: cannot reach http:\/\/127\.0\.0\.1:1.*\[cli\.unreachable\]\n {2}next/,
    );
  }
});
