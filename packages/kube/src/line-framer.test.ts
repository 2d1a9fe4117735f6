import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LineFramer } from './line-framer.ts';

function lines(framer: LineFramer, ...chunks: readonly string[]): readonly string[] {
  const found: string[] = [];
  for (const chunk of chunks) assert.ok(framer.feed(Buffer.from(chunk), line => found.push(line)));
  return found;
}

describe('line framer', () => {
  test('finds the same lines however the bytes are cut', () => {
    const line = fc.string({ unit: 'binary', maxLength: 20 }).map(text => text.replaceAll(/[\n\r]/g, ' '));
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.nat(400)), (texts, cuts) => {
        const bytes = Buffer.from(texts.map(text => `${text}\n`).join(''));
        const ends = [...cuts.filter(cut => cut < bytes.length).sort((a, b) => a - b), bytes.length];
        const framer = new LineFramer(1000);
        const found: string[] = [];
        let start = 0;
        for (const end of ends) {
          assert.ok(framer.feed(bytes.subarray(start, end), text => found.push(text)));
          start = end;
        }
        assert.deepEqual(
          found,
          Buffer.from(texts.join('\n'))
            .toString()
            .split('\n')
            .filter(text => text !== ''),
        );
        assert.equal(framer.pendingBytes, 0);
      }),
      { seed: 71 },
    );
  });

  test('a line that has not ended is no line', () => {
    const framer = new LineFramer(100);
    assert.deepEqual(lines(framer, 'one\ntw'), ['one']);
    assert.equal(framer.pendingBytes, 2);
  });

  test('a line of exactly the bound is read, one byte more is refused', () => {
    assert.deepEqual(lines(new LineFramer(4), 'ab', 'cd\n'), ['abcd']);
    const framer = new LineFramer(4);
    assert.ok(framer.feed(Buffer.from('abc'), assert.fail));
    assert.ok(!framer.feed(Buffer.from('de\n'), assert.fail));
  });

  test('carriage returns before the end are dropped', () =>
    assert.deepEqual(lines(new LineFramer(9), 'a\r\nb\n'), ['a', 'b']));
});
