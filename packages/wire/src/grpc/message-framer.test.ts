import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CallError } from './call-error.ts';
import { frameMessage, MessageFramer } from './message-framer.ts';

test('messages come out whole and in order, however the bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 50 }),
      (messages, cuts) => {
        const bytes = Buffer.concat(messages.map(frameMessage));
        const framer = new MessageFramer(40);
        const seen: number[][] = [];
        let at = 0;
        for (let turn = 0; at < bytes.length; turn++) {
          const length = cuts[turn % cuts.length] ?? 1;
          framer.push(bytes.subarray(at, at + length));
          at += length;
          for (let next = framer.next(); next !== undefined; next = framer.next()) seen.push([...next]);
        }
        assert.deepEqual(
          seen,
          messages.map(message => [...message]),
        );
        assert.equal(framer.isEmpty, true);
      },
    ),
    { seed: 7, numRuns: 500 },
  );
});

test('a message beyond the limit is refused by its prefix', () => {
  const framer = new MessageFramer(10);
  framer.push(Uint8Array.of(0, 0, 0, 0, 11));
  assert.throws(
    () => framer.next(),
    (error: unknown) => error instanceof CallError && error.code === 'grpc.too_long',
  );
});

test('a compressed message is refused', () => {
  const framer = new MessageFramer(10);
  framer.push(Uint8Array.of(1, 0, 0, 0, 0));
  assert.throws(
    () => framer.next(),
    (error: unknown) => error instanceof CallError && error.code === 'grpc.protocol',
  );
});
