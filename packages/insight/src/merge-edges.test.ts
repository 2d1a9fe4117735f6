import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ip } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { latencyAt } from './counts.ts';
import type { EdgeReport } from './edge-shape.ts';
import { EdgeTable } from './edge-table.ts';
import { mergeReports } from './merge-edges.ts';
import { news, record, tally, workload } from './record-testing.ts';

const NOW = 60_000_000;

function report(records: readonly ConnectionRecord[], nowMs = NOW): EdgeReport {
  const table = new EdgeTable({ maxEdges: 100 }, 0);
  for (const each of records) table.add(each, nowMs);
  return table.report('n1', nowMs);
}

/** As the destination tells of what `record` makes. */
function inbound(more: Partial<ConnectionRecord> = {}): ConnectionRecord {
  return record({
    direction: 'inbound',
    originalDestination: undefined,
    service: undefined,
    destination: { address: { ip: '10.0.0.2' as Ip, port: 15_008 }, workload: workload('cart') },
    source: { address: { ip: '10.0.0.1' as Ip, port: 4000 }, workload: workload('web'), identity: 'spiffe://t/proven' },
    ...more,
  });
}

test('a connection that both ends tell of is one edge and counts once', () => {
  const requests = (ms: number) => news({ opened: true, bytesToServer: 100, requests: [tally(4, ms)] });
  const [edge, ...others] = mergeReports([
    report([inbound({ fresh: requests(2) })]),
    report([record({ fresh: requests(20) })]),
  ]);
  assert.ok(edge);
  assert.deepEqual(others, []);
  assert.deepEqual([edge.service, edge.port, edge.targetPort], ['cart.shop.svc.cluster.local', 80, 8080]);
  const { opened, mutualTls, bytesToServer, requests: asked } = edge.totals;
  assert.deepEqual([opened, mutualTls, bytesToServer, asked], [1, 1, 100, 4]);
  assert.ok((latencyAt(edge.totals.latencies, 0.5) ?? 0) > 10, 'latency is what the source waited');
  assert.deepEqual(
    [edge.source.identity, edge.destination.identity],
    ['spiffe://t/proven', 'spiffe://t/ns/shop/sa/cart'],
  );
  assert.equal(edge.minutes[0]?.counts.opened, 1);
});

test('a source that read no requests leaves them to the destination', () => {
  const fresh = news({ opened: true, requests: [tally(3, 2)] });
  const [edge] = mergeReports([report([record()]), report([inbound({ fresh })])]);
  assert.equal(edge?.totals.requests, 3);
});

test('proxies of the same side add up', () => {
  const [edge, ...others] = mergeReports([report([record()]), report([record()]), report([inbound(), inbound()])]);
  assert.deepEqual(others, []);
  assert.equal(edge?.totals.opened, 2);
});

test('a port that goes by two names is not counted for both', () => {
  const direct = record({ service: undefined, originalDestination: { ip: '10.0.0.2' as Ip, port: 8080 } });
  const edges = mergeReports([report([record(), direct]), report([inbound(), inbound()])]);
  assert.deepEqual(
    edges.map(({ port, totals }) => [port, totals.opened]),
    [
      [8080, 1],
      [80, 1],
    ],
  );
});

test('the cause is told by the end that knows it', () => {
  const refused = { event: 'refused', connectMs: undefined, fresh: news() } as const;
  const vague = record({ ...refused, reason: 'hbone.status', error: 'http status: 401 Unauthorized' });
  const clear = inbound({ ...refused, reason: 'policy.no_allow_match', policy: 'shop/callers' });
  const [edge] = mergeReports([report([vague]), report([clear])]);
  assert.deepEqual([edge?.totals.denied, edge?.reasons], [1, { 'policy.no_allow_match': 1 }]);
  assert.deepEqual([edge?.last?.policy, edge?.failures.length], ['shop/callers', 1]);
});

test('what one end alone tells stays as it is', () => {
  const [edge] = mergeReports([report([record({ protocol: 'TCP', hboneAuthority: undefined })])]);
  assert.deepEqual([edge?.reporters, edge?.totals.plaintext], [['source'], 1]);
});
