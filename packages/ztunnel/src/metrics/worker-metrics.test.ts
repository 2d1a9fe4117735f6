import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WorkerStats } from '../supervisor.ts';
import { makeWorld, sample, textOf } from './metrics-testing.ts';
import { addWorkerMetrics } from './worker-metrics.ts';

test('sockets are summed, and what a replaced worker had counted is not lost', () => {
  const { registry } = makeWorld();
  const stats = new Map<number, WorkerStats>();
  addWorkerMetrics(registry, () => stats);
  assert.equal(textOf(registry), '# EOF\n', 'nothing is shown before a worker has spoken');
  stats.set(0, { acceptedSource: 2, acceptedDestination: 1, droppedRecords: 5, revokedSource: 1, bufferedBytes: 7 });
  stats.set(1, { acceptedSource: 3, droppedRecords: 1, l7GaveUpLimit: 2, bufferedBytes: 8 });
  let text = textOf(registry);
  assert.equal(sample(text, 'istio_tcp_sockets_open', 'source'), 5);
  assert.equal(sample(text, 'istio_tcp_sockets_open', 'destination'), 1);
  assert.equal(sample(text, 'istio_crl_policy_rejections_total', 'source'), 1);
  assert.equal(sample(text, 'ambit_buffered_bytes'), 8);
  assert.equal(sample(text, 'ambit_l7_given_up_total', 'reason="limit"'), 2);
  // The same again adds nothing; a worker that begins anew adds all it has.
  stats.set(0, { droppedRecords: 2 });
  text = textOf(registry);
  assert.equal(sample(text, 'ambit_records_dropped_total', 'worker="0"'), 7);
  assert.equal(sample(text, 'ambit_records_dropped_total', 'worker="1"'), 1);
  assert.equal(sample(text, 'istio_tcp_sockets_open', 'source'), 3);
  assert.equal(sample(text, 'istio_crl_policy_rejections_total', 'source'), 1);
});
