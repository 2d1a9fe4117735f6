import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ip } from '@ambit/mesh';
import {
  closed,
  type ConnectionFacts,
  hasNews,
  nothingTold,
  ongoing,
  OPENED,
  recordOf,
  refused,
} from './connection-facts.ts';

const NETWORK = { rttUs: 1500, totalRetransmits: 3 };
const FINISHED = { kind: 'finished' } as const;

function facts(): ConnectionFacts {
  const address = { ip: '10.0.0.1' as Ip, port: 1 };
  return {
    id: '0-1',
    pod: 'p',
    direction: 'outbound',
    startedAtMs: 0,
    protocol: 'HBONE',
    source: address,
    sourceWorkload: undefined,
    sourceIdentity: undefined,
    destination: address,
    destinationWorkload: undefined,
    destinationIdentity: undefined,
    originalDestination: undefined,
    authority: undefined,
    service: undefined,
    tls: undefined,
    traceId: undefined,
    connectMs: 1,
    policy: undefined,
    isCanary: false,
    told: { ...nothingTold(), retransmits: 1 },
  };
}

test('what the records of a connection call fresh adds up to the connection, however often it is told of', () => {
  for (const telling of [
    [],
    [OPENED],
    [ongoing(10, 0, NETWORK, undefined)],
    [OPENED, ongoing(10, 5, NETWORK, undefined), ongoing(12, 5, NETWORK, undefined)],
  ]) {
    const one = facts();
    const records = [...telling, closed(FINISHED, 20, 7, NETWORK)].map(outcome => recordOf(one, outcome));
    const sum = (read: (news: (typeof records)[number]['fresh']) => number) =>
      records.reduce((total, { fresh }) => total + read(fresh), 0);
    assert.equal(
      sum(news => Number(news.opened)),
      1,
    );
    assert.equal(records[0]?.fresh.opened, true, 'the first record tells of the opening');
    assert.deepEqual([sum(news => news.bytesToServer), sum(news => news.bytesToClient)], [20, 7]);
    assert.equal(
      sum(news => news.retransmits),
      2,
      'those before the connection are not its own',
    );
  }
});

test('a refused connection never opened', () => {
  assert.equal(recordOf(facts(), refused('route.loop', 'no')).fresh.opened, false);
});

test('there is news of an opening and of bytes, and none of a connection at rest', () => {
  const one = facts();
  assert.equal(hasNews(one, ongoing(0, 0, NETWORK, undefined)), true);
  const record = recordOf(one, ongoing(0, 0, NETWORK, undefined));
  assert.deepEqual([record.event, record.rttMs], ['progress', 1.5]);
  assert.equal(hasNews(one, ongoing(0, 0, NETWORK, undefined)), false);
  assert.equal(hasNews(one, ongoing(0, 1, NETWORK, undefined)), true);
});
