import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { HOUR_MS, makeWorld, sample, samplesOf, textOf } from './metrics-testing.ts';

const COUNT = { name: 'hits', help: 'Hits.', type: 'counter' } as const;
const LEVEL = { name: 'level', help: 'Level.', type: 'gauge' } as const;
const TIME = { name: 'time', help: 'Time.', type: 'histogram', bounds: [1, 2] } as const;

test('equal labels are one series, and an absent label equals an empty one', () => {
  const { registry } = makeWorld();
  const table = registry.table({ labels: ['a', 'b'], metrics: [COUNT] });
  table.add(table.row(['x', undefined]), 0, 1);
  table.add(table.row(['x', '']), 0, 2);
  assert.equal(sample(textOf(registry), 'hits_total', '{a="x"}'), 3);
});

test('values that differ only beyond their bound are one series', () => {
  const { registry } = makeWorld();
  const table = registry.table({ labels: ['a'], metrics: [COUNT] });
  const long = 'x'.repeat(256);
  for (const value of [`${long}1`, `${long}2`, long]) table.add(table.row([value]), 0, 1);
  assert.equal(table.size, 1);
  assert.equal(sample(textOf(registry), 'hits_total'), 3);
});

test('what has no room goes to overflow series that keep bounded labels, and nothing is lost', () => {
  const { registry } = makeWorld(10);
  const table = registry.table({ labels: ['reporter', 'peer'], bounded: ['reporter'], metrics: [COUNT] });
  for (let peer = 0; peer < 100; peer++)
    table.add(table.row([peer % 2 === 0 ? 'source' : 'destination', `${peer}`]), 0, 1);
  const text = textOf(registry);
  assert.equal(sample(text, 'hits_total', '{reporter="source",peer="overflow"}'), 45);
  assert.equal(sample(text, 'hits_total', '{reporter="destination",peer="overflow"}'), 45);
  assert.equal(table.overflowed, 90);
  assert.equal(
    [...samplesOf(text).values()].reduce((sum, value) => sum + value, 0),
    100,
  );
});

test('overflow series are bounded themselves', () => {
  const { registry } = makeWorld(10);
  const table = registry.table({ labels: ['code', 'peer'], bounded: ['code'], metrics: [COUNT] });
  for (let code = 0; code < 5000; code++) table.add(table.row([`${code}`, 'p']), 0, 1);
  assert.ok(table.size < 600, `${table.size} rows`);
  const sum = [...samplesOf(textOf(registry)).values()].reduce((total, value) => total + value, 0);
  assert.equal(sum, 5000);
});

test('a histogram counts each of its lines against the bound', () => {
  const { registry } = makeWorld(50);
  const table = registry.table({ labels: ['a'], metrics: [TIME] });
  for (let index = 0; index < 20; index++) table.observe(table.row([`${index}`]), 0, 1);
  // Five lines each, and the overflow.
  assert.equal(table.size, 11);
});

test('an idle series is shown no longer, and one that returns goes on where it stopped', () => {
  const { registry, pass } = makeWorld();
  const table = registry.table({ labels: ['a'], metrics: [COUNT, LEVEL, TIME] });
  const row = table.row(['x']);
  table.add(row, 0, 7);
  table.set(row, 1, 3);
  table.observe(row, 2, 1.5);
  pass(HOUR_MS - 1000);
  assert.equal(registry.sweep(), 0);
  pass(1000);
  assert.equal(registry.sweep(), 1);
  assert.equal(textOf(registry), '# EOF\n');
  table.add(table.row(['x']), 0, 1);
  const text = textOf(registry);
  assert.equal(sample(text, 'hits_total'), 8);
  assert.equal(sample(text, 'time_count'), 1);
  assert.equal(sample(text, 'level'), undefined, 'a gauge has no past');
});

test('a series that is held stays, however idle it is', () => {
  const { registry, pass } = makeWorld();
  const table = registry.table({ labels: ['a'], metrics: [COUNT] });
  const row = table.row(['x']);
  table.add(row, 0, 1);
  table.hold(row);
  pass(10 * HOUR_MS);
  assert.equal(registry.sweep(), 0);
  table.release(row);
  assert.equal(registry.sweep(), 0, 'its time begins when it is let go');
  pass(HOUR_MS);
  assert.equal(registry.sweep(), 1);
});

test('a counter that somebody else counts never goes back, a gauge does', () => {
  const { registry } = makeWorld();
  const table = registry.lasting({ labels: [], metrics: [COUNT, LEVEL] });
  for (const value of [5, 3]) {
    table.set(table.row([]), 0, value);
    table.set(table.row([]), 1, value);
  }
  assert.equal(sample(textOf(registry), 'hits_total'), 5);
  assert.equal(sample(textOf(registry), 'level'), 3);
});

test('a hundred thousand peers that come and go leave no memory behind', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const used = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const { registry, pass } = makeWorld(2000);
  const table = registry.table({ labels: ['reporter', 'peer'], bounded: ['reporter'], metrics: [COUNT, COUNT, COUNT] });
  const round = (from: number): void => {
    for (let peer = from; peer < from + 1000; peer++)
      table.add(table.row(['source', `${'p'.repeat(200)}${peer}`]), 0, 1);
    pass(HOUR_MS);
    registry.sweep();
  };
  // Until what is remembered of the expired is full.
  let peer = 0;
  for (; peer < 30_000; peer += 1000) round(peer);
  const before = used();
  for (; peer < 130_000; peer += 1000) round(peer);
  const grown = used() - before;
  assert.equal(table.size, 0);
  assert.ok(grown < 1 << 20, `${grown} bytes more after 100 000 peers`);
  assert.ok(before < 64 << 20);
});
