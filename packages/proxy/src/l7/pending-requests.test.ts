import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PendingRequests } from './pending-requests.ts';

describe('PendingRequests', () => {
  test('holds no more than it was told, and little for that', () => {
    const pending = new PendingRequests(256);
    assert.equal(pending.heldBytes, 0);
    for (let at = 0; at < 256; at++) assert.ok(pending.push(at, at, at, at));
    assert.equal(pending.push(0, 0, 0, 0), false);
    assert.ok(pending.heldBytes <= 3584);
    for (let at = 0; at < 256; at++) pending.shift();
    assert.equal(pending.heldBytes, 0);
  });

  test('is a queue', () => {
    const operation = fc.constantFrom('push', 'push', 'shift', 'pop', 'change');
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 400 }), operations => {
        const pending = new PendingRequests(50, true);
        const model: number[][] = [];
        for (const [now, what] of operations.entries()) {
          if (what === 'push') {
            const isPushed = pending.push(now, 2 * now, now & 255, 1, -now);
            assert.equal(isPushed, model.length < 50);
            if (isPushed) model.push([now, 2 * now, now & 255, 1, 0 - now]);
          } else if (what === 'shift') {
            pending.shift();
            model.shift();
          } else if (what === 'pop') {
            pending.pop();
            model.pop();
          } else if (model.length > 0) {
            const last = model.length - 1;
            pending.addBytes(last, 3);
            pending.setWord(last, 7);
            pending.setKind(last, 2);
            const [start = 0, bytes = 0, , , id = 0] = model[last] ?? [];
            model[last] = [start, bytes + 3, 7, 2, id];
          }
          const held = model.map((_, at) => [
            pending.startMs(at),
            pending.bytes(at),
            pending.word(at),
            pending.kind(at),
            pending.id(at),
          ]);
          assert.equal(pending.length, model.length);
          assert.deepEqual(held, model);
        }
      }),
      { seed: 256 },
    );
  });

  test('a size beyond what it can keep stays at the largest', () => {
    const pending = new PendingRequests(1);
    pending.push(0, 2 ** 40, 0, 0);
    pending.addBytes(0, 10);
    assert.equal(pending.bytes(0), 2 ** 32 - 1);
  });
});
