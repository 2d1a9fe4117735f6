import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { messagePrefix, MessageReader } from './framing.ts';
import { CallError } from './grpc/call-error.ts';
import { refuseFrame as refuseByClient } from './grpc/grpc-call.ts';
import { refuseFrame as refuseByServer } from './grpc-server/call.ts';
import { GrpcError } from './grpc-server/status.ts';

test('messages come out whole, however their bytes were cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }),
      (bodies, cuts) => {
        const stream = Buffer.concat(bodies.map(body => Buffer.concat([messagePrefix(body.length), body])));
        const reader = new MessageReader(40, refuseByServer);
        const found: Buffer[] = [];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const end = at + (cuts[turn % cuts.length] ?? 1);
          found.push(...reader.push(stream.subarray(at, end)));
          at = end;
        }
        assert.deepEqual(
          found.map(body => [...body]),
          bodies.map(body => [...body]),
        );
        assert.equal(reader.isMidMessage, false);
      },
    ),
    { seed: 43, numRuns: 200 },
  );
});

test('a message over the limit is refused as soon as its length is known, by either end in its own words', () => {
  const push = (refuse: typeof refuseByServer | typeof refuseByClient) => () => [
    ...new MessageReader(10, refuse).push(Buffer.from([0, 0, 0, 0, 11])),
  ];
  assert.throws(push(refuseByServer), error => error instanceof GrpcError && error.code === 'resource_exhausted');
  assert.throws(push(refuseByClient), error => error instanceof CallError && error.code === 'grpc.too_long');
});

test('a compressed message is refused', () => {
  const push = (refuse: typeof refuseByServer | typeof refuseByClient) => () => [
    ...new MessageReader(10, refuse).push(Buffer.from([1, 0, 0, 0, 0])),
  ];
  assert.throws(push(refuseByServer), error => error instanceof GrpcError && error.code === 'unimplemented');
  assert.throws(push(refuseByClient), error => error instanceof CallError && error.code === 'grpc.protocol');
});

test('nothing of the pieces that a message came in is kept, so small ones cost no more than their bytes', () => {
  const reader = new MessageReader(1_000, refuseByServer);
  const body = Buffer.from(Array.from({ length: 700 }, (_, index) => index % 251));
  const prefix = Buffer.from([0, 0, 0, 700 >> 8, 700 & 0xff]);
  const whole: Buffer[] = [];
  for (const byte of Buffer.concat([prefix, body])) {
    const piece = Buffer.from([byte]);
    for (const each of reader.push(piece)) whole.push(Buffer.from(each));
    piece.fill(0xff);
  }
  assert.deepEqual(whole, [body]);
  assert.equal(reader.isMidMessage, false);
});
