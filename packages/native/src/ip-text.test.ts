import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv4, formatIpv6, parseIp } from './ip-text.ts';

const canonical = (text: string): string => {
  const bytes = parseIp(text);
  return bytes.length === 4 ? formatIpv4(bytes) : formatIpv6(bytes);
};

test('IPv6 text follows RFC 5952', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['2001:0db8:0000:0000:0000:0000:0002:0001', '2001:db8::2:1'],
    ['2001:DB8::ABCD', '2001:db8::abcd'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'], // one zero group is not shortened
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'], // the longest run
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'], // the first of two equal runs
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['1:0:0:0:0:0:0:0', '1::'],
    ['0:1:0:0:0:0:0:0', '0:1::'],
    ['fe80:0:0:0:0:0:0:a', 'fe80::a'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ];
  for (const [given, expected] of cases) assert.equal(canonical(given), expected);
});

test('IPv4-mapped addresses are IPv4, other addresses with 32 low bits are not', () => {
  assert.equal(canonical('::ffff:10.1.2.3'), '10.1.2.3');
  assert.equal(canonical('::ffff:a01:203'), '10.1.2.3');
  assert.equal(canonical('::10.1.2.3'), '::a01:203');
  assert.equal(canonical('::fffe:10.1.2.3'), '::fffe:a01:203');
  assert.equal(canonical('1::ffff:10.1.2.3'), '1::ffff:a01:203');
});

test('text that is not exactly one address is refused', () => {
  const bad =
    'x, 1.2.3, 1.2.3.4.5, 256.1.1.1, 01.2.3.4, 1.2.3.4 , 1.2.3.-4, 1..2.3, :, :::, 1:2, 1::2::3, 12345::, g::, ' +
    '1:2:3:4:5:6:7:8:9, ::1:2:3:4:5:6:7:8, 1:2:3:4:5:6:7:8::, fe80::1%eth0, ::1.2.3, 1.2.3.4::, ::1.2.3.4:5, [::1], 0x1.2.3.4';
  for (const text of ['', '::\0', ...bad.split(', ')]) {
    assert.throws(() => parseIp(text), { code: 'native.argument' }, JSON.stringify(text));
  }
});

test('any 16 bytes survive text, and the text is what the URL parser calls canonical', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.array(fc.nat(7), { maxLength: 7 }),
      (bytes, zeroed) => {
        for (const group of zeroed) bytes.fill(0, 2 * group, 2 * group + 2);
        const text = formatIpv6(bytes);
        if (text.includes('.')) return;
        assert.deepEqual(parseIp(text), bytes);
        assert.equal(new URL(`http://[${text}]/`).hostname, `[${text}]`);
      },
    ),
    { seed: 5952, numRuns: 500 },
  );
});

test('what is accepted is what Node accepts, zones aside', () => {
  const digit = fc.constantFrom(...'0123456789abf:.:.:'.split(''));
  fc.assert(
    fc.property(fc.string({ unit: digit, maxLength: 18 }), text => {
      let parsed = 0;
      try {
        parsed = parseIp(text).length === 4 ? 4 : 6;
      } catch {
        parsed = 0;
      }
      assert.equal(parsed, isIP(text), text);
    }),
    { seed: 4291, numRuns: 3000 },
  );
});
