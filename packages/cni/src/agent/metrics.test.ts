import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderMetrics } from './metrics.ts';

test('metrics are Prometheus’s text, whatever a label holds', () => {
  const text = renderMetrics([
    () => [
      { name: 'a_total', help: 'A.', type: 'counter', samples: [{ value: 1 }, { labels: { x: 'q"\\\n' }, value: 2 }] },
      { name: 'empty', help: 'Nothing yet.', type: 'gauge', samples: [] },
    ],
  ]);
  assert.equal(
    text,
    '# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total{x="q\\"\\\\\\n"} 2\n# HELP empty Nothing yet.\n# TYPE empty gauge\n',
  );
});
