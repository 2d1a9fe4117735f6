import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FrameSplitter } from './frames.ts';

test('messages come out as they went in, however they were cut', () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 10 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (list, cuts) => {
      const framed = Buffer.concat(list.flatMap(each => [Buffer.of(0, each.length), Buffer.from(each)]));
      const splitter = new FrameSplitter(100);
      const found: Buffer[] = [];
      for (let at = 0; at < framed.length; ) {
        const size = cuts[at % cuts.length] ?? 1;
        splitter.push(framed.subarray(at, at + size));
        at += size;
        for (let next = splitter.next(); next !== undefined; next = splitter.next()) {
          assert.ok(next !== 'too_large');
          found.push(next);
        }
      }
      assert.deepEqual(
        found,
        list.map(each => Buffer.from(each)),
      );
      assert.equal(splitter.size, 0);
    }),
    { numRuns: 300, seed: 7766 },
  );
});

test('a message beyond the limit is refused as soon as its length is known', () => {
  const splitter = new FrameSplitter(100);
  splitter.push(Buffer.of(0, 101));
  assert.equal(splitter.next(), 'too_large');
});
