// What we write by hand is byte for byte what a protobuf library writes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { DeltaDiscoveryResponseSchema, ResourceSchema } from '../gen/discovery_pb.ts';
import { encodeDeltaResponse, encodeResource, encodeResourceEntries } from './messages.ts';

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
