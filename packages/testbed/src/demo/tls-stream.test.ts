import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TlsStream } from './tls-stream.ts';

const SEED = 61;

function record(type: number, length: number, minor = 3): Buffer {
  const bytes = Buffer.alloc(5 + length, 0xa5);
  bytes.set([type, 3, minor, length >> 8, length & 0xff]);
  return bytes;
}

/** A hello, the disguise, then encrypted records of these lengths. */
function tlsBytes(lengths: readonly number[]): Buffer {
  return Buffer.concat([record(22, 300, 1), record(20, 1), ...lengths.map(length => record(23, length))]);
}

function begun(sequence: number): TlsStream {
  const stream = new TlsStream();
  stream.begin((sequence - 1) >>> 0);
  return stream;
}

interface Segment {
  readonly sequence: number;
  readonly payload: Buffer;
}

function cut(bytes: Buffer, start: number, sizes: readonly number[]): Segment[] {
  const segments: Segment[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    segments.push({ sequence: (start + at) >>> 0, payload: bytes.subarray(at, at + size) });
    at += size;
  }
  return segments;
}

const lengths = fc.array(fc.integer({ min: 17, max: 3000 }), { minLength: 1, maxLength: 8 });
const sizes = fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 6 });
const start = fc.integer({ min: 0, max: 0xffff_ffff });

test('records are TLS however they are cut into segments, also over the end of sequence numbers', () => {
  fc.assert(
    fc.property(lengths, sizes, start, (recordLengths, segmentSizes, sequence) => {
      const stream = begun(sequence);
      for (const segment of cut(tlsBytes(recordLengths), sequence, segmentSizes)) {
        assert.equal(stream.segment(segment.sequence, segment.payload), 'tls');
      }
      assert.equal(stream.records, recordLengths.length + 2);
    }),
    { seed: SEED },
  );
});

test('segments that come twice or early change nothing', () => {
  const shuffled = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(lengths, sizes, shuffled, (recordLengths, segmentSizes, delays) => {
      const stream = begun(1000);
      const segments = cut(tlsBytes(recordLengths), 1000, segmentSizes);
      // Each may be overtaken by a few others, and every third comes twice.
      const order = segments
        .flatMap((segment, i) => {
          const late = { segment, at: i + (delays[i % delays.length] ?? 0) };
          return i % 3 === 0 ? [late, { segment, at: i + 5 }] : [late];
        })
        .toSorted((a, b) => a.at - b.at);
      for (const { segment } of order) assert.equal(stream.segment(segment.sequence, segment.payload), 'tls');
      assert.equal(stream.records, recordLengths.length + 2);
    }),
    { seed: SEED },
  );
});

test('text between two records is plaintext, and the stream stays so', () => {
  fc.assert(
    fc.property(lengths, fc.stringMatching(/^[ -~]{5,40}$/), (recordLengths, text) => {
      const stream = begun(1);
      const good = tlsBytes(recordLengths);
      assert.equal(stream.segment(1, good), 'tls');
      assert.equal(stream.segment(1 + good.length, Buffer.from(text)), 'plaintext');
      assert.equal(stream.segment(1 + good.length + text.length, record(23, 100)), 'plaintext');
    }),
    { seed: SEED },
  );
});

for (const [what, bytes] of [
  ['an HTTP request', Buffer.from('GET /cart HTTP/1.1\r\n\r\n')],
  ['encrypted records without a hello', record(23, 100)],
  ['a version that does not exist', Buffer.from([22, 3, 9, 0, 100])],
  ['a record longer than allowed', Buffer.from([22, 3, 1, 0x41, 0x01])],
  ['a hello after encrypted records', Buffer.concat([tlsBytes([100]), record(22, 100)])],
  ['a readable alert after encrypted records', Buffer.concat([tlsBytes([100]), record(21, 2)])],
  ['an encrypted record shorter than its tag', Buffer.concat([tlsBytes([100]), record(23, 5)])],
] as const) {
  test(`${what}: plaintext`, () => {
    assert.equal(begun(7).segment(7, bytes), 'plaintext');
  });
}

test('a stream seen from the middle is unknown until a record begins with a segment', () => {
  const stream = new TlsStream();
  assert.equal(stream.segment(500, Buffer.alloc(100, 0xee)), 'unknown');
  assert.equal(stream.segment(600, record(23, 95)), 'tls');
  assert.equal(stream.segment(700, Buffer.from('GET /')), 'plaintext');
});

test('bytes that never come make it unknown, not TLS and not plaintext', () => {
  const stream = begun(1);
  assert.equal(stream.segment(1, tlsBytes([100])), 'tls');
  const judged = new Set<string>();
  for (let i = 0; i < 70; i++) judged.add(stream.segment(100_000 + i * 50, Buffer.alloc(50, 0xee)));
  assert.deepEqual([...judged], ['tls', 'unknown']);
});

test('a port that is used again is judged anew', () => {
  const stream = begun(1);
  assert.equal(stream.segment(1, Buffer.from('plain')), 'plaintext');
  stream.begin(9);
  assert.equal(stream.segment(10, tlsBytes([50])), 'tls');
});
