import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDurationMs } from './index.ts';

test('durations as upstream writes them', () => {
  assert.equal(parseDurationMs('5s'), 5000);
  assert.equal(parseDurationMs('10m'), 600_000);
  assert.equal(parseDurationMs('1h30m'), 5_400_000);
  assert.equal(parseDurationMs('1h 30m'), 5_400_000);
  assert.equal(parseDurationMs('500ms'), 500);
  assert.equal(parseDurationMs('7'), 7000);
  for (const bad of ['', ' ', 's', '-1s', '1x', '1s2', 'Infinity', '9'.repeat(40)]) {
    assert.equal(parseDurationMs(bad), undefined, bad);
  }
});
