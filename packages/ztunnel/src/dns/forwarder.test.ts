import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import dnsPacket from 'dns-packet';
import { openTcp, openUdp, ownedFdCount } from '@ambit/native';
import type { Engine } from '@ambit/proxy';
import { Flag, Rcode } from './codec/numbers.ts';
import {
  type Answering,
  answerFor,
  FakeResolver,
  freePort,
  LOOPBACK,
  makeEngine,
  queryFor,
  setOf,
  turnUntil,
} from './dns-testing.ts';
import type { ResolverSet } from './dns-messages.ts';
import { Forwarder } from './forwarder.ts';

let engine: Engine;
let unsolicited: number;
let closers: Array<() => void>;
let ownedBefore: number;

beforeEach(() => {
  ownedBefore = ownedFdCount();
  engine = makeEngine();
  unsolicited = 0;
  closers = [];
});

afterEach(() => {
  for (const close of closers) close();
  engine.close();
  // Every socket of every question, the unanswered ones too.
  assert.equal(ownedFdCount(), ownedBefore);
});

function serve(answering: Answering): FakeResolver {
  const server = new FakeResolver(engine, answering);
  closers.push(() => server.close());
  return server;
}

function forwarderTo(set: ResolverSet): Forwarder {
  const forwarder = new Forwarder(
    {
      engine,
      openUdp: () => openUdp('ipv4'),
      openTcp: () => openTcp('ipv4'),
      onUnsolicited: () => unsolicited++,
    },
    set,
  );
  closers.push(() => forwarder.close('over'));
  return forwarder;
}

/** The answer's bytes, or why there is none. */
function ask(forwarder: Forwarder, wantsWhole = false, name = 'www.example.com'): Buffer | string {
  const message = queryFor(name);
  let outcome: Buffer | string | undefined;
  forwarder.ask({ message, questionEnd: message.length, wantsWhole }, got => {
    outcome = got.kind === 'failed' ? got.error : Buffer.from(got.bytes.subarray(0, got.length));
  });
  turnUntil(engine, () => outcome !== undefined, 'an outcome');
  assert.equal(forwarder.size, 0);
  return outcome ?? '';
}

function addressIn(answer: Buffer | string): unknown {
  assert.ok(typeof answer !== 'string', String(answer));
  const [record] = dnsPacket.decode(answer).answers ?? [];
  return record?.type === 'A' ? record.data : undefined;
}

test('the query goes out as it is but for a random id, from one of several ports', () => {
  const server = serve(query => [answerFor(query)]);
  const forwarder = forwarderTo(setOf([server.resolver]));
  for (let round = 0; round < 40; round++) assert.equal(addressIn(ask(forwarder)), '192.0.2.1');
  for (const query of server.queries) assert.deepEqual(query.subarray(2), queryFor('www.example.com').subarray(2));
  assert.ok(new Set(server.queries.map(query => query.readUInt16BE(0))).size > 35);
  assert.equal(new Set(server.ports.slice(0, 8)).size, 8);
  assert.equal(new Set(server.ports).size, 8);
  assert.ok(new Set(server.ports.slice(8)).size > 3);
});

test('a port is given up after 128 questions, and after ten seconds', () => {
  const server = serve(query => [answerFor(query)]);
  const forwarder = forwarderTo(setOf([server.resolver]));
  const rounds = 8 * 128 + 50;
  for (let round = 0; round < rounds; round++) ask(forwarder);
  const uses = new Map<number, number>();
  for (const port of server.ports) uses.set(port, (uses.get(port) ?? 0) + 1);
  assert.ok(uses.size > 8);
  // A port may come again by chance, so not every one is held to it.
  assert.ok([...uses.values()].filter(count => count > 128).length <= 1);
  const before = new Set(server.ports);
  const owned = ownedFdCount();
  engine.timers.fire(engine.nowMs + 10_001);
  assert.equal(ownedFdCount(), owned - 8);
  server.ports.length = 0;
  for (let round = 0; round < 8; round++) ask(forwarder);
  assert.ok(server.ports.filter(port => before.has(port)).length < 4);
});

test('an answer that comes too late is no guess, and one that was forged is', () => {
  const held: Buffer[] = [];
  const late = serve(query => {
    held.push(answerFor(query, 0, '192.0.2.7'));
    return held.length < 2 ? [] : [Buffer.from(held[0] ?? ''), Buffer.from(held[1] ?? '')];
  });
  const server = serve(query => [answerFor(query)]);
  const forwarder = forwarderTo(setOf([late.resolver, server.resolver], { timeoutMs: 50 }));
  assert.equal(addressIn(ask(forwarder)), '192.0.2.1');
  assert.equal(unsolicited, 0);
  forwarder.setResolvers(setOf([late.resolver]));
  assert.equal(addressIn(ask(forwarder)), '192.0.2.7');
  // From another socket by now: the first answer is one to the question of that socket only.
  assert.equal(unsolicited, 1);
});

test('answers with another id, another question or no question are counted and ignored', () => {
  const server = serve(query => {
    const otherId = answerFor(query, 0, '6.6.6.6');
    otherId.writeUInt16BE(query.readUInt16BE(0) ^ 1, 0);
    const otherQuestion = answerFor(queryFor('www.example.org', 'A', query.readUInt16BE(0)), 0, '6.6.6.6');
    return [otherId, otherQuestion, query, Buffer.alloc(0), Buffer.alloc(5), answerFor(query)];
  });
  assert.equal(addressIn(ask(forwarderTo(setOf([server.resolver])))), '192.0.2.1');
  assert.equal(unsolicited, 5);
});

test('a guesser who floods the port makes the question move to another', () => {
  let isFirst = true;
  const server = serve(query => {
    const wrong = answerFor(query, 0, '6.6.6.6');
    wrong.writeUInt16BE(query.readUInt16BE(0) ^ 1, 0);
    const flood = isFirst ? Array.from({ length: 16 }, () => wrong) : [];
    isFirst = false;
    return [...flood, answerFor(query)];
  });
  assert.equal(addressIn(ask(forwarderTo(setOf([server.resolver])))), '192.0.2.1');
  assert.equal(new Set(server.ports).size, 2);
});

test('a resolver that nobody listens at is passed over at once, and asked last from then on', () => {
  const dead = { ip: LOOPBACK, port: freePort() };
  const server = serve(query => [answerFor(query)]);
  const forwarder = forwarderTo(setOf([dead, server.resolver], { timeoutMs: 30_000 }));
  assert.equal(addressIn(ask(forwarder)), '192.0.2.1');
  assert.equal(addressIn(ask(forwarder)), '192.0.2.1');
});

test('a silent resolver is passed over after a while, its late answer counts, and later questions begin elsewhere', () => {
  const held: Buffer[] = [];
  const silent = serve(query => {
    held.push(query);
    return [];
  });
  const server = serve(query => [answerFor(query)]);
  const forwarder = forwarderTo(setOf([silent.resolver, server.resolver], { timeoutMs: 1000 }));
  assert.equal(addressIn(ask(forwarder)), '192.0.2.1');
  assert.equal(addressIn(ask(forwarder)), '192.0.2.1');
  assert.equal(held.length, 1);
  assert.equal(server.queries.length, 2);
});

test('when nobody answers there is an error after the last attempt', () => {
  const silent = serve(() => []);
  const outcome = ask(forwarderTo(setOf([silent.resolver], { timeoutMs: 50, attempts: 3 })));
  assert.equal(outcome, 'no resolver answered');
  assert.equal(silent.queries.length, 3);
});

test('a refusal is passed on only when no other resolver says more', () => {
  const refusing = serve(query => [answerFor(query, Rcode.REFUSED)]);
  const server = serve(query => [answerFor(query)]);
  assert.equal(addressIn(ask(forwarderTo(setOf([refusing.resolver, server.resolver])))), '192.0.2.1');
  const failing = serve(query => [answerFor(query, Rcode.SERVFAIL)]);
  const both = ask(forwarderTo(setOf([refusing.resolver, failing.resolver])));
  assert.ok(typeof both !== 'string' && [Rcode.REFUSED, Rcode.SERVFAIL].some(code => code === (both[3] ?? 0) % 16));
});

test('no such name is an answer and not a reason to ask elsewhere', () => {
  const first = serve(query => [answerFor(query, Rcode.NXDOMAIN)]);
  const second = serve(query => [answerFor(query)]);
  const answer = ask(forwarderTo(setOf([first.resolver, second.resolver])));
  assert.ok(typeof answer !== 'string' && (answer[3] ?? 0) % 16 === Rcode.NXDOMAIN);
  assert.equal(second.queries.length, 0);
});

test('a cut answer is asked for again over TCP exactly for those who want it whole', () => {
  const server = serve((query, isTcp) => [answerFor(query, isTcp ? 0 : Flag.TC, isTcp ? '192.0.2.99' : '192.0.2.1')]);
  const forwarder = forwarderTo(setOf([server.resolver]));
  assert.equal(addressIn(ask(forwarder, true)), '192.0.2.99');
  const cut = ask(forwarder, false);
  assert.ok(typeof cut !== 'string' && (cut.readUInt16BE(2) & Flag.TC) !== 0);
});

test('a TCP answer to something else is a failure', () => {
  const server = serve((query, isTcp) => [
    isTcp ? answerFor(queryFor('other.example.com', 'A', query.readUInt16BE(0))) : answerFor(query, Flag.TC),
  ]);
  const outcome = ask(forwarderTo(setOf([server.resolver], { attempts: 1 })), true);
  assert.match(String(outcome), /answered something else over TCP/);
});

test('rotation begins each question with another resolver', () => {
  const servers = [serve(query => [answerFor(query)]), serve(query => [answerFor(query)])];
  const forwarder = forwarderTo(
    setOf(
      servers.map(({ resolver }) => resolver),
      { rotate: true },
    ),
  );
  for (let round = 0; round < 6; round++) ask(forwarder);
  assert.deepEqual(
    servers.map(({ queries }) => queries.length),
    [3, 3],
  );
});
