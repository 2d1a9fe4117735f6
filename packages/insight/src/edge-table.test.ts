import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ip } from '@ambit/mesh';
import { EdgeTable } from './edge-table.ts';
import { news, record, tally, workload } from './record-testing.ts';

const MINUTE = 60_000;

function only(table: EdgeTable) {
  const { edges } = table.report('n1', 0);
  assert.equal(edges.length, 1);
  const [edge] = edges;
  assert.ok(edge);
  return edge;
}

test('connections of the pods of a workload to one service are one edge', () => {
  const table = new EdgeTable({ maxEdges: 10 }, 0);
  assert.equal(table.add(record(), 1), true);
  const otherPod = { ...workload('web'), name: 'web-2' };
  assert.equal(
    table.add(record({ source: { address: { ip: '10.0.0.9' as Ip, port: 1 }, workload: otherPod } }), 2),
    false,
  );
  const edge = only(table);
  assert.deepEqual(
    [edge.reporter, edge.source.name, edge.destination.name, edge.service, edge.port],
    ['source', 'shop/web', 'shop/cart', 'cart.shop.svc.cluster.local', 80],
  );
  assert.deepEqual([edge.totals.opened, edge.totals.mutualTls, edge.totals.bytesToClient], [2, 2, 2000]);
  assert.deepEqual([edge.firstSeenMs, edge.lastSeenMs, edge.tls?.group], [1, 2, 'X25519MLKEM768']);
});

test('only what is fresh is added, so a connection told of ten times counts once', () => {
  const table = new EdgeTable({ maxEdges: 10 }, 0);
  for (let i = 0; i < 10; i++) {
    const fresh = news({ opened: i === 0, bytesToServer: 10, requests: [tally(3, 2)] });
    table.add(record({ event: i === 9 ? 'close' : 'progress', fresh, bytesToServer: 10 * (i + 1) }), i);
  }
  const { totals } = only(table);
  assert.deepEqual([totals.opened, totals.closed, totals.bytesToServer, totals.requests], [1, 1, 100, 30]);
});

test('a denial is no failure, a failure no denial, and a drain is neither', () => {
  const table = new EdgeTable({ maxEdges: 10 }, 0);
  const refused = { event: 'refused', fresh: news(), connectMs: undefined } as const;
  table.add(record({ ...refused, reason: 'policy.no_allow_match', policy: 'shop/cart-callers' }), 1);
  table.add(record({ ...refused, reason: 'hbone.refused_stream', error: 'http status: 401 Unauthorized' }), 1);
  table.add(record({ ...refused, reason: 'tls.untrusted_root' }), 2);
  table.add(record({ reason: 'drain.deadline', fresh: news({ opened: true }) }), 3);
  const edge = only(table);
  const { denied, failed, handshakeFailed, opened } = edge.totals;
  assert.deepEqual([denied, failed, handshakeFailed, opened], [2, 1, 1, 1]);
  assert.deepEqual(edge.reasons, {
    'policy.no_allow_match': 1,
    'hbone.refused_stream': 1,
    'tls.untrusted_root': 1,
    'drain.deadline': 1,
  });
  assert.equal(edge.failures[0]?.policy, 'shop/cart-callers');
  assert.equal(edge.last?.reason, 'drain.deadline');
});

test('a connection that a policy ended before it carried anything was not opened', () => {
  const table = new EdgeTable({ maxEdges: 10 }, 0);
  table.add(record({ reason: 'policy.denied_by', connectMs: undefined, fresh: news({ opened: true }) }), 1);
  assert.deepEqual([only(table).totals.opened, only(table).totals.denied], [0, 1]);
});

test('minutes are counted apart, the oldest give way, and a clock that is set back does no harm', () => {
  const table = new EdgeTable({ maxEdges: 10 }, 0);
  for (let minute = 0; minute < 20; minute++) table.add(record(), minute * MINUTE);
  table.add(record(), 3 * MINUTE);
  const { minutes, totals } = only(table);
  assert.deepEqual([minutes.length, minutes[0]?.minute, minutes.at(-1)?.minute], [15, 5, 19]);
  assert.deepEqual([minutes.at(-1)?.counts.opened, totals.opened], [2, 21]);
});

test('the quietest edge makes room, failures and reasons are bounded', () => {
  const table = new EdgeTable({ maxEdges: 3 }, 0);
  const from = (name: string) =>
    record({ source: { address: { ip: '10.0.0.1' as Ip, port: 1 }, workload: workload(name) } });
  for (const name of ['a', 'b', 'c', 'a', 'd']) table.add(from(name), 0);
  const report = table.report(undefined, 0);
  assert.deepEqual(
    report.edges.map(({ source }) => source.name),
    ['shop/c', 'shop/a', 'shop/d'],
  );
  assert.equal(report.forgotten, 1);
  for (let i = 0; i < 100; i++) table.add({ ...from('d'), reason: `dial.x${i}` as 'dial.refused' }, 0);
  const edge = table.report(undefined, 0).edges.at(-1);
  assert.equal(edge?.failures.length, 5);
  assert.equal(Object.keys(edge.reasons).length, 16);
  assert.equal(edge.reasons['other'], 85);
});

test('an unknown end goes by its address, an inbound connection by the port of its authority', () => {
  const table = new EdgeTable({ maxEdges: 10 }, 0);
  const source = { address: { ip: '192.0.2.7' as Ip, port: 1 } };
  table.add(
    record({ direction: 'inbound', source, originalDestination: undefined, protocol: 'TCP', tls: undefined }),
    0,
  );
  const edge = only(table);
  assert.deepEqual([edge.source.name, edge.port, edge.reporter], ['192.0.2.7', 8080, 'destination']);
  assert.deepEqual([edge.totals.plaintext, edge.totals.mutualTls, edge.tls], [1, 0, undefined]);
});
