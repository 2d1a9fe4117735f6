import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LocalError } from './errors.ts';
import { parsePublish, parseService, readWorkload, readWorkloadRequest } from './workload.ts';

const REQUEST = {
  name: 'cart',
  namespace: 'shop',
  serviceAccount: 'cart',
  isMember: true,
  publish: [{ ip: '127.0.0.1', hostPort: 8080, port: 80 }],
  services: [{ name: 'cart', port: 80, targetPort: 8080 }],
  command: ['node', 'server.js'],
  pid: 2,
  runnerPid: 3,
};

test('published ports are read as written, on loopback unless an address is named', () => {
  assert.deepEqual(parsePublish('8080'), { ip: '127.0.0.1', hostPort: 8080, port: 8080 });
  assert.deepEqual(parsePublish('8080:80'), { ip: '127.0.0.1', hostPort: 8080, port: 80 });
  assert.deepEqual(parsePublish('0.0.0.0:8080:80'), { ip: '0.0.0.0', hostPort: 8080, port: 80 });
  assert.deepEqual(parsePublish('[::1]:8080:80'), { ip: '::1', hostPort: 8080, port: 80 });
  for (const text of ['', '0', '65536', '80:', ':80', 'a:80', '1.2.3:80:80', '::1:80:80', '300.1.1.1:80:80', '1:2:3']) {
    assert.throws(() => parsePublish(text), { code: 'local.argument' }, text);
  }
});

test('services are read as written, the target the port unless named', () => {
  assert.deepEqual(parseService('cart:80'), { name: 'cart', port: 80, targetPort: 80 });
  assert.deepEqual(parseService('cart:80:8080'), { name: 'cart', port: 80, targetPort: 8080 });
  for (const text of ['', 'cart', ':80', 'Cart:80', 'cart:0', 'cart:80:x', 'cart:80:81:82']) {
    assert.throws(() => parseService(text), { code: 'local.argument' }, text);
  }
});

test('a request is taken whole or refused by field', () => {
  assert.deepEqual(readWorkloadRequest(REQUEST), {
    ...REQUEST,
    publisher: 'agent',
    version: undefined,
    logPath: undefined,
  });
  assert.equal(readWorkloadRequest({ ...REQUEST, publisher: 'runner' }).publisher, 'runner');
  const wrong: Record<string, unknown> = {
    name: '../../etc',
    namespace: 'a.b',
    serviceAccount: '',
    pid: 0,
    runnerPid: '3',
    command: 'node',
    publish: [{ ip: 'localhost', hostPort: 1, port: 1 }],
    services: [{}],
    logPath: 'relative',
  };
  for (const [field, value] of Object.entries(wrong)) {
    assert.throws(() => readWorkloadRequest({ ...REQUEST, [field]: value }), { code: 'local.argument' }, field);
  }
});

test('whatever another process says, it is a workload or a refusal', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.jsonValue(),
        fc.jsonValue().map(value => ({ ...REQUEST, publish: value })),
      ),
      json => {
        for (const read of [readWorkloadRequest, readWorkload]) {
          try {
            read(json);
          } catch (error) {
            assert.ok(error instanceof LocalError && error.code === 'local.argument', String(error));
          }
        }
      },
    ),
    { seed: 51, numRuns: 500 },
  );
});
