import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackOff } from './back-off.ts';

test('pauses double from 10 ms to 15 s, and jitter is full', () => {
  const backOff = new BackOff(() => 1);
  const pauses = Array.from({ length: 13 }, () => backOff.next(0, false));
  assert.deepEqual(pauses.slice(0, 4), [10, 20, 40, 80]);
  assert.equal(pauses.at(-1), 15_000);
  assert.equal(new BackOff(() => 0).next(0, false), 0);
});

test('a connection that lived long or delivered starts afresh', () => {
  const backOff = new BackOff(() => 1);
  for (let i = 0; i < 8; i++) backOff.next(0, false);
  assert.equal(backOff.next(30_000, false), 10);
  for (let i = 0; i < 8; i++) backOff.next(0, false);
  assert.equal(backOff.next(1000, true), 10);
});

test('a server that sends something and hangs up at once is no hot loop', () => {
  const backOff = new BackOff(() => 1);
  const pauses = Array.from({ length: 12 }, () => backOff.next(5, true));
  assert.equal(pauses.at(-1), 15_000);
});
