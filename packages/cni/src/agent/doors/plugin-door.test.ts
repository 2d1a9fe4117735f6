// The doors for plugins as hostile or clumsy peers find them. What the hooks do is elsewhere; here they only tell that they
// were called, and when they were given up.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import { ownedFdCount, Reactor } from '@ambit/native';
import { askHttp, sendFrame } from '../../../test/agent-socket.ts';
import { somePod } from '../../../test/list-source.ts';
import { encodeCmdAdd, MAX_CMD_ADD_BYTES } from '../../plugin/cmd-add.ts';
import { encodeFrame, MAX_FRAME_BYTES } from '../../plugin/frame.ts';
import type { CniHooks } from '../hooks.ts';
import { PluginDoor } from './plugin-door.ts';

const ADD = encodeCmdAdd({ netnsPath: '/var/run/netns/x', podName: 'p', podNamespace: 'shop', ips: [] });
const FRAME = encodeFrame({
  env: {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c',
    CNI_NETNS: '/var/run/netns/x',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c',
  },
  stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'ambit-cni' }),
});

async function bench(t: TestContext) {
  const fdsBefore = ownedFdCount();
  const runDirectory = await mkdtemp(join(tmpdir(), 'ambit-door-'));
  const entered = Promise.withResolvers<void>();
  const givenUp = Promise.withResolvers<void>();
  const statuses: number[] = [];
  const hooks: CniHooks = {
    lookup: async () => Promise.resolve({ kind: 'member', pod: somePod('p', []) }),
    enrol: async (_pod, _ips, _path, signal) => {
      entered.resolve();
      await new Promise<void>((_, reject) => {
        signal.addEventListener('abort', () => reject(new Error('given up')));
      }).finally(() => givenUp.resolve());
    },
    check: async () => Promise.resolve([]),
    collect: async () => Promise.resolve(),
    notReady: () => undefined,
  };
  const reactor = new Reactor();
  const running = { is: true };
  const polling = (async () => {
    while (running.is) await reactor.pollAsync(-1);
  })();
  const answered = Promise.withResolvers<void>();
  const door = await PluginDoor.open({
    runDirectory,
    reactor,
    hooks,
    log: SILENT_LOG,
    onAnswered: status => {
      statuses.push(status);
      answered.resolve();
    },
  });
  t.after(async () => {
    await door.close();
    running.is = false;
    reactor.close();
    await polling;
    assert.equal(ownedFdCount(), fdsBefore);
    await rm(runDirectory, { recursive: true });
  });
  const at = (name: string) => join(runDirectory, name);
  return { door, at, statuses, entered: entered.promise, givenUp: givenUp.promise, answered: answered.promise };
}

test('a plugin that hangs up ends what is done for it', { timeout: 20_000 }, async t => {
  const { at, entered, givenUp } = await bench(t);
  const socket = connect({ path: at('cni.sock'), allowHalfOpen: true });
  socket.end(FRAME);
  await entered;
  socket.destroy();
  await givenUp;
});

test('Istio’s plugin that hangs up does, too', { timeout: 20_000 }, async t => {
  const { at, entered, givenUp, answered, statuses } = await bench(t);
  const socket = connect(at('pluginevent.sock'));
  socket.write(`POST /cmdadd HTTP/1.1\r\nhost: unix\r\ncontent-length: ${ADD.length}\r\n\r\n${ADD}`);
  await entered;
  socket.destroy();
  await givenUp;
  await answered;
  assert.deepEqual(statuses, [500]);
});

test('a closing door gives up what is under way', { timeout: 20_000 }, async t => {
  const { door, at, entered, givenUp } = await bench(t);
  const answer = sendFrame(at('cni.sock'), FRAME);
  await entered;
  await door.close();
  await givenUp;
  assert.equal((await answer).status, -1, 'no answer, by which the plugin fails');
});

test('frames that are none are answered as an error, too long ones not at all', { timeout: 20_000 }, async t => {
  const { at } = await bench(t);
  const nonsense = await sendFrame(at('cni.sock'), Buffer.from('PATH=/bin\0\0'));
  assert.equal(nonsense.status, 1);
  assert.match(nonsense.stdout, /"code":6,"msg":"ambit: not a request of the plugin/);
  const socket = connect(at('cni.sock'));
  socket.on('error', () => undefined).resume();
  const closed = once(socket, 'close');
  socket.write(Buffer.alloc(MAX_FRAME_BYTES + 1));
  await closed;
});

test('bodies are bounded, other paths and methods are told what is there', { timeout: 20_000 }, async t => {
  const { at, statuses } = await bench(t);
  const large = await askHttp(at('pluginevent.sock'), 'POST', '/cmdadd', ' '.repeat(MAX_CMD_ADD_BYTES + 1));
  assert.equal(large.status, 413);
  assert.equal((await askHttp(at('pluginevent.sock'), 'GET', '/cmdadd')).status, 404);
  assert.equal((await askHttp(at('pluginevent.sock'), 'POST', '/cmdadd', '{}')).status, 400);
  assert.equal((await askHttp(at('log.sock'), 'POST', '/log', 'nonsense')).status, 400);
  assert.equal((await askHttp(at('log.sock'), 'POST', '/elsewhere')).status, 404);
  assert.deepEqual(statuses, [400]);
});
