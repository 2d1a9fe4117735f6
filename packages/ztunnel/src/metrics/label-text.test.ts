import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cleanLabel, labelKey, labelPairs, MAX_LABEL_CHARACTERS, writeLabels } from './label-text.ts';

test('whatever a value is, its text is valid, bounded and read back as it was', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 400 }), { minLength: 3, maxLength: 3 }), values => {
      const clean = values.map(cleanLabel);
      const text = writeLabels(['a', 'b', 'c'], clean);
      assert.ok(text.isWellFormed());
      assert.equal(text.includes('\n'), false);
      for (const value of clean) assert.ok(value.length <= MAX_LABEL_CHARACTERS);
      const wanted = ['a', 'b', 'c'].flatMap((name, index) => (clean[index] === '' ? [] : [[name, clean[index]]]));
      assert.deepEqual(labelPairs(text), wanted);
    }),
    { seed: 20261124 },
  );
});

test('a cut never leaves half a character', () => {
  const value = cleanLabel(`${'x'.repeat(MAX_LABEL_CHARACTERS - 1)}\u{1f600}`);
  assert.equal(value, `${'x'.repeat(MAX_LABEL_CHARACTERS - 1)}\ufffd`);
});

test('values that hold the separator never make the key of others', () => {
  assert.notEqual(labelKey(['a\0b', 'c']), labelKey(['a', 'b\0c'].map(cleanLabel)));
  assert.notEqual(labelKey(['a\0b'].map(cleanLabel)), labelKey(['a', 'b']));
});
