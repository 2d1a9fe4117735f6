import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCounts, type Edge, type EdgeReport, LATENCY_BOUNDS_MS, noCounts } from '@ambit/insight';
import { inOrder, reportOfMinutes, reportSince, trafficRows } from '../traffic.ts';
import { COLOUR, PLAIN } from './style.ts';
import { trafficTable } from './traffic.ts';

const MINUTE = 60_000;
const NOW = 100 * MINUTE + 5000;

function counts(more: Partial<ReturnType<typeof noCounts>>) {
  return { ...noCounts(), ...more };
}

function edge(from: string, to: string, totals: ReturnType<typeof noCounts>, more: Partial<Edge> = {}): Edge {
  return {
    reporter: 'source',
    source: { name: from, namespace: from.split('/')[0], identity: undefined },
    destination: { name: to, namespace: to.split('/')[0], identity: undefined },
    service: undefined,
    port: 80,
    tls: { version: 'TLSv1.3', suite: 'TLS_AES_128_GCM_SHA256', group: 'X25519MLKEM768' },
    protocols: ['http'],
    firstSeenMs: 0,
    lastSeenMs: NOW,
    totals,
    reasons: {},
    minutes: [],
    last: undefined,
    failures: [],
    ...more,
  };
}

function report(edges: readonly Edge[], more: Partial<EdgeReport> = {}): EdgeReport {
  return { version: 1, node: 'n1', nowMs: NOW, sinceMs: 0, edges, forgotten: 0, ...more };
}

const latencies = LATENCY_BOUNDS_MS.map((_, index) => (index === 3 ? 824 : 0)).concat(0);
const EDGES = [
  edge(
    'shop/web',
    'shop/cart',
    counts({ opened: 2, mutualTls: 2, requests: 824, latencies, bytesToServer: 82_400, bytesToClient: 24_800_000 }),
  ),
  edge('shop/stranger', 'shop/cart', counts({ denied: 4 }), {
    tls: undefined,
    reasons: { 'policy.no_allow_match': 9 },
  }),
  edge('10.61.0.9', 'shop/web', counts({ opened: 2, plaintext: 2, bytesToServer: 10 }), {
    tls: undefined,
    protocols: [],
  }),
];

function table(width: number): readonly string[] {
  return trafficTable(inOrder(trafficRows([report(EDGES)], 2, {}, 'edge'), 'rate'), PLAIN, width);
}

test('80 columns keep who, how protected, how much and how bad', () => {
  assert.deepEqual(table(80), [
    'FROM           TO            SECURITY        RATE    ERR      P50      P99',
    'shop/web       shop/cart:80  mTLS       412 req/s    0 %  7.50 ms  9.95 ms',
    'shop/stranger  shop/cart:80  denied      2 conn/s  100 %        –        –',
    '10.61.0.9      shop/web:80   plaintext   1 conn/s    0 %        –        –',
  ]);
});

test('140 columns have the cipher, the bytes and the reason too', () => {
  const [header = '', web = '', stranger = ''] = table(140);
  assert.match(header, /CIPHER .* P50 +P99 +SENT +RECV +NOTE$/);
  assert.match(web, /ML-KEM AES-128 .* 41\.2 kB\/s +12\.4 MB\/s +http$/);
  assert.match(stranger, /policy\.no_allow_match$/);
  for (const line of table(140)) assert.ok(line.length <= 140, line);
});

test('names give way before a line is too long', () => {
  const long = [
    edge('a-very-long-namespace/an-even-longer-workload-name', 'shop/cart', counts({ opened: 1, mutualTls: 1 })),
  ];
  for (const line of trafficTable(trafficRows([report(long)], 1, {}, 'edge'), PLAIN, 80))
    assert.ok(line.length <= 80, line);
});

test('colour says what the words say', () => {
  const rows = trafficRows([report(EDGES)], 2, {}, 'edge');
  const text = trafficTable(rows, COLOUR, 80).join('\n');
  assert.ok(text.includes(COLOUR.warn('plaintext')) && text.includes(COLOUR.bad('denied   ')));
});

test('rows can be summed by workload and by namespace, and chosen', () => {
  const by = (group: 'workload' | 'namespace') =>
    trafficRows([report(EDGES)], 2, {}, group).map(({ from, to }) => [from, to]);
  assert.deepEqual(by('workload'), [
    ['10.61.0.9', 'shop/web'],
    ['2 callers', 'shop/cart'],
  ]);
  assert.deepEqual(by('namespace'), [['3 callers', 'shop']]);
  assert.equal(trafficRows([report(EDGES)], 2, { to: 'cart', from: 'shop/web' }, 'edge').length, 1);
  assert.equal(trafficRows([report(EDGES)], 2, { namespace: 'other' }, 'edge').length, 0);
});

test('what is measured is what was added, and a proxy that started again counts from zero', () => {
  const at = (opened: number, sinceMs = 0) => report([edge('a/b', 'c/d', counts({ opened }))], { sinceMs });
  assert.equal(reportSince(at(7), at(5)).edges[0]?.totals.opened, 2);
  assert.equal(reportSince(at(7, 1), at(5)).edges[0]?.totals.opened, 7);
});

test('a window has whole minutes only', () => {
  const minutes = [94, 95, 99, 100].map(minute => ({ minute, counts: counts({ opened: minute }) }));
  const sum = noCounts();
  addCounts(sum, counts({ opened: 95 + 99 }));
  assert.deepEqual(reportOfMinutes(report([edge('a/b', 'c/d', noCounts(), { minutes })]), 5).edges[0]?.totals, sum);
});
