import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type JsonObject, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { DeltaDiscoveryRequestSchema } from '../gen/discovery_pb.ts';
import { decodeDeltaRequest } from './messages.ts';
import { MAX_NAME_BYTES, MAX_REQUEST_NAMES } from './request-bounds.ts';
import { GrpcError } from './status.ts';

const names = fc.array(fc.string({ unit: 'binary', maxLength: 40 }), { maxLength: 5 });
const request = fc.record({
  typeUrl: fc.string({ maxLength: 40 }),
  resourceNamesSubscribe: names,
  resourceNamesUnsubscribe: names,
  initialResourceVersions: fc.dictionary(fc.string({ maxLength: 40 }), fc.string({ maxLength: 40 })),
  responseNonce: fc.string({ maxLength: 40 }),
  errorDetail: fc.option(fc.record({ code: fc.integer({ min: 0, max: 16 }), message: fc.string() }), {
    nil: undefined,
  }),
  node: fc.option(
    fc.record({ id: fc.string(), metadata: fc.constant<JsonObject>({ NAMESPACE: 'a', list: [1, 'x'] }) }),
    {
      nil: undefined,
    },
  ),
});

function refusal(bytes: Uint8Array): string {
  try {
    decodeDeltaRequest(bytes);
    return 'taken';
  } catch (error) {
    assert.ok(error instanceof GrpcError);
    return error.code;
  }
}

test('every request within the bounds is taken as it is', () => {
  fc.assert(
    fc.property(request, init => {
      const { node, errorDetail, ...rest } = init;
      const message = create(DeltaDiscoveryRequestSchema, {
        ...rest,
        ...(node === undefined ? {} : { node }),
        ...(errorDetail === undefined ? {} : { errorDetail }),
      });
      const bytes = toBinary(DeltaDiscoveryRequestSchema, message);
      assert.deepEqual(toBinary(DeltaDiscoveryRequestSchema, decodeDeltaRequest(bytes)), bytes);
    }),
    { seed: 77, numRuns: 200 },
  );
});

test('too many names of no length at all, in whichever field, are refused before they are objects', () => {
  for (const field of [3, 4, 5]) {
    const one = Buffer.from([(field << 3) | 2, 0]);
    const many = Buffer.alloc(2 * (MAX_REQUEST_NAMES + 1), one);
    assert.equal(refusal(many), 'resource_exhausted', `field ${field}`);
  }
  const mixed = Buffer.concat(
    [3, 4, 5].map(field => Buffer.alloc(MAX_REQUEST_NAMES, Buffer.from([(field << 3) | 2, 0]))),
  );
  assert.equal(refusal(mixed), 'resource_exhausted');
});

test('a name, type or nonce that is longer than any is refused', () => {
  const long = 'x'.repeat(MAX_NAME_BYTES + 1);
  for (const init of [
    { typeUrl: long },
    { responseNonce: long },
    { resourceNamesSubscribe: [long] },
    { resourceNamesUnsubscribe: [long] },
    { initialResourceVersions: { [long]: long } },
    { node: { id: 'x'.repeat(2 ** 20 + 1) } },
    { errorDetail: { message: 'x'.repeat(2 ** 20 + 1) } },
  ]) {
    const bytes = toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, init));
    assert.equal(refusal(bytes), 'resource_exhausted', Object.keys(init).join());
  }
});

test('what a decoder might read otherwise than we do is refused, so that nothing hides behind it', () => {
  const hidden = Buffer.alloc(2 * (MAX_REQUEST_NAMES + 1), Buffer.from([0x1a, 0]));
  for (const [what, bytes] of Object.entries({
    'a known field as a number': [0x18, 0],
    'a known field as eight bytes': [0x19, 0, 0, 0, 0, 0, 0, 0, 0],
    'a group': [0x7b, 0x7c],
    'a number of eleven bytes': [0x78, ...Buffer.alloc(10, 0x80), 0],
    'a wire type that is none': [0x7e],
    'a cut tag': [0x80],
    'a length over the end': [0x7a, 0x7f],
  })) {
    assert.equal(refusal(Buffer.from(bytes)), 'invalid_argument', what);
    // What is cut is whole with more behind it.
    if (!/cut|over/.test(what)) assert.notEqual(refusal(Buffer.concat([Buffer.from(bytes), hidden])), 'taken', what);
  }
  // A length or a tag written with more bytes than it needs is what it is.
  assert.equal(refusal(Buffer.from([0x92, 0x80, 0x80, 0x80, 0x00, 0x81, 0x00, 0x78])), 'taken');
});

test('arbitrary bytes are taken or refused, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
      assert.ok(['taken', 'invalid_argument', 'resource_exhausted'].includes(refusal(bytes)));
    }),
    { seed: 78, numRuns: 2_000 },
  );
});

test('nesting of any depth is refused or taken, and ends nothing', () => {
  let value: Buffer = Buffer.from([0x08, 0]);
  const wrap = (tag: number, inner: Buffer): Buffer => {
    const length = [];
    for (let rest = inner.length; ; rest >>>= 7) {
      length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
      if (rest <= 0x7f) break;
    }
    return Buffer.concat([Buffer.from([tag, ...length]), inner]);
  };
  // Value.list_value of Value.list_value, 4 000 deep, as metadata of the node.
  for (let depth = 0; depth < 4_000; depth++) value = wrap(0x32, wrap(0x0a, value));
  const metadata = wrap(0x0a, Buffer.concat([wrap(0x0a, Buffer.from('k')), wrap(0x12, value)]));
  assert.notEqual(refusal(wrap(0x0a, wrap(0x12, metadata))), 'internal');
});
