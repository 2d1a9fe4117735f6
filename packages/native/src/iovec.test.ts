import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IoVec } from './iovec.ts';
import { Slab } from './slab.ts';

test('a vector counts what was pushed and forgets it on clear', () => {
  const slab = Slab.allocate(100);
  const iov = IoVec.allocate(4);
  iov.push(slab, 0, 60);
  iov.push(slab, 90, 10);
  iov.push(slab, 100, 0);
  assert.deepEqual([iov.count, iov.totalBytes], [3, 70]);
  iov.clear();
  assert.deepEqual([iov.count, iov.totalBytes], [0, 0]);
});

test('a full vector and a segment outside its slab are refused and change nothing', () => {
  const slab = Slab.allocate(100);
  const iov = IoVec.allocate(1);
  for (const [offset, length] of [
    [0, 101],
    [-1, 1],
    [101, 0],
    [0.5, 1],
    [Number.NaN, 1],
    [0, 2 ** 32],
  ] as const) {
    assert.throws(() => iov.push(slab, offset, length), { code: 'native.bounds' });
  }
  assert.equal(iov.count, 0);
  iov.push(slab, 0, 100);
  assert.throws(() => iov.push(slab, 0, 1), { code: 'native.bounds' });
  assert.deepEqual([iov.count, iov.totalBytes], [1, 100]);
});

test('a vector that names a closed slab cannot be used until it is cleared', () => {
  const slab = Slab.allocate(8);
  const iov = IoVec.allocate(2);
  iov.push(slab, 0, 8);
  assert.ok(iov.vectorAddress() > 0);
  slab.close();
  assert.throws(() => iov.vectorAddress(), { code: 'native.closed' });
  assert.throws(() => iov.messageAddress(), { code: 'native.closed' });
  assert.throws(() => iov.push(slab, 0, 8), { code: 'native.closed' });
  iov.clear();
  assert.ok(iov.messageAddress() > 0);
});

test('vectors have 1 to 1024 segments', () => {
  for (const n of [0, 1025, 1.5, Number.NaN, -1]) {
    assert.throws(() => IoVec.allocate(n), { code: 'native.argument' });
  }
  assert.equal(IoVec.allocate(1024).maxSegments, 1024);
});
