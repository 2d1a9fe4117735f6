import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { PathStep } from './fields.ts';
import { JsonPlaces } from './json-places.ts';
import { readDocument } from './yaml-text.ts';

const SEED = 20261125;

function at(text: string, ...path: readonly PathStep[]): string {
  return text.slice(new JsonPlaces(text).offsetOf(path), text.length).slice(0, 6);
}

test('fields are at their keys, or at a last value; items at themselves; what is not there at its parent', () => {
  const text = ' {"a": [1, {"b\\"": "x}", "c": null}], "d": {"e": -1.5e3}, "f":[]}';
  assert.equal(at(text), '{"a": ');
  assert.equal(at(text, 'a'), '"a": [');
  assert.equal(at(text, 'a', 0), '1, {"b');
  assert.equal(at(text, 'a', 1), '{"b\\""');
  assert.equal(at(text, 'a', 1, 'b"'), '"x}", ');
  assert.equal(at(text, 'a', 1, 'c'), '"c": n');
  assert.equal(at(text, 'a', 2), '"a": [');
  assert.equal(at(text, 'd', 'e'), '-1.5e3');
  assert.equal(at(text, 'd', 'e', 'g'), '"e": -');
  assert.equal(at(text, 'f', 0), '"f":[]');
  assert.equal(at('{"a": 1, "a": 2}', 'a'), '2}');
});

/** Every path of a value, and for each one that leads one step too far. */
function* pathsOf(value: unknown, path: readonly PathStep[] = []): Generator<readonly PathStep[]> {
  yield path;
  yield [...path, 'nothing'];
  if (Array.isArray(value)) {
    for (const [index, item] of (value as readonly unknown[]).entries()) yield* pathsOf(item, [...path, index]);
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of Object.entries(value)) yield* pathsOf(item, [...path, key]);
  }
}

test('places agree with those that the YAML parser finds in the same text', () => {
  const key = fc.string({ minLength: 1, maxLength: 6, unit: fc.constantFrom('a', 'b', '"', '\\', '{', ']', ',', ' ') });
  const { tree } = fc.letrec<{ tree: unknown }>(tie => ({
    tree: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom<unknown>(null, true, 'text', 'a "quote", and\\', 12, -0.5, {}, []),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(tree, fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
      const text = JSON.stringify({ a: value }, undefined, indent);
      const json = readDocument({ text, line: 3, indent: 4 });
      // A comment makes it YAML.
      const yaml = readDocument({ text: `#\n${text}`, line: 2, indent: 4 });
      assert.ok(json.kind === 'value');
      // Tabs may not indent in YAML.
      if (yaml.kind !== 'value') return;
      for (const path of pathsOf({ a: value })) {
        const expected = yaml.locate(path);
        const column = expected.line === 3 ? expected.column + 4 : expected.column;
        assert.deepEqual(json.locate(path), { line: expected.line, column }, `${path.join('/')} in ${text}`);
      }
    }),
    { seed: SEED, numRuns: 300 },
  );
});
