import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ip, parseIp } from '@ambit/mesh';
import fc from 'fast-check';
import { CniError } from '../errors.ts';
import { decodeCmdAdd, encodeCmdAdd } from './cmd-add.ts';
import { decodeFrame, encodeAnswer, encodeFrame, MAX_ENVIRONMENT_BYTES } from './frame.ts';
import { decodeLogBatch, encodeLogBatch } from './log-batch.ts';
import { MAX_STDIN_BYTES } from './plugin-config.ts';

const SEED = 0x0c41;

function ip(text: string): Ip {
  const parsed = parseIp(text);
  assert.ok(parsed);
  return parsed;
}

test('a frame comes back as the request it was', () => {
  const value = fc.string().filter(text => !text.includes('\0') && text.isWellFormed());
  const name = fc.stringMatching(/^[A-Z]{1,8}$/).map(text => `CNI_${text}`);
  fc.assert(
    fc.property(fc.dictionary(name, value), value, (entries, stdin) => {
      const env = { ...entries };
      assert.deepEqual(decodeFrame(encodeFrame({ env, stdin })), { env, stdin });
    }),
    { seed: SEED },
  );
});

test('a frame of any bytes is a request or refused', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
      try {
        decodeFrame(bytes);
      } catch (error) {
        assert.ok(error instanceof CniError && error.code === 'cni.protocol');
      }
    }),
    { seed: SEED },
  );
});

test('a frame whose environment or configuration is too large is refused', () => {
  assert.throws(() => decodeFrame(Buffer.from(`CNI_ARGS=${'x'.repeat(MAX_ENVIRONMENT_BYTES)}\0\0`)), CniError);
  assert.throws(() => decodeFrame(Buffer.from(`\0${'x'.repeat(MAX_STDIN_BYTES + 1)}`)), CniError);
  assert.equal(decodeFrame(Buffer.from(`\0${'x'.repeat(MAX_STDIN_BYTES)}`)).stdin.length, MAX_STDIN_BYTES);
});

test('a variable that stands twice counts as the first, as for libc', () => {
  assert.deepEqual(decodeFrame(Buffer.from('CNI_A=1\0CNI_A=2\0\0')).env, { CNI_A: '1' });
});

test('an answer has its status first and its end last', () => {
  assert.deepEqual([...encodeAnswer({ status: 1, stdout: '{}' })], [1, 0x7b, 0x7d, 4]);
});

// As Go's encoding/json prints the event of upstream's plugin.
const GO_EVENT =
  '{"Netns":"/var/run/netns/cni-1","PodName":"cart-1","PodNamespace":"shop","IPs":[' +
  '{"Interface":1,"Address":{"IP":"10.1.0.7","Mask":"////AA=="},"Gateway":"10.1.0.1"},' +
  '{"Interface":null,"Address":{"IP":"fd00::7","Mask":"//////////8AAAAAAAAAAA=="},"Gateway":""}]}';

test("reads the event of Istio's plugin", () => {
  assert.deepEqual(decodeCmdAdd(GO_EVENT), {
    netnsPath: '/var/run/netns/cni-1',
    podName: 'cart-1',
    podNamespace: 'shop',
    ips: [ip('10.1.0.7'), ip('fd00::7')],
  });
  assert.deepEqual(decodeCmdAdd('{"Netns":"/n","PodName":"a","PodNamespace":"b","IPs":null}').ips, []);
});

test('an event comes back as it was, with masks that Go can read', () => {
  const event = { netnsPath: '/n', podName: 'a', podNamespace: 'b', ips: [ip('10.1.0.7'), ip('fd00::7')] };
  assert.deepEqual(decodeCmdAdd(encodeCmdAdd(event)), event);
  assert.match(encodeCmdAdd(event), /"Address":\{"IP":"10.1.0.7","Mask":"\/\/\/\/\/w=="\},"Gateway":""/);
});

test('an event that is none is refused', () => {
  const bad = ['', '{', '[]', `${GO_EVENT}x`, '{}', GO_EVENT.replace('cart-1', ''), GO_EVENT.replace('10.1.0.7', 'x')];
  for (const body of bad) assert.throws(() => decodeCmdAdd(body), CniError);
});

test('log records come back with their labels, and what is none is dropped', () => {
  const record = { level: 'warn', message: 'slow', fields: { pod: 'shop/cart-1', attempts: 3 } } as const;
  assert.deepEqual(decodeLogBatch(encodeLogBatch([record], new Date(0))), [record]);
  const time = '"time":"2026-11-24T00:00:00Z"';
  const batch = [
    '{"msg":"no level"}',
    'x',
    7,
    `{"level":"loud",${time},"msg":"x"}`,
    `{"level":"info",${time},"msg":"x"}`,
  ];
  assert.deepEqual(decodeLogBatch(JSON.stringify(batch)), [{ level: 'info', message: 'x', fields: {} }]);
  assert.throws(() => decodeLogBatch('{}'), CniError);
});
