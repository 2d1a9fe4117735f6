// The bystander's decoder against the endpoint's one, which is tested against the RFC and nghttp2: same meaning, same faults.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { huffmanEncode } from '../h2/huffman.ts';
import { HpackDecoder } from '../h2/index.ts';
import { Http2Fields } from './http2-fields.ts';
import { PassiveHpack } from './http2-hpack.ts';
import { METHODS } from './sniffer-texts.ts';

const ALL = { wantPath: true, wantAuthority: true, wantTraceparent: true };
const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

function integer(prefixBits: number, pattern: number, value: number): number[] {
  const limit = 2 ** prefixBits - 1;
  if (value < limit) return [pattern | value];
  const bytes = [pattern | limit];
  let rest = value - limit;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return [...bytes, rest];
}

function string(text: string, isHuffman: boolean): number[] {
  if (!isHuffman) return [...integer(7, 0, text.length), ...Buffer.from(text, 'latin1')];
  const coded = Buffer.alloc(text.length * 4 + 4);
  const length = huffmanEncode(text, coded, 0);
  return [...integer(7, 0x80, length), ...coded.subarray(0, length)];
}

const names = [
  ':method',
  ':path',
  ':authority',
  ':status',
  'content-type',
  'grpc-status',
  'traceparent',
  'host',
  'x-other',
];
const values = fc.oneof(
  fc.constantFrom(
    'GET',
    'POST',
    'LOCK',
    '200',
    '404',
    'application/grpc',
    'application/grpc+proto',
    'application/grpc-web',
    '0',
    '14',
  ),
  fc.constantFrom('/a/b?c=d', '/', 'shop:80', TRACEPARENT, 'x'.repeat(300), 'y'.repeat(3000)),
  fc.stringMatching(/^[ -~]{0,40}$/),
);
const literal = fc
  .record({
    pattern: fc.constantFrom(0x40, 0x00, 0x10),
    nameIndex: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 70 })),
    name: fc.constantFrom(...names),
    value: values,
    isHuffman: fc.boolean(),
  })
  .map(({ pattern, nameIndex, name, value, isHuffman }) => [
    ...integer(pattern === 0x40 ? 6 : 4, pattern, nameIndex),
    ...(nameIndex === 0 ? string(name, isHuffman) : []),
    ...string(value, isHuffman),
  ]);
const indexed = fc.integer({ min: 1, max: 75 }).map(index => integer(7, 0x80, index));
const update = fc.constantFrom(0, 40, 100, 400, 4096).map(size => integer(5, 0x20, size));
const block = fc
  .tuple(fc.array(update, { maxLength: 2 }), fc.array(fc.oneof(literal, indexed), { maxLength: 12 }))
  .map(([updates, fields]) => Buffer.from([...updates, ...fields].flat()));

// What the fields mean, from whole texts.
function meaning(fields: readonly (readonly [string, string])[]): Record<string, unknown> {
  const first = (name: string, fits: (value: string) => boolean = () => true): string | undefined =>
    fields.find(([each, value]) => each === name && fits(value))?.[1];
  const last = (name: string): string | undefined => fields.findLast(([each]) => each === name)?.[1];
  const bounded = (value: string): string => value.slice(0, 256);
  const path = (value: string): string => bounded(value.split(/[?#]/)[0] ?? '');
  const method = first(':method');
  const status = first(':status', value => /^[1-9]\d\d$/.test(value));
  const grpcStatus = last('grpc-status');
  let authority = '';
  for (const [name, value] of fields) {
    if (name === ':authority' || (name === 'host' && authority === ''))
      authority = bounded(value.slice(value.lastIndexOf('@') + 1));
  }
  return {
    method: method === undefined ? -1 : Math.max(0, METHODS.indexOf(method === 'OTHER' ? '' : method)),
    status: Number(status ?? 0),
    isGrpc: fields.some(([name, value]) => name === 'content-type' && /^application\/grpc($|[+;])/.test(value)),
    grpcStatus: grpcStatus === undefined || !/^\d{1,2}$/.test(grpcStatus) ? -1 : Number(grpcStatus),
    path: path(first(':path', value => path(value) !== '') ?? ''),
    authority,
    traceparent: fields.some(([name, value]) => name === 'traceparent' && value === TRACEPARENT) ? TRACEPARENT : '',
  };
}

describe("a bystander's HPACK", () => {
  test('any blocks: the same meaning and the same faults as a decoder that keeps everything', () => {
    let faults = 0;
    let sound = 0;
    fc.assert(
      fc.property(fc.array(block, { minLength: 1, maxLength: 8 }), blocks => {
        const passive = new PassiveHpack(ALL);
        const decoder = new HpackDecoder({ maxHeaderListBytes: 1e9 });
        for (const bytes of blocks) {
          const list: [string, string][] = [];
          const fault = decoder.decode(bytes, 0, bytes.length, { header: (name, value) => list.push([name, value]) });
          const fields = new Http2Fields();
          const outcome = passive.decode(bytes, 0, bytes.length, fields);
          assert.equal(outcome, fault === 0 ? '' : 'malformed');
          if (outcome !== '') {
            faults++;
            return;
          }
          sound++;
          assert.deepEqual(Object.fromEntries(Object.entries(fields)), meaning(list));
        }
      }),
      { seed: 7541, numRuns: 2000 },
    );
    // Both sides of the comparison were met.
    assert.ok(faults > 200 && sound > 1000, `${faults} faults, ${sound} sound`);
  });

  test('any bytes: never throws, and what it refuses is refused by the other decoder too', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
        const outcome = new PassiveHpack(ALL).decode(bytes, 0, bytes.length, new Http2Fields());
        const decoder = new HpackDecoder({ maxHeaderListBytes: 1e9 });
        const fault = decoder.decode(Buffer.from(bytes), 0, bytes.length, { header: () => {} });
        // It does not unpack values that stay nowhere and mean nothing, so it may be the kinder one.
        if (fault === 0) assert.equal(outcome, '');
      }),
      { seed: 7541, numRuns: 5000 },
    );
  });

  test('a table grows and shrinks with what the receiver allows', () => {
    const hpack = new PassiveHpack(ALL);
    const fields = new Http2Fields();
    const decode = (...bytes: number[]): string => hpack.decode(Uint8Array.from(bytes), 0, bytes.length, fields);
    assert.equal(decode(...integer(5, 0x20, 8192)), 'malformed');
    hpack.setLimit(8192);
    assert.equal(decode(...integer(5, 0x20, 8192)), '');
    for (let i = 0; i < 200; i++) assert.equal(decode(...integer(6, 0x40, 4), ...string(`/p/${i}`, true)), '');
    // Newest first: /p/199 is entry 62, and 8192 bytes hold the last 190 or so.
    fields.reset();
    assert.equal(decode(...integer(7, 0x80, 62 + 150)), '');
    assert.equal(fields.path, '/p/49');
    assert.equal(decode(...integer(5, 0x20, 0), ...integer(7, 0x80, 62)), 'malformed');
    hpack.setLimit(1e9);
    assert.equal(decode(...integer(5, 0x20, 1e6)), 'limit');
  });

  test('a path that went into the table while nobody wanted it is known when somebody does', () => {
    const options = { wantPath: false, wantAuthority: false, wantTraceparent: false };
    const hpack = new PassiveHpack(options);
    const fields = new Http2Fields();
    const first = Uint8Array.from([...integer(6, 0x40, 4), ...string('/cart', false)]);
    assert.equal(hpack.decode(first, 0, first.length, fields), '');
    options.wantPath = true;
    assert.equal(hpack.decode(Uint8Array.of(0xbe), 0, 1, fields), '');
    assert.equal(fields.path, '/cart');
  });
});
