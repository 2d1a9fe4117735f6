import assert from 'node:assert/strict';
import { test } from 'node:test';
import { releaseMemory } from './index.ts';

test('what nobody refers to any more is collected at once', () => {
  const registry: WeakRef<object>[] = [];
  for (let i = 0; i < 1000; i++) registry.push(new WeakRef({ i }));
  return new Promise<void>(resolve => {
    // A WeakRef keeps its target until the end of the job that made it.
    setImmediate(() => {
      releaseMemory();
      assert.ok(registry.every(ref => ref.deref() === undefined));
      resolve();
    });
  });
});
