import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { WireJudge } from './wire-judge.ts';

const MARKERS = ['order-1234', 'GET /cart'];
const HELLO = Buffer.concat([Buffer.from([22, 3, 1, 0, 50]), Buffer.alloc(50, 1)]);

function judge(): WireJudge {
  const isWatched = (a: string, b: string): boolean => /[12]\.1$|:[12]$/.test(a) && /[12]\.1$|:[12]$/.test(b);
  return new WireJudge({ tunnelPort: 15_008, markers: MARKERS, isWatched });
}

interface FrameOptions {
  readonly family?: 4 | 6;
  readonly from?: readonly [address: number, port: number];
  readonly to?: readonly [address: number, port: number];
  readonly sequence?: number;
  readonly flags?: number;
  readonly protocol?: number;
  readonly payload?: Buffer;
}

function frame(options: FrameOptions): Buffer {
  const { family = 4, from = [1, 40_000], to = [2, 15_008], payload = Buffer.alloc(0) } = options;
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(from[1], 0);
  tcp.writeUInt16BE(to[1], 2);
  tcp.writeUInt32BE(options.sequence ?? 1, 4);
  tcp[12] = 0x50;
  tcp[13] = options.flags ?? 0x10;
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(family === 4 ? 0x0800 : 0x86dd, 12);
  return Buffer.concat([
    ethernet,
    ipHeader(family, from[0], to[0], options.protocol ?? 6, 20 + payload.length),
    tcp,
    payload,
  ]);
}

function ipHeader(family: 4 | 6, from: number, to: number, protocol: number, length: number): Buffer {
  if (family === 6) {
    const header = Buffer.alloc(40);
    header[0] = 0x60;
    header.writeUInt16BE(length, 4);
    header[6] = protocol;
    header[23] = from;
    header[39] = to;
    return header;
  }
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + length, 2);
  header[9] = protocol;
  header.set([10, 61, from, 1], 12);
  header.set([10, 61, to, 1], 16);
  return header;
}

for (const family of [4, 6] as const) {
  test(`TLS to the tunnel port is counted and not readable (IPv${family})`, () => {
    const wire = judge();
    wire.frame(frame({ family, sequence: 0, flags: 2 }));
    wire.frame(frame({ family, sequence: 1, payload: HELLO }));
    const { packets, bytes, readable, flows } = wire.counts();
    assert.deepEqual({ packets, bytes, readable, flows }, { packets: 1, bytes: 55, readable: 0, flows: 1 });
  });

  test(`an HTTP request is readable, on the tunnel port as on any other (IPv${family})`, () => {
    const wire = judge();
    const payload = Buffer.from('GET /cart HTTP/1.1\r\n');
    wire.frame(frame({ family, to: [2, 8080], payload }));
    wire.frame(frame({ family, sequence: 0, flags: 2 }));
    wire.frame(frame({ family, sequence: 1, payload }));
    const { packets, readable, markers, example } = wire.counts();
    assert.deepEqual({ packets, readable, markers }, { packets: 2, readable: 2, markers: 2 });
    assert.match(example ?? '', /40000 to .*:8080: GET \/cart HTTP\/1\.1\.\.$/);
  });
}

test('TLS on another port is no tunnel, so it counts as readable', () => {
  const wire = judge();
  wire.frame(frame({ to: [2, 443], payload: HELLO }));
  assert.equal(wire.counts().readable, 1);
});

test('a marker inside a well-formed record is found all the same', () => {
  const wire = judge();
  const payload = Buffer.concat([Buffer.from([22, 3, 1, 0, 50]), Buffer.from('order-1234'.padEnd(50))]);
  wire.frame(frame({ sequence: 0, flags: 2 }));
  wire.frame(frame({ payload }));
  assert.deepEqual([wire.counts().readable, wire.counts().markers], [1, 1]);
});

test('frames without payload, between others, or of ICMP without a marker do not count; other protocols do', () => {
  const wire = judge();
  wire.frame(frame({}));
  wire.frame(frame({ to: [9, 8080], payload: Buffer.from('GET /cart') }));
  wire.frame(frame({ protocol: 1, payload: Buffer.from('ping') }));
  assert.equal(wire.counts().packets, 0);
  wire.frame(frame({ protocol: 1, payload: Buffer.from('order-1234') }));
  wire.frame(frame({ protocol: 17, payload: Buffer.from('datagram') }));
  assert.deepEqual([wire.counts().packets, wire.counts().readable], [2, 2]);
});

test('no frame is an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x0800, 0x86dd, 0x0806), (bytes, type) => {
      const garbage = Buffer.from(bytes);
      if (garbage.length >= 14) garbage.writeUInt16BE(type, 12);
      const wire = new WireJudge({ tunnelPort: 15_008, markers: MARKERS, isWatched: () => true });
      wire.frame(garbage);
    }),
    { seed: 61, numRuns: 500 },
  );
});
