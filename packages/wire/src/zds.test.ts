import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fromBinary } from '@bufbuild/protobuf';
import { WireError, type WireErrorCode } from './errors.ts';
import { WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from './gen/zds_pb.ts';
import {
  decodeAck,
  decodeHello,
  decodeRequest,
  encodeAck,
  encodeHello,
  encodeRequest,
  MAX_ZDS_PACKET_BYTES,
  type WorkloadRequest,
} from './zds.ts';

const SEED = 20261;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Uint8Array => Buffer.from(text, 'hex');
const fails = (code: WireErrorCode) => (error: unknown) => error instanceof WireError && error.code === code;

// Bytes written by hand from the field numbers of the protocol, so that a wrong number in our schema shows.
const VECTORS: readonly (readonly [string, WorkloadRequest])[] = [
  [
    '0a100a0375313212090a016112016e1a0173',
    { kind: 'add', uid: 'u12', info: { name: 'a', namespace: 'n', serviceAccount: 's' } },
  ],
  [
    '0a160a03753132120f0a016112016e1a0173c23e036f6666',
    { kind: 'add', uid: 'u12', info: { name: 'a', namespace: 'n', serviceAccount: 's', l7: 'off' } },
  ],
  ['12051203753132', { kind: 'del', uid: 'u12' }],
  ['1a00', { kind: 'snapshotSent' }],
  ['2a050a03753132', { kind: 'keep', uid: 'u12' }],
];

for (const [packet, request] of VECTORS) {
  test(`${request.kind} is ${packet} on the wire`, () => {
    assert.equal(hex(encodeRequest(request)), packet);
    assert.deepEqual(decodeRequest(bytes(packet)), request);
  });
}

test('hello and acks have the bytes of version 1', () => {
  assert.equal(hex(encodeHello()), '0801');
  assert.deepEqual(decodeHello(bytes('0801')), { version: 'V1', canary: false });
  assert.deepEqual(decodeHello(encodeHello({ canary: true })), { version: 'V1', canary: true });
  assert.equal(hex(encodeAck()), '0a00');
  assert.deepEqual(decodeAck(bytes('0a00')), { kind: 'ok' });
  assert.equal(hex(encodeAck('no')), '0a040a026e6f');
  assert.deepEqual(decodeAck(bytes('0a040a026e6f')), { kind: 'failed', error: 'no' });
});

test('what the protocol does not allow is refused with its code', () => {
  assert.throws(() => decodeHello(bytes('')), fails('wire.version'));
  assert.throws(() => decodeHello(bytes('0802')), fails('wire.version'));
  assert.throws(() => decodeRequest(bytes('')), fails('wire.no_payload'));
  assert.throws(() => decodeRequest(bytes('3a00')), fails('wire.no_payload'));
  assert.throws(() => decodeRequest(bytes('0a050a03753132')), fails('wire.no_workload_info'));
  assert.throws(() => decodeRequest(bytes('12050a03753132')), fails('wire.no_uid'));
  assert.throws(() => decodeRequest(bytes('1205120375')), fails('wire.malformed'));
  assert.throws(() => decodeAck(bytes('')), fails('wire.no_payload'));
  assert.throws(() => decodeRequest(new Uint8Array(MAX_ZDS_PACKET_BYTES + 1)), fails('wire.too_long'));
  assert.throws(() => encodeRequest({ kind: 'del', uid: '' }), fails('wire.no_uid'));
  assert.throws(() => encodeRequest({ kind: 'del', uid: 'u'.repeat(1024) }), fails('wire.too_long'));
});

test('the longest names of Kubernetes fit one packet', () => {
  const name = 'n'.repeat(253);
  const request: WorkloadRequest = {
    kind: 'add',
    uid: '6c1ea6d6-2f0f-4e66-9a9e-6b3b1f3b0d7a',
    info: { name, namespace: name, serviceAccount: name },
  };
  assert.deepEqual(decodeRequest(encodeRequest(request)), request);
});

test('what does not fit beside the names is the annotation, and never the pod', () => {
  const info = { name: 'n', namespace: 'n', serviceAccount: 's' };
  const request: WorkloadRequest = { kind: 'add', uid: 'u12', info: { ...info, l7: 'x'.repeat(MAX_ZDS_PACKET_BYTES) } };
  assert.deepEqual(decodeRequest(encodeRequest(request)), { kind: 'add', uid: 'u12', info });
});

test('a failure can never be read as success, however its text looks', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 2000 }),
    fc.constant('\ud800'),
    fc.constant('é'.repeat(2000)),
  );
  fc.assert(
    fc.property(texts, text => {
      const packet = encodeAck(text);
      assert.ok(packet.length <= MAX_ZDS_PACKET_BYTES);
      const ack = decodeAck(packet);
      assert.equal(ack.kind, 'failed');
      if (ack.kind === 'failed' && text !== '') assert.ok(text.toWellFormed().startsWith(ack.error));
    }),
    { seed: SEED },
  );
});

test('requests survive the wire', () => {
  const text = fc.string({ unit: 'binary', maxLength: 40 }).map(value => value.toWellFormed());
  const uid = text.filter(value => value !== '');
  const requests = fc.oneof(
    fc.record(
      {
        kind: fc.constant('add' as const),
        uid,
        info: fc.record({ name: text, namespace: text, serviceAccount: text }, { noNullPrototype: true }),
      },
      { noNullPrototype: true },
    ),
    fc.record({ kind: fc.constantFrom('keep' as const, 'del' as const), uid }, { noNullPrototype: true }),
    fc.constant({ kind: 'snapshotSent' as const }),
  );
  fc.assert(
    fc.property(requests, request => assert.deepEqual(decodeRequest(encodeRequest(request)), request)),
    { seed: SEED },
  );
});

/** Whole packets, damaged ones and garbage. */
function packets(): fc.Arbitrary<Uint8Array> {
  const damaged = fc
    .tuple(
      fc.array(fc.constantFrom(...VECTORS.map(([packet]) => packet), '0801', 'c23e01', '0a00', '0a040a026e6f'), {
        minLength: 1,
        maxLength: 3,
      }),
      fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 3 }),
      fc.nat(60),
    )
    .map(([parts, edits, length]) => {
      const copy = bytes(parts.join(''));
      for (const [at, value] of edits) if (at < copy.length) copy[at] = value;
      return length < 30 ? copy : copy.subarray(0, length);
    });
  return fc.oneof(fc.uint8Array({ maxLength: MAX_ZDS_PACKET_BYTES + 16 }), damaged);
}

test('what we read is what the schema says it is, and what that refuses we refuse', () => {
  const read = <T>(decode: () => T): T | undefined => {
    try {
      return decode();
    } catch {
      return undefined;
    }
  };
  let compared = 0;
  fc.assert(
    fc.property(packets(), packet => {
      const request = read(() => decodeRequest(packet));
      const said = read(() => fromBinary(WorkloadRequestSchema, packet).payload);
      if (request !== undefined) {
        compared++;
        assert.equal(said?.case, request.kind);
        if (request.kind !== 'snapshotSent') assert.partialDeepStrictEqual(said?.value, { uid: request.uid });
        if (request.kind === 'add' && said?.case === 'add') {
          const { name, namespace, serviceAccount, ambitL7 } = said.value.workloadInfo ?? assert.fail();
          assert.deepEqual({ name, namespace, serviceAccount, l7: ambitL7 }, { l7: '', ...request.info });
        }
      }
      const ack = read(() => decodeAck(packet));
      if (ack !== undefined) {
        compared++;
        const { value } = read(() => fromBinary(WorkloadResponseSchema, packet).payload) ?? assert.fail();
        assert.equal(value?.error, ack.kind === 'ok' ? '' : ack.error);
      }
      const hello = read(() => decodeHello(packet));
      if (hello !== undefined) {
        compared++;
        const { version, ambitCanary } = fromBinary(ZdsHelloSchema, packet);
        assert.deepEqual([version, ambitCanary], [1, hello.canary]);
      }
    }),
    { seed: SEED, numRuns: 6000 },
  );
  assert.ok(compared > 2000, `only ${compared} compared: the generator makes no packets`);
});

test('garbage and damaged packets end in a value or a WireError', () => {
  let refused = 0;
  fc.assert(
    fc.property(packets(), packet => {
      for (const decode of [decodeHello, decodeRequest, decodeAck]) {
        try {
          decode(packet);
        } catch (error) {
          assert.ok(error instanceof WireError, String(error));
          refused++;
        }
      }
    }),
    { seed: SEED, numRuns: 3000 },
  );
  assert.ok(refused > 1000, `only ${refused} refused: the generator makes no garbage`);
});
