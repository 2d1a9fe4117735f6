import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toServingNames } from './serving-certificate.ts';

test('names and addresses go into a serving certificate, each once, and nothing else does', () => {
  const good = ['istiod.istio-system.svc', '*.example.org', 'a_b.local', 'host', 'host.', '10.0.0.1', '::1'];
  assert.equal(toServingNames([...good, ...good]).names.length, good.length);
  for (const text of ['', '.', 'a..b', '-a', '*', 'a b', 'a,b', 'x'.repeat(64), `${'a.'.repeat(130)}b`, 'a\nb']) {
    assert.deepEqual(toServingNames([text]).bad, [text]);
  }
});

test('a long text that is no name is told at once', () => {
  // With nested repetition this takes longer than the universe has existed.
  for (const text of [`${'a'.repeat(250)}!`, `${'a.'.repeat(120)}!`])
    assert.deepEqual(toServingNames([text]).bad, [text]);
});
