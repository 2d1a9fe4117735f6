import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LATENCY_BOUNDS_MS } from '@ambit/insight';
import { DETECTOR_MINUTE_MS, EdgeTraffic } from './edge-traffic.ts';
import { Fault } from './fault.ts';

const peer = (name: string) => ({ address: { ip: '10.61.1.1', port: 1 }, workload: { namespace: 'shop', name } });

/** A line as the proxy writes it, with `ok` and `failed` requests of 7 ms. */
function line(direction: 'inbound' | 'outbound', ok: number, failed: number): string {
  const durations = (count: number) => [...LATENCY_BOUNDS_MS.map(bound => (bound === 10 ? count : 0)), 0];
  const tally = (count: number, status: number) => ({
    protocol: 'http',
    status,
    count,
    durationSumMs: 7 * count,
    durations: durations(count),
  });
  return JSON.stringify({
    event: 'progress',
    direction,
    protocol: 'HBONE',
    source: peer('web'),
    destination: peer('cart'),
    originalDestination: { ip: '10.96.0.2', port: 80 },
    l7: 'http',
    connectMs: 1,
    fresh: {
      opened: false,
      bytesToServer: 100,
      bytesToClient: 900,
      retransmits: 0,
      requests: [tally(ok, 200), tally(failed, 503)],
      untalliedRequests: 0,
    },
  });
}

test('rates, statuses and percentiles are of the last seconds, told by one end', () => {
  const traffic = new EdgeTraffic(0);
  for (let second = 0; second <= 12; second++) {
    for (const direction of ['inbound', 'outbound'] as const) traffic.add(line(direction, 90, 10), second * 1000);
    traffic.look(second * 1000);
  }
  const summary = traffic.summary('shop/web', 'shop/cart');
  assert.ok(summary);
  assert.deepEqual(
    [summary.requestsPerSecond, summary.bytesPerSecond, summary.totals.requests, summary.protocols],
    [100, 1000, 1300, ['http']],
  );
  assert.deepEqual(summary.statuses, [0, 450, 0, 0, 50]);
  assert.ok(summary.p50Ms === 7.5 && Number(summary.p99Ms) <= 10);
  assert.equal(traffic.summary('shop/cart', 'shop/web'), undefined);
});

test('a line that is no record is nothing', () => {
  const traffic = new EdgeTraffic(0);
  traffic.add('{"event":"dropped","count":2}', 0);
  traffic.add('{"event":"clo', 0);
  assert.deepEqual(traffic.look(0), []);
});

test('failures after a calm time are found, before them nothing is, and the fault is what was found', () => {
  const traffic = new EdgeTraffic(0);
  const fault = new Fault();
  const calmMs = 8 * DETECTOR_MINUTE_MS;
  let nowMs = 0;
  for (; nowMs < calmMs; nowMs += 500) {
    traffic.add(line('outbound', 30, 0), nowMs);
    assert.deepEqual(traffic.look(nowMs), []);
  }
  fault.inject(nowMs);
  traffic.add(line('outbound', 20, 10), nowMs + 500);
  fault.look(traffic.look(nowMs + 500), nowMs + 500);
  assert.deepEqual([fault.state?.foundAfterMs, fault.state?.finding?.code], [500, 'detect.error_shift']);
});
