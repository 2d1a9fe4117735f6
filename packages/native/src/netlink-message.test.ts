import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ipOf,
  MAX_REQUEST_BYTES,
  NetlinkWriter,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLMSG_DONE,
  NLMSG_ERROR,
  readAttributes,
  readMessages,
  readVerdict,
  textOf,
  u32Of,
} from './netlink-message.ts';

const SEED = 11;
const attribute = fc.record({ type: fc.integer({ min: 1, max: 0x3fff }), value: fc.uint8Array({ maxLength: 40 }) });
const hostile = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  // Bytes that often look like headers: small lengths, small types.
  fc.array(fc.integer({ min: 0, max: 24 }), { maxLength: 300 }).map(bytes => Uint8Array.from(bytes)),
);

test('attributes read back as written, the last of a type counting', () => {
  fc.assert(
    fc.property(fc.array(attribute, { maxLength: 50 }), list => {
      const writer = new NetlinkWriter(8);
      for (const { type, value } of list) writer.bytes(type, value);
      const read = readAttributes(writer.finish(), 8);
      const expected = new Map(list.map(({ type, value }) => [type, value]));
      assert.equal(read.size, expected.size);
      for (const [type, value] of expected) assert.deepEqual([...(read.get(type) ?? [])], [...value]);
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test('a truncated buffer gives a part of the attributes and nothing else', () => {
  fc.assert(
    fc.property(fc.array(attribute, { maxLength: 20 }), fc.nat(1000), (list, cut) => {
      const writer = new NetlinkWriter(0);
      const distinct = list.map(({ value }, i) => ({ type: i + 1, value }));
      for (const { type, value } of distinct) writer.bytes(type, value);
      const whole = writer.finish();
      const read = readAttributes(whole.subarray(0, Math.min(cut, whole.length)));
      for (const [type, value] of read) assert.deepEqual([...value], [...(distinct[type - 1]?.value ?? [])]);
    }),
    { seed: SEED, numRuns: 300 },
  );
});

test('hostile bytes end every reader, inside the bytes', () => {
  fc.assert(
    fc.property(hostile, fc.nat(40), (raw, offset) => {
      const bytes = Buffer.from(raw);
      let total = 0;
      const attributes = readAttributes(bytes, offset);
      for (const [type, value] of attributes) {
        total += value.length;
        assert.ok(type <= 0x3fff);
        u32Of(attributes, type);
        assert.ok((textOf(attributes, type) ?? '').length <= 256);
        ipOf(attributes, type);
      }
      assert.ok(total <= bytes.length);
      let used = 0;
      for (const message of readMessages(bytes)) {
        used += 16 + message.payload.length;
        readVerdict(message);
        readVerdict({ ...message, type: NLMSG_ERROR, flags: NLM_F_ACK_TLVS });
        readVerdict({ ...message, type: NLMSG_DONE, flags: NLM_F_ACK_TLVS | NLM_F_CAPPED });
      }
      assert.ok(used <= bytes.length);
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('a length of zero does not stand still, nor does one with the sign bit go back', () => {
  assert.equal(readAttributes(Buffer.alloc(64)).size, 0);
  const bytes = Buffer.alloc(64);
  bytes.writeUInt32LE(0xfffffffc, 0);
  assert.deepEqual(readMessages(bytes), []);
});

test('nested attributes hold what was written inside', () => {
  const writer = new NetlinkWriter(0);
  writer.nested(18, () => void writer.text(1, Buffer.from('veth')).nested(2, () => void writer.u32(1, 7)));
  const outer = readAttributes(writer.finish()).get(18);
  assert.ok(outer !== undefined);
  const inner = readAttributes(outer);
  assert.equal(textOf(inner, 1), 'veth');
  assert.equal(u32Of(readAttributes(inner.get(2) ?? Buffer.alloc(0)), 1), 7);
});

test('a request cannot outgrow its bound', () => {
  const writer = new NetlinkWriter(16);
  assert.throws(() => writer.bytes(1, new Uint8Array(MAX_REQUEST_BYTES)), { code: 'native.bounds' });
});

test('verdicts: success, errno, sentence, and a message that is too short', () => {
  const message = (type: number, flags: number, payload: Buffer) => ({ type, flags, sequence: 1, payload });
  const ok = Buffer.alloc(20);
  assert.deepEqual(readVerdict(message(NLMSG_ERROR, 0, ok)), { errno: 0, text: '' });
  const refused = Buffer.alloc(20);
  refused.writeInt32LE(-17, 0);
  refused.writeUInt32LE(16, 4);
  const writer = new NetlinkWriter(0).text(1, Buffer.from('already there'));
  const withText = Buffer.concat([refused, writer.finish()]);
  assert.deepEqual(readVerdict(message(NLMSG_ERROR, NLM_F_ACK_TLVS, withText)), { errno: 17, text: 'already there' });
  assert.equal(readVerdict(message(NLMSG_ERROR, 0, Buffer.alloc(2))).errno, -1);
  assert.equal(readVerdict(message(NLMSG_DONE, 0, Buffer.alloc(0))).errno, 0);
});
