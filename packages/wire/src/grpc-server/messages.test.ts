// What we write by hand is byte for byte what a protobuf library writes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { DeltaDiscoveryResponseSchema, ResourceSchema } from '../gen/discovery_pb.ts';
import { MessageReader } from './message-reader.ts';
import { encodeDeltaResponse, encodeResource, encodeResourceEntries } from './messages.ts';
import { GrpcError } from './status.ts';

const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.constant(''), fc.constant('x'.repeat(20_000)));
const resource = fc.record({
  name: text,
  version: text,
  aliases: fc.array(text, { maxLength: 3 }),
  typeUrl: text,
  value: fc.uint8Array({ maxLength: 300 }),
});
const message = ({
  name,
  version,
  aliases,
  typeUrl,
  value,
}: typeof resource extends fc.Arbitrary<infer T> ? T : never) =>
  create(ResourceSchema, { name, version, aliases, resource: { typeUrl, value } });

test('a resource has the bytes of the protobuf library', () => {
  fc.assert(
    fc.property(resource, init => {
      assert.deepEqual(Buffer.from(encodeResource(init)), Buffer.from(toBinary(ResourceSchema, message(init))));
    }),
    { seed: 41, numRuns: 200 },
  );
});

test('a response made of parts has the bytes of the plain message', () => {
  fc.assert(
    fc.property(
      fc.array(resource, { maxLength: 4 }),
      fc.array(text, { maxLength: 3 }),
      text,
      (resources, removed, nonce) => {
        const parts = encodeDeltaResponse({
          systemVersionInfo: nonce,
          typeUrl: 'type',
          nonce,
          removed,
          entries: [encodeResourceEntries(resources.slice(0, 1)), encodeResourceEntries(resources.slice(1))],
        });
        const plain = create(DeltaDiscoveryResponseSchema, {
          systemVersionInfo: nonce,
          typeUrl: 'type',
          nonce,
          removedResources: removed,
          resources: resources.map(message),
        });
        assert.deepEqual(Buffer.concat(parts), Buffer.from(toBinary(DeltaDiscoveryResponseSchema, plain)));
      },
    ),
    { seed: 42, numRuns: 200 },
  );
});

test('messages come out whole, however their bytes were cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 20 }),
      (bodies, cuts) => {
        const stream = Buffer.concat(
          bodies.map(body => {
            const prefix = Buffer.alloc(5);
            prefix.writeUInt32BE(body.length, 1);
            return Buffer.concat([prefix, body]);
          }),
        );
        const reader = new MessageReader(40);
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

test('a message over the limit is refused as soon as its length is known', () => {
  const isRefused = (error: unknown) => error instanceof GrpcError && error.code === 'resource_exhausted';
  assert.throws(() => [...new MessageReader(10).push(Buffer.from([0, 0, 0, 0, 11]))], isRefused);
});

test('nothing of the pieces that a message came in is kept, so small ones cost no more than their bytes', () => {
  const reader = new MessageReader(1_000);
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
