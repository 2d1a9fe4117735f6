import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { test } from 'node:test';
import { controlFrom } from './byte-scan.ts';

function oneByOne(bytes: Uint8Array, start: number, end: number): number {
  for (let at = start; at < end; at++) if ((bytes[at] ?? 0) < 0x20) return at;
  return end;
}

test('every byte is or is not a control character, wherever it stands and whatever is beside it', () => {
  for (const around of [0x20, 0x41, 0x7f, 0x80, 0xff]) {
    for (let byte = 0; byte < 256; byte++) {
      for (let place = 0; place < 9; place++) {
        const bytes = new Uint8Array(9).fill(around);
        bytes[place] = byte;
        assert.equal(controlFrom(bytes, 0, 9), byte < 0x20 ? place : 9, `${byte} at ${place} among ${around}`);
      }
    }
  }
});

test('any bytes of any part of any array', () => {
  for (let round = 0; round < 20_000; round++) {
    const whole = new Uint8Array(randomBytes(64)).map(byte => (byte < 0x20 && randomInt(4) > 0 ? byte + 0x20 : byte));
    const bytes = whole.subarray(randomInt(8), 64 - randomInt(8));
    const start = randomInt(bytes.length);
    const end = start + randomInt(bytes.length - start + 1);
    assert.equal(controlFrom(bytes, start, end), oneByOne(bytes, start, end));
  }
});

test('it does not look behind the end', () => {
  const bytes = Buffer.from('abcdefg\r\n');
  assert.deepEqual([controlFrom(bytes, 0, 5), controlFrom(bytes, 2, 2), controlFrom(bytes, 0, 9)], [5, 2, 7]);
});
