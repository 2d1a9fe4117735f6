import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exposition } from './exposition.ts';
import type { MetricRegistry } from './metric-registry.ts';
import { makeWorld, samplesOf, textOf } from './metrics-testing.ts';

function sampleRegistry(): MetricRegistry {
  const { registry } = makeWorld();
  const table = registry.table({
    labels: ['who'],
    metrics: [
      { name: 'hits', help: 'A "hit"\nor \\ miss.', type: 'counter' },
      { name: 'nobody', help: 'Without a series.', type: 'gauge' },
      { name: 'wait_seconds', help: 'Waits.', type: 'histogram', unit: 'seconds', bounds: [0.5, 1] },
    ],
  });
  const row = table.row(['a"b\\c\nd']);
  table.add(row, 0, 12_345_678_901);
  table.merge(row, 2, [1, 2, 3], 4.25);
  const bare = registry.lasting({ labels: [], metrics: [{ name: 'up', help: 'Up.', type: 'gauge' }] });
  bare.set(bare.row([]), 0, -0.5);
  return registry;
}

test('OpenMetrics: families without _total, units, float limits, an end', () => {
  assert.equal(
    textOf(sampleRegistry()),
    String.raw`# HELP hits A "hit"\nor \\ miss.
# TYPE hits counter
hits_total{who="a\"b\\c\nd"} 12345678901
# HELP wait_seconds Waits.
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds_bucket{who="a\"b\\c\nd",le="0.5"} 1
wait_seconds_bucket{who="a\"b\\c\nd",le="1.0"} 3
wait_seconds_bucket{who="a\"b\\c\nd",le="+Inf"} 6
wait_seconds_sum{who="a\"b\\c\nd"} 4.25
wait_seconds_count{who="a\"b\\c\nd"} 6
# HELP up Up.
# TYPE up gauge
up -0.5
# EOF
`,
  );
});

test('Prometheus text: families named as their samples, no units and no end', () => {
  const text = textOf(sampleRegistry(), 'prometheus');
  assert.match(text, /^# HELP hits_total /);
  assert.match(text, /^# TYPE hits_total counter$/m);
  assert.doesNotMatch(text, /# UNIT|# EOF/);
  assert.match(text, /le="1"\} 3$/m);
});

test('many series come in bounded pieces, each of whole lines', () => {
  const { registry } = makeWorld(10_000);
  const table = registry.table({ labels: ['a', 'b'], metrics: [{ name: 'n', help: 'N.', type: 'counter' }] });
  for (let index = 0; index < 2000; index++) table.add(table.row([`${index}`, 'ü'.repeat(256)]), 0, index);
  let text = '';
  for (const piece of exposition(registry, 'openmetrics')) {
    assert.ok(piece.length <= 64 * 1024);
    const part = Buffer.from(piece).toString();
    assert.ok(part.endsWith('\n'));
    text += part;
  }
  assert.equal(samplesOf(text).size, 2000);
});

test('the longest labels there can be still fit', () => {
  const { registry } = makeWorld();
  const labels = Array.from({ length: 30 }, (_, index) => `label_${index}`);
  const shape = { name: 't', help: 'T.', type: 'histogram', bounds: Array.from({ length: 20 }, (_, index) => index) };
  const table = registry.table({ labels, metrics: [{ ...shape, type: 'histogram' }] });
  table.observe(table.row(labels.map(() => '\\'.repeat(256))), 0, 3);
  assert.equal(samplesOf(textOf(registry)).size, 23);
});
