import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SILENT_LOG } from '@ambit/log';
import type { RedirectionStatus } from '../sources/pod-source.ts';
import { StatusWriter } from './status-writer.ts';

/** A slow place to write to: each write ends when the test says so. */
function bench() {
  const writes: { readonly text: string; readonly done: PromiseWithResolvers<void> }[] = [];
  const arrivals: (() => void)[] = [];
  const writer = new StatusWriter(async (uid: string, status: RedirectionStatus) => {
    const done = Promise.withResolvers<void>();
    writes.push({ text: `${uid} ${status}`, done });
    arrivals.shift()?.();
    await done.promise;
  }, SILENT_LOG);
  const nth = async (n: number) => {
    while (writes.length < n) await new Promise<void>(resolve => arrivals.push(resolve));
    const write = writes[n - 1];
    assert.ok(write);
    return write;
  };
  return { writer, writes, nth };
}

test('of several words during a write the last one is written, and one that is there already is not', async t => {
  const { writer, writes, nth } = bench();
  t.after(() => writer.close());
  writer.found('a', 'enabled');
  writer.set('a', 'enabled');
  assert.equal(writes.length, 0);
  writer.set('b', 'pending');
  writer.set('b', undefined);
  writer.set('b', 'enabled');
  (await nth(1)).done.resolve();
  const second = await nth(2);
  assert.equal(second.text, 'b enabled');
  assert.equal(writer.wanted('b'), 'enabled');
  second.done.resolve();
  assert.deepEqual(
    writes.map(({ text }) => text),
    ['b pending', 'b enabled'],
  );
});

test('a write that fails is tried again, with what is right by then', async t => {
  const { writer, nth } = bench();
  t.after(() => writer.close());
  writer.set('a', 'pending');
  (await nth(1)).done.reject(new Error('the API server is away'));
  const second = await nth(2);
  assert.equal(second.text, 'a pending');
  writer.set('a', 'enabled');
  second.done.reject(new Error('still'));
  assert.equal((await nth(3)).text, 'a enabled');
});

test('nothing more is written of a pod that is forgotten', async () => {
  const { writer, writes, nth } = bench();
  writer.set('a', 'pending');
  const first = await nth(1);
  writer.set('a', 'enabled');
  writer.forget('a');
  first.done.resolve();
  await new Promise(resolve => setImmediate(resolve));
  assert.equal(writes.length, 1);
  assert.equal(writer.wanted('a'), undefined);
  writer.close();
});

test('a status that somebody else changes is put back', async t => {
  const { writer, writes, nth } = bench();
  t.after(() => writer.close());
  writer.seen('a', 'pending');
  writer.set('a', 'enabled');
  writer.seen('a', undefined);
  (await nth(1)).done.resolve();
  await new Promise(resolve => setImmediate(resolve));
  writer.seen('a', 'enabled');
  assert.equal(writes.length, 1);
  writer.seen('a', undefined);
  (await nth(2)).done.resolve();
  assert.deepEqual(
    writes.map(({ text }) => text),
    ['a enabled', 'a enabled'],
  );
});
