import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { HUFFMAN_LENGTHS, huffmanCodes, STATIC_TABLE } from './hpack-tables.ts';
import { huffmanDecode, huffmanDecodedBound, huffmanEncode } from './huffman.ts';

function encode(text: string): Buffer {
  const buffer = Buffer.alloc(text.length * 4 + 1);
  return buffer.subarray(0, huffmanEncode(text, buffer, 0));
}

function decode(code: Buffer): string | undefined {
  const target = Buffer.alloc(huffmanDecodedBound(code.length));
  const end = huffmanDecode(code, 0, code.length, target, 0);
  return end < 0 ? undefined : target.toString('latin1', 0, end);
}

// Reads bit by bit with the codes alone: slow, and shares no table with the decoder.
function decodeByBits(code: Buffer): string | undefined {
  const symbols = new Map<string, number>();
  for (const [symbol, value] of huffmanCodes().entries()) {
    symbols.set(value.toString(2).padStart(HUFFMAN_LENGTHS[symbol] ?? 0, '0'), symbol);
  }
  let text = '';
  let pending = '';
  for (const bit of [...code].map(byte => byte.toString(2).padStart(8, '0')).join('')) {
    pending += bit;
    const symbol = symbols.get(pending);
    if (symbol === undefined) continue;
    if (symbol === 256) return undefined;
    text += String.fromCharCode(symbol);
    pending = '';
  }
  return pending.length < 8 && !pending.includes('0') ? text : undefined;
}

describe('Huffman code', () => {
  test('the tables are whole: 61 static fields, a complete prefix code of 257 symbols', () => {
    assert.equal(STATIC_TABLE.length, 61);
    assert.equal(HUFFMAN_LENGTHS.length, 257);
    assert.equal(
      HUFFMAN_LENGTHS.reduce((sum, length) => sum + 2 ** -length, 0),
      1,
    );
  });

  test('codes printed in RFC 7541 appendix B are those', () => {
    const codes = huffmanCodes();
    const printed: [symbol: number, code: number][] = [
      [0, 0x1ff8],
      [1, 0x7fffd8],
      [9, 0xffffea],
      [10, 0x3ffffffc],
      [48, 0x0],
      [97, 0x3],
      [92, 0x7fff0],
      [127, 0xffffffc],
      [128, 0xfffe6],
      [199, 0x1ffffec],
      [208, 0x7fff2],
      [249, 0xffffffe],
      [255, 0x3ffffee],
      [256, 0x3fffffff],
    ];
    for (const [symbol, code] of printed) assert.equal(codes[symbol], code, `symbol ${symbol}`);
  });

  test('every string comes back from its code', () => {
    const latin1 = fc.uint8Array({ maxLength: 80 }).map(bytes => Buffer.from(bytes).toString('latin1'));
    fc.assert(
      fc.property(latin1, text => {
        assert.equal(decode(encode(text)), text);
      }),
      { seed: 7541, numRuns: 500 },
    );
  });

  test('random bytes decode as bit-by-bit reading says, or are refused as it says', () => {
    const mostlyOnes = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0xff, 0xfe, 0x7f));
    fc.assert(
      fc.property(fc.array(mostlyOnes, { maxLength: 12 }), bytes => {
        const code = Buffer.from(bytes);
        assert.equal(decode(code), decodeByBits(code));
      }),
      { seed: 7541, numRuns: 3000 },
    );
  });

  test('decoding never writes beyond the promised bound', () => {
    const densest = Buffer.alloc(100);
    const target = Buffer.alloc(huffmanDecodedBound(densest.length) + 10, 0xaa);
    // Zeros are the five-bit code of '0': the densest there is.
    const end = huffmanDecode(densest, 0, densest.length, target, 0);
    assert.equal(end, 160);
    assert.ok(target.subarray(huffmanDecodedBound(densest.length)).every(byte => byte === 0xaa));
  });
});
