import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { leavesForGood } from './succession.ts';

const NAME = { namespace: 'istio-system', name: 'istio-cni-node' };
const ask = async (
  answer: () => Promise<'stays' | 'ending' | 'elsewhere' | 'absent' | 'unauthorized'>,
  always = false,
) => leavesForGood({ daemonSet: answer }, { alwaysLeaves: always, daemonSet: NAME }, SILENT_LOG);

test('what is installed stays for an agent that follows, and goes when none does', async () => {
  assert.equal(await ask(async () => Promise.resolve('stays')), false);
  for (const state of ['ending', 'elsewhere', 'absent', 'unauthorized'] as const) {
    assert.equal(await ask(async () => Promise.resolve(state)), true, state);
  }
});

test('without an answer it stays, and outside of a cluster, too', async () => {
  let asked = 0;
  const refusing = async () => {
    asked++;
    return Promise.reject(new Error('no route to host'));
  };
  assert.equal(await ask(refusing), false);
  assert.equal(asked, 3);
  assert.equal(await leavesForGood(undefined, { alwaysLeaves: false, daemonSet: NAME }, SILENT_LOG), false);
});

test('nobody is asked when it is to go in any case', async () => {
  assert.equal(await ask(async () => Promise.reject(new Error('asked')), true), true);
});
