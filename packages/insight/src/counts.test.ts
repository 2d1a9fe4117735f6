import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REQUEST_BUCKETS } from '@ambit/proxy';
import { addCounts, addTally, countsSince, LATENCY_BOUNDS_MS, latencyAt, noCounts } from './counts.ts';
import { tally } from './record-testing.ts';

test('the bounds are those that requests are counted with', () => {
  assert.deepEqual(LATENCY_BOUNDS_MS, REQUEST_BUCKETS);
});

test('a percentile lies in the bucket that holds it, and there is none of nothing', () => {
  assert.equal(latencyAt(noCounts().latencies, 0.5), undefined);
  const counts = noCounts();
  addTally(counts, tally(98, 3));
  addTally(counts, tally(2, 400));
  const [p50, p99] = [latencyAt(counts.latencies, 0.5) ?? 0, latencyAt(counts.latencies, 0.99) ?? 0];
  assert.ok(p50 > 1 && p50 <= 5, String(p50));
  assert.ok(p99 > 250 && p99 <= 500, String(p99));
  addTally(counts, tally(1000, 4e6));
  assert.equal(latencyAt(counts.latencies, 0.99), 3_600_000, 'no more is known than the last bound');
});

test('an error is what the protocol of the request calls one', () => {
  const errorsOf = (...tallies: Parameters<typeof tally>[2][]): number => {
    const counts = noCounts();
    for (const more of tallies) addTally(counts, tally(1, 1, more));
    return counts.requestErrors;
  };
  assert.equal(errorsOf({ status: 200 }, { status: 404 }, { protocol: 'grpc', grpcStatus: 0 }), 0);
  assert.equal(errorsOf({ protocol: 'grpc', grpcStatus: 5 }), 0, 'not found is an answer');
  assert.equal(errorsOf({ protocol: 'redis', status: 0 }), 0);
  assert.equal(errorsOf({ status: 503 }, { status: 0 }, { status: 200, flags: 'UC' }), 3);
  assert.equal(errorsOf({ protocol: 'grpc', status: 200, grpcStatus: 14 }, { protocol: 'grpc', status: 200 }), 2);
  assert.equal(errorsOf({ protocol: 'postgresql', status: 0, error: '42P01' }), 1);
});

test('what happened between two readings is their difference, and all of it when the process started again', () => {
  const counts = noCounts();
  addTally(counts, tally(10, 3));
  const before = structuredClone(counts);
  addTally(counts, tally(5, 30, { status: 500 }));
  const since = countsSince(counts, before);
  assert.deepEqual([since.requests, since.requestErrors, since.statuses[4]], [5, 5, 5]);
  const restarted = noCounts();
  addTally(restarted, tally(2, 3));
  assert.equal(countsSince(restarted, before).requests, 2);
  addCounts(restarted, since);
  assert.equal(restarted.requests, 7);
});
