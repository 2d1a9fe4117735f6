import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeEngine } from './dns-testing.ts';
import type { DnsPodCounts } from './dns-messages.ts';
import { CountReports, type Counting } from './count-reports.ts';
import { countForwarded, DnsCounters, DURATION_BUCKETS } from './counters.ts';

const AAAA = 28;

test('counts are told once, and what comes later by itself', () => {
  const counters = new DnsCounters();
  assert.equal(counters.takeNews(), undefined);
  counters.cell(1, false).requests++;
  const aaaa = counters.cell(AAAA, true);
  aaaa.requests += 2;
  aaaa.upstreamRequests++;
  counters.refused++;
  const first = counters.takeNews();
  assert.deepEqual(
    first?.cells.map(({ query, protocol, requests, upstreamRequests }) => [
      query,
      protocol,
      requests,
      upstreamRequests,
    ]),
    [
      ['A', 'udp', 1, 0],
      ['AAAA', 'tcp', 2, 1],
    ],
  );
  assert.equal(first?.refused, 1);
  assert.equal(counters.takeNews(), undefined);
  countForwarded(aaaa, 5, true);
  const second = counters.takeNews();
  const buckets = DURATION_BUCKETS.map(bound => (bound === 0.01 ? 1 : 0));
  assert.deepEqual(second?.cells, [
    {
      query: 'AAAA',
      protocol: 'tcp',
      requests: 0,
      upstreamRequests: 0,
      upstreamFailures: 1,
      durationSeconds: 0.005,
      durations: [...buckets, 0],
    },
  ]);
  assert.equal(second?.refused, 0);
});

test('types without a name share a count, however many are asked for', () => {
  const counters = new DnsCounters();
  for (let type = 1000; type < 3000; type++) counters.cell(type, false).requests++;
  assert.deepEqual([...counters.cells.keys()], ['udp/UNKNOWN']);
  assert.equal(counters.cells.get('udp/UNKNOWN')?.requests, 2000);
});

test('host names beyond the bound are counted without their name', () => {
  const counters = new DnsCounters();
  for (let index = 0; index < 100; index++) counters.countHost(`h${index}`);
  counters.countHost('h0');
  const told = counters.takeNews()?.onDemand ?? [];
  assert.equal(told.length, 65);
  assert.deepEqual(told[0], { hostname: 'h0', count: 2 });
  assert.deepEqual(told.at(-1), { hostname: undefined, count: 36 });
  assert.equal(counters.takeNews(), undefined);
});

test('nothing is sent by the clock while the main thread has not taken what was sent; when it asks everything is', () => {
  const engine = makeEngine();
  const sent: (readonly DnsPodCounts[])[] = [];
  const reports = new CountReports(engine, counts => sent.push(counts));
  const counters = new DnsCounters();
  const counting: Counting = {
    takeCounts: () => {
      const news = counters.takeNews();
      return news === undefined ? undefined : { uid: 'pod', source: undefined, ...news };
    },
  };
  const count = (): void => {
    counters.garbage++;
    reports.hasNews(counting);
  };
  const pass = (ms: number): void => {
    engine.timers.fire(engine.nowMs + ms);
  };
  count();
  count();
  assert.equal(sent.length, 0);
  pass(1001);
  assert.equal(sent.length, 1);
  assert.equal(sent[0]?.[0]?.garbage, 2);
  count();
  pass(5000);
  assert.equal(sent.length, 1);
  reports.tell();
  assert.equal(sent.length, 2);
  assert.equal(sent[1]?.[0]?.garbage, 1);
  reports.tell();
  assert.equal(sent.length, 2);
  reports.acknowledge();
  reports.acknowledge();
  count();
  pass(10_000);
  assert.equal(sent.length, 3);
  engine.close();
});
