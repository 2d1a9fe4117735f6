import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CallStatistics, percentile } from './statistics.ts';

const report = (ok: number, latenciesMs: readonly number[] = []) => ({ ok, failed: 0, bytes: ok * 10, latenciesMs });

test('rates are of the last five seconds, totals of all', () => {
  const statistics = new CallStatistics();
  for (let ms = 0; ms <= 10_000; ms += 500) statistics.add(report(ms <= 5_000 ? 100 : 50), ms);
  const { callsPerSecond, bytesPerSecond, calls, failed } = statistics.summary(10_000);
  assert.deepEqual({ callsPerSecond, bytesPerSecond }, { callsPerSecond: 100, bytesPerSecond: 1000 });
  assert.deepEqual({ calls, failed }, { calls: 11 * 100 + 10 * 50, failed: 0 });
});

test('a young caller is rated by its age, and one that fell silent goes to 0', () => {
  const statistics = new CallStatistics();
  statistics.add(report(500), 1_000);
  assert.equal(statistics.summary(1_000).callsPerSecond, 0);
  statistics.add(report(10), 1_500);
  assert.equal(statistics.summary(2_000).callsPerSecond, 10);
  assert.equal(statistics.summary(60_000).callsPerSecond, 0);
  assert.equal(statistics.summary(60_000).p50Ms, undefined);
});

test('percentiles are values that occurred, by nearest rank', () => {
  assert.equal(percentile([], 0.5), undefined);
  assert.equal(percentile([7], 0.99), 7);
  const hundred = Array.from({ length: 100 }, (_, i) => i + 1);
  assert.deepEqual([percentile(hundred, 0.5), percentile(hundred, 0.99), percentile(hundred, 1)], [50, 99, 100]);
  fc.assert(
    fc.property(
      fc.array(fc.nat(1000), { minLength: 1 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (values, share) => {
        const sorted = values.toSorted((a, b) => a - b);
        const value = percentile(sorted, share) ?? -1;
        assert.ok(sorted.filter(other => other <= value).length >= sorted.length * share - 1e-9);
        assert.ok(sorted.filter(other => other < value).length < sorted.length * share);
      },
    ),
    { seed: 61 },
  );
});
