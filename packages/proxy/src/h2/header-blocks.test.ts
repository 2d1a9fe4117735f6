import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ConnectRequest, writeConnectRequest, writeConnectResponse } from './header-blocks.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { HpackEncoder, writeLiteral } from './hpack-encoder.ts';

const REQUEST: ConnectRequest = {
  authority: '10.0.0.7:8080',
  baggage: 'k8s.namespace.name=shop',
  forwarded: 'for="10.0.0.1:4000"',
  traceparent: '00-0123456789abcdef0123456789abcdef-0123456789abcdef-00',
  xForwardedNetwork: undefined,
};

function fieldsOf(buffer: Buffer, start: number, end: number): [string, string][] {
  const fields: [string, string][] = [];
  const decoder = new HpackDecoder({ maxHeaderListBytes: 1_000_000 });
  assert.equal(decoder.decode(buffer, start, end, { header: (name, value) => fields.push([name, value]) }), 0);
  assert.deepEqual(decoder.exportState().entries, [], 'nothing is indexed');
  return fields;
}

describe('blocks we send', () => {
  test('a CONNECT request has the fields in the order of upstream', () => {
    const buffer = Buffer.alloc(1000);
    const end = writeConnectRequest(new HpackEncoder(), buffer, 7, { ...REQUEST, xForwardedNetwork: 'net1' });
    assert.deepEqual(fieldsOf(buffer, 7, end), [
      [':method', 'CONNECT'],
      [':authority', REQUEST.authority],
      ['baggage', REQUEST.baggage],
      ['forwarded', REQUEST.forwarded],
      ['traceparent', REQUEST.traceparent],
      ['x-forwarded-network', 'net1'],
    ]);
  });

  test('empty baggage is sent, an absent network is not', () => {
    const buffer = Buffer.alloc(1000);
    const end = writeConnectRequest(new HpackEncoder(), buffer, 0, { ...REQUEST, baggage: '' });
    const names = fieldsOf(buffer, 0, end).map(([name]) => name);
    assert.deepEqual(names, [':method', ':authority', 'baggage', 'forwarded', 'traceparent']);
  });

  test('a 200 is one byte', () => {
    const buffer = Buffer.alloc(10);
    assert.equal(writeConnectResponse(new HpackEncoder(), buffer, 0, 200, undefined), 1);
    assert.equal(buffer[0], 0x88);
  });

  test('other statuses and baggage decode to themselves', () => {
    const buffer = Buffer.alloc(100);
    for (const status of [200, 400, 401, 503]) {
      const end = writeConnectResponse(new HpackEncoder(), buffer, 3, status, 'a=b');
      assert.deepEqual(fieldsOf(buffer, 3, end), [
        [':status', String(status)],
        ['baggage', 'a=b'],
      ]);
    }
  });

  test('a size update starts the first block after the peer lowers its table, once', () => {
    const encoder = new HpackEncoder();
    const buffer = Buffer.alloc(10);
    encoder.setPeerTableSize(4096);
    assert.equal(writeConnectResponse(encoder, buffer, 0, 200, undefined), 1);
    encoder.setPeerTableSize(0);
    const moved = HpackEncoder.fromState(structuredClone(encoder.exportState()));
    assert.equal(writeConnectResponse(moved, buffer, 0, 200, undefined), 2);
    assert.deepEqual([...buffer.subarray(0, 2)], [0x20, 0x88]);
    assert.equal(writeConnectResponse(moved, buffer, 0, 200, undefined), 1);
    moved.setPeerTableSize(0);
    moved.setPeerTableSize(65_536);
    moved.setPeerTableSize(100);
    assert.equal(writeConnectResponse(moved, buffer, 0, 200, undefined), 1);
  });

  test('a block that is given up leaves the size update due', () => {
    const encoder = new HpackEncoder();
    const buffer = Buffer.alloc(1000);
    encoder.setPeerTableSize(0);
    assert.equal(writeConnectRequest(encoder, buffer, 0, { ...REQUEST, baggage: 'a\nb' }), -1);
    assert.ok(writeConnectRequest(encoder, buffer, 0, REQUEST) > 0);
    assert.equal(buffer[0], 0x20);
  });

  test('text that would change the message on the wire is refused', () => {
    const buffer = Buffer.alloc(1000);
    // The last one is cut to a newline by a careless latin-1 copy.
    for (const bad of ['a\r\nb: c', 'a\0', 'a\x7f', 'a\u010a']) {
      for (const field of ['authority', 'baggage', 'forwarded', 'traceparent', 'xForwardedNetwork']) {
        assert.equal(writeConnectRequest(new HpackEncoder(), buffer, 0, { ...REQUEST, [field]: bad }), -1);
      }
    }
  });

  test('a block that does not fit the buffer, or one frame, is refused without writing beyond', () => {
    const whole = writeConnectRequest(new HpackEncoder(), Buffer.alloc(1000), 0, REQUEST);
    for (let size = 0; size < whole; size++) {
      assert.equal(writeConnectRequest(new HpackEncoder(), Buffer.alloc(size), 0, REQUEST), -1);
    }
    for (const baggage of [undefined, '', 'a=b']) {
      const room = writeConnectResponse(new HpackEncoder(), Buffer.alloc(100), 0, 200, baggage);
      for (let size = 0; size < room; size++) {
        const encoder = new HpackEncoder();
        encoder.setPeerTableSize(0);
        assert.equal(writeConnectResponse(new HpackEncoder(), Buffer.alloc(size), 0, 200, baggage), -1);
        assert.equal(writeConnectResponse(encoder, Buffer.alloc(size + 1), 0, 200, baggage), -1);
      }
    }
    const large = { ...REQUEST, baggage: 'x'.repeat(16_384) };
    assert.equal(writeConnectRequest(new HpackEncoder(), Buffer.alloc(100_000), 0, large), -1);
  });

  test('literals of any length decode to themselves', () => {
    const buffer = Buffer.alloc(80_000);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 1, max: 300 }), (valueBytes, nameBytes) => {
        const name = 'n'.repeat(nameBytes);
        const value = 'v'.repeat(valueBytes);
        const end = writeLiteral(buffer, 0, name, value);
        assert.deepEqual(fieldsOf(buffer, 0, end), [[name, value]]);
      }),
      {
        seed: 7541,
        numRuns: 50,
        examples: [
          [127, 1],
          [126, 127],
          [128, 126],
          [254, 255],
          [255, 254],
          [16_510, 1],
        ],
      },
    );
  });
});
