import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventFd } from '@ambit/native';
import { BULK_SEGMENTS, Engine, type Pumpable, TRANSMIT_BYTES } from './engine.ts';
import { MemoryBudget } from './memory-budget.ts';

function withEngine(run: (engine: Engine, budget: MemoryBudget) => void, budgetBytes = 64 * 1024 * 1024): void {
  const budget = new MemoryBudget(budgetBytes);
  const engine = new Engine(budget);
  try {
    run(engine, budget);
  } finally {
    engine.close();
  }
  assert.equal(budget.usedBytes, 0);
  assert.equal(engine.timers.size, 0);
}

function work(isBulk: boolean, pump: () => void): Pumpable {
  return { queued: false, isBulk, pump };
}

test('a handler that ends a long wait sees the time after it, so its deadlines are not over at once', () => {
  withEngine(engine => {
    engine.turn(0);
    using wake = EventFd.create();
    let fired = false;
    let armedAt = 0;
    engine.reactor.add(wake.fd, {
      onEvents: () => {
        armedAt = engine.nowMs;
        engine.timers.at(engine.nowMs + 10_000, () => {
          fired = true;
        });
      },
    });
    const before = engine.nowMs;
    while (performance.now() < before + 20);
    wake.notify();
    engine.turn(-1);
    assert.ok(armedAt >= before + 20);
    assert.equal(fired, false);
    engine.timers.fire(armedAt + 10_000);
    assert.equal(fired, true);
  });
});

test('interactive work runs before bulk work, and work that queues itself waits for the next turn', () => {
  withEngine(engine => {
    const order: string[] = [];
    const bulk = work(true, () => order.push('bulk'));
    const again = work(false, () => {
      order.push('interactive');
      if (order.length < 3) engine.enqueue(again);
    });
    engine.enqueue(bulk);
    engine.enqueue(again);
    engine.enqueue(again);
    engine.turn(0);
    assert.deepEqual(order, ['interactive', 'bulk']);
    engine.turn(-1); // does not wait: something is queued
    assert.deepEqual(order, ['interactive', 'bulk', 'interactive']);
  });
});

test('the quantum of bulk work shrinks as there is more of it, and comes back', () => {
  withEngine(engine => {
    const seen: number[] = [];
    for (let i = 0; i < 8; i++) engine.enqueue(work(true, () => seen.push(engine.bulkSegments)));
    engine.turn(0);
    assert.ok(seen.every(segments => segments === seen[0] && segments < BULK_SEGMENTS && segments >= 4));
    engine.enqueue(work(true, () => seen.push(engine.bulkSegments)));
    engine.turn(0);
    assert.equal(seen.at(-1), BULK_SEGMENTS);
  });
});

test('output is flushed once a turn, also when a flush dirties another', () => {
  withEngine(engine => {
    const flushed: string[] = [];
    const second = { dirty: false, flush: () => flushed.push('second') };
    const first = {
      dirty: false,
      flush: () => {
        flushed.push('first');
        engine.markDirty(second);
      },
    };
    engine.markDirty(first);
    engine.markDirty(first);
    engine.turn(0);
    assert.deepEqual(flushed, ['first', 'second']);
  });
});

test('a slab beyond the budget is refused to user data and given to control frames; who waits is woken', () => {
  withEngine((engine, budget) => {
    const one = engine.takeTransmitSlab(false);
    assert.ok(one !== undefined);
    assert.equal(engine.takeTransmitSlab(false), undefined);
    const two = engine.takeTransmitSlab(true);
    assert.ok(two !== undefined);
    assert.equal(budget.usedBytes, 2 * TRANSMIT_BYTES);
    let runs = 0;
    const waiting = work(false, () => void runs++);
    engine.awaitSlab(waiting);
    engine.awaitSlab(waiting);
    engine.returnTransmitSlab(two);
    engine.turn(0);
    assert.equal(runs, 1);
    engine.awaitSlab(waiting);
    while (runs === 1) engine.turn(-1); // by the clock: other workers give back without a word
    assert.equal(runs, 2);
    engine.returnTransmitSlab(one);
  }, TRANSMIT_BYTES + 10);
});
