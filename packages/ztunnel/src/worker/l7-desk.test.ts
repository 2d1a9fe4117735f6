// A connection's reading between two workers: here two desks, and what moves is cloned as between threads.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Ip } from '@ambit/mesh';
import { Engine, MemoryBudget, openSniffer, pathTemplate, thawSniffer } from '@ambit/proxy';
import { type ConnectionFacts, nothingTold, ongoing, recordOf } from './connection-facts.ts';
import { parseL7Choice } from './l7-choice.ts';
import { L7Desk, type ReadConnection } from './l7-desk.ts';

const ADDRESS = { ip: '192.0.2.1' as Ip, port: 80 };
const NETWORK = { rttUs: 1000, totalRetransmits: 0 };
const GET = Buffer.from('GET /a HTTP/1.1\r\nHost: shop\r\n\r\n');
const OK = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi');

function facts(): ConnectionFacts {
  return {
    id: '0-1',
    pod: 'p',
    direction: 'outbound',
    startedAtMs: 0,
    protocol: 'HBONE',
    source: ADDRESS,
    sourceWorkload: undefined,
    sourceIdentity: undefined,
    destination: ADDRESS,
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
    told: nothingTold(),
  };
}

function desk(t: TestContext, onRequest: (facts: ConnectionFacts) => void = () => undefined): L7Desk {
  const engine = new Engine(new MemoryBudget(1 << 24));
  t.after(() => engine.close());
  return new L7Desk({
    engine,
    settings: { isOn: true, method: false, path: false },
    onRequest,
    openSniffer,
    thawSniffer,
    pathTemplate,
  });
}

function open(at: L7Desk): ReadConnection {
  return at.open(facts(), parseL7Choice(undefined), 80, 'client') ?? assert.fail('it is read');
}

function say(read: ReadConnection, bytes: Uint8Array): void {
  read.tap?.fromTcp(bytes, 0, bytes.length, 1);
}

function hear(read: ReadConnection, bytes: Uint8Array): void {
  read.tap?.toTcp(bytes, 0, bytes.length, 2);
}

test('a request that one worker saw begin is told by the one that saw its end, of the connection as it is there', t => {
  const told: string[] = [];
  const [here, there] = [desk(t), desk(t, ({ id }) => told.push(id))];
  there.setReaders('all');
  const read = open(here);
  say(read, GET.subarray(0, 7));
  say(read, GET.subarray(7));
  hear(read, OK.subarray(0, 20));
  const frozen = structuredClone(read.freeze());
  assert.deepEqual([here.reading, read.tallies.hasNews], [0, false]);
  const moved = there.thaw({ ...facts(), id: '0-2' }, frozen);
  assert.deepEqual([there.reading, moved.protocol], [1, 'http']);
  hear(moved, OK.subarray(20));
  say(moved, GET);
  moved.end(true);
  const { fresh } = recordOf(facts(), ongoing(1, 1, NETWORK, moved));
  assert.deepEqual(
    fresh.requests?.map(({ status, flags, count }) => [status, flags, count]),
    [
      [200, undefined, 1],
      [0, 'DC', 1],
    ],
  );
  assert.deepEqual([told, there.reading], [['0-2', '0-2'], 0]);
});

test('the old worker tells nothing more of a connection that has left', t => {
  const here = desk(t);
  const read = open(here);
  say(read, GET);
  read.freeze();
  read.end(true);
  hear(read, OK);
  assert.deepEqual([read.tallies.hasNews, here.reading], [false, 0]);
});

test('a connection that is not read any more keeps its name, and counts as one where it goes', t => {
  const [here, there] = [desk(t), desk(t)];
  const read = open(here);
  say(read, Buffer.from([0x16, 3, 1, 0, 100, 1, 0, 0]));
  const moved = there.thaw(facts(), structuredClone(read.freeze()));
  assert.deepEqual([moved.protocol, moved.tap, there.reading], ['tls', undefined, 1]);
  moved.end(false);
  assert.deepEqual([here.reading, there.reading, there.givenUp.moved], [0, 0, 0]);
});

test('a state of no use is counted as lost in moving, and the connection goes on', t => {
  const there = desk(t);
  const moved = there.thaw(facts(), { protocol: 'http', tcpSide: 'client', sniffer: { candidate: 1, packed: {} } });
  assert.equal(moved.tap, undefined);
  moved.end(true);
  assert.deepEqual([there.stats()['l7GaveUpMoved'], there.reading], [1, 0]);
});

test('requests that are not followed are told with the records, as they come', t => {
  const read = open(desk(t));
  read.onUntracked();
  read.onUntracked();
  const one = facts();
  const untold = (): number => recordOf(one, ongoing(1, 1, NETWORK, read)).fresh.untalliedRequests;
  assert.deepEqual([untold(), untold()], [2, 0]);
  read.onUntracked();
  assert.deepEqual([untold(), untold()], [1, 0]);
});
