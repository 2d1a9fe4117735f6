// One pod's DNS proxy over real sockets on loopback: bounds, draining, and what protocol breakers get. What it answers to
// whom is in test/dns.e2e.test.ts.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import dnsPacket from 'dns-packet';
import { createWorkload, type DnsDecision, type Ip, type Workload } from '@ambit/mesh';
import {
  bindTo,
  Errno,
  type Fd,
  openTcp,
  openUdp,
  ownedFdCount,
  recv,
  recvFrom,
  send,
  setReceiveBuffer,
  sendTo,
  Slab,
  startConnect,
  UdpAddresses,
} from '@ambit/native';
import type { Engine } from '@ambit/proxy';
import { parseConfig } from '../config.ts';
import { SocketFactory } from '../worker/socket-factory.ts';
import { workerSettings } from '../worker-settings.ts';
import { FrameSplitter } from './codec/frames.ts';
import { Flag, Rcode } from './codec/numbers.ts';
import type { DnsFromWorker, DnsPodCounts } from './dns-messages.ts';
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
import { MeshLabels } from './mesh-labels.ts';
import { PodDns } from './pod-dns.ts';
import { WorkerDns } from './worker-dns.ts';

const config = parseConfig(
  { PROXY_MODE: 'dedicated', PROXY_WORKLOAD_INFO: 'ns/name/sa', ZTUNNEL_WORKER_THREADS: '1' },
  { cores: 1 },
);
const FORWARD: DnsDecision = { kind: 'forward', steps: [] };
const slab = Slab.allocate(65_535);
const peers = UdpAddresses.allocate(2);

let engine: Engine;
let shared: WorkerDns;
let pod: PodDns;
let port: number;
let told: DnsFromWorker[];
let closers: Array<() => void>;
let ownedBefore: number;
let closedCount: number;
let workload: Workload | undefined;

beforeEach(() => {
  ownedBefore = ownedFdCount();
  engine = makeEngine();
  port = freePort();
  told = [];
  closers = [];
  closedCount = 0;
  workload = undefined;
  shared = new WorkerDns({
    engine,
    settings: { address: LOOPBACK, port, ipv6: false, recordQueries: true },
    tell: message => told.push(message),
  });
  const settings = workerSettings(config, { opens: false, queries: true });
  pod = new PodDns(shared, {
    uid: 'pod',
    sockets: new SocketFactory(settings, undefined),
    workload: () => workload,
    onNoFds: () => undefined,
    onClosed: () => closedCount++,
  });
  pod.open();
});

afterEach(() => {
  for (const close of closers) close();
  pod.close();
  pod.close();
  assert.equal(closedCount, 1);
  shared.close();
  engine.close();
  assert.equal(ownedFdCount(), ownedBefore);
});

function resolve(answering: Answering, attempts = 2): FakeResolver {
  const server = new FakeResolver(engine, answering);
  closers.push(() => server.close());
  shared.setResolvers(setOf([server.resolver], { timeoutMs: 1000, attempts }));
  return server;
}

function keep(fd: Fd): Fd {
  closers.push(() => fd.close());
  return fd;
}

function udpClient(): Fd {
  const fd = keep(openUdp('ipv4'));
  assert.equal(bindTo(fd, { ip: LOOPBACK, port: 0 }), 0);
  return fd;
}

function sendUdp(fd: Fd, message: Buffer): void {
  peers.set(0, { ip: LOOPBACK, port });
  message.copy(slab.bytes);
  assert.equal(sendTo(fd, slab, 0, message.length, peers, 0), message.length);
}

/** The next datagram. */
function receiveUdp(fd: Fd): Buffer {
  let n = -1;
  const isThere = (): boolean => (n = recvFrom(fd, slab, 0, slab.size, peers, 1)) >= 0;
  turnUntil(engine, isThere, 'an answer by UDP');
  return Buffer.from(slab.bytes.subarray(0, n));
}

function tcpClient(): Fd {
  const fd = keep(openTcp('ipv4'));
  const started = startConnect(fd, { ip: LOOPBACK, port });
  assert.ok(started === 0 || started === -Errno.EINPROGRESS);
  return fd;
}

function sendTcp(fd: Fd, ...messages: readonly Buffer[]): void {
  const framed = Buffer.concat(messages.flatMap(each => [Buffer.of(each.length >> 8, each.length & 255), each]));
  framed.copy(slab.bytes);
  assert.equal(send(fd, slab, 0, framed.length), framed.length);
}

/** Answers until there are `count`; `end` is whether the connection has ended. */
function receiveTcp(fd: Fd, count: number): { readonly answers: Buffer[]; readonly end: boolean } {
  const frames = new FrameSplitter(65_535);
  const answers: Buffer[] = [];
  let end = false;
  const isDone = (): boolean => {
    const n = recv(fd, slab, 0, slab.size);
    if (n === 0 || (n < 0 && n !== -Errno.EAGAIN)) end = true;
    if (n > 0) frames.push(slab.bytes.subarray(0, n));
    for (let next = frames.next(); next !== undefined; next = frames.next()) {
      assert.ok(next !== 'too_large');
      answers.push(next);
    }
    return end || answers.length >= count;
  };
  turnUntil(engine, isDone, `${count} answers by TCP`);
  return { answers, end };
}

function rcode(answer: Buffer): number {
  return (answer[3] ?? 0) & 0xf;
}

/** Decides what was asked so far; says how many questions there were. */
function decideAll(decision: DnsDecision = FORWARD): number {
  const questions = told.filter(message => message.type === 'needDns');
  told = told.filter(message => message.type !== 'needDns');
  for (const { id } of questions) shared.onDecision(id, decision);
  return questions.length;
}

test('the mesh is asked by the name in lower case, and its addresses go round', () => {
  const client = udpClient();
  const addresses = ['10.0.0.1' as Ip, '10.0.0.2' as Ip, '10.0.0.3' as Ip];
  const firsts = new Set<unknown>();
  for (let round = 0; round < 3; round++) {
    sendUdp(client, queryFor('CART.Shop'));
    turnUntil(engine, () => told.some(({ type }) => type === 'needDns'), 'a question');
    const [asked] = told;
    assert.ok(asked?.type === 'needDns');
    assert.deepEqual(asked.question, { name: 'cart.shop', type: 'A' });
    decideAll({ kind: 'answer', canonical: undefined, addresses, ttlSeconds: 30, service: 'cart', steps: [] });
    const [first] = dnsPacket.decode(receiveUdp(client)).answers ?? [];
    firsts.add(first?.type === 'A' && first.data);
    told = [];
  }
  assert.equal(firsts.size, 3);
});

test('an unknown client gets SERVFAIL', () => {
  const client = udpClient();
  sendUdp(client, queryFor('a'));
  turnUntil(engine, () => told.length > 0, 'a question');
  decideAll({ kind: 'unknown_client', steps: [] });
  assert.equal(rcode(receiveUdp(client)), Rcode.SERVFAIL);
});

test('garbage is counted and answered where an answer can do no harm', () => {
  const client = udpClient();
  const good = queryFor('a', 'TXT');
  resolve(query => [answerFor(query)]);
  const response = answerFor(good);
  const twoQuestions = dnsPacket.encode({
    type: 'query',
    id: 3,
    questions: [
      { type: 'A', name: 'a' },
      { type: 'A', name: 'b' },
    ],
  });
  const update = Buffer.from(good);
  update.writeUInt16BE(5 << 11, 2);
  sendUdp(client, Buffer.alloc(3));
  sendUdp(client, response);
  sendUdp(client, twoQuestions);
  const malformed = receiveUdp(client);
  assert.equal(rcode(malformed), Rcode.FORMERR);
  assert.equal(malformed.readUInt16BE(0), 3);
  sendUdp(client, update);
  assert.equal(rcode(receiveUdp(client)), Rcode.NOTIMP);
  assert.equal(pod.counters.garbage, 4);
  const transfer = queryFor('a', 'TXT');
  transfer.writeUInt16BE(252, transfer.length - 4);
  sendUdp(client, transfer);
  assert.equal(rcode(receiveUdp(client)), Rcode.NOTIMP);
  sendUdp(client, good);
  assert.equal(receiveUdp(client).readUInt16BE(0), 7);
});

test('identical questions under way go to the resolver once, and each client gets its own id and letters', () => {
  let held: Buffer | undefined;
  const server = resolve(query => {
    held = query;
    return [];
  });
  const [one, two] = [udpClient(), udpClient()];
  sendUdp(one, queryFor('www.x', 'TXT', 1));
  sendUdp(two, queryFor('WWW.X', 'TXT', 2));
  turnUntil(engine, () => pod.underWay === 2 && held !== undefined, 'two under way');
  assert.equal(server.queries.length, 1);
  engine.timers.fire(engine.nowMs);
  // The resolver answers late: the client of the forwarder is its socket, so it is asked a second time and answers then.
  const answering: Answering = query => [answerFor(query)];
  server.answering = answering;
  const answers = [receiveUdp(one), receiveUdp(two)].map(answer => dnsPacket.decode(answer));
  assert.deepEqual(
    answers.map(({ id, questions }) => [id, questions?.[0]?.name]),
    [
      [1, 'www.x'],
      [2, 'WWW.X'],
    ],
  );
  assert.equal(pod.underWay, 0);
  // And a third gets it without the resolver.
  const count = server.queries.length;
  sendUdp(one, queryFor('wWw.x', 'TXT', 3));
  assert.equal(dnsPacket.decode(receiveUdp(one)).questions?.[0]?.name, 'wWw.x');
  assert.equal(server.queries.length, count);
  assert.equal(pod.counters.keptAnswers, 1);
});

test('a flood of one pod is bounded: what is beyond gets SERVFAIL at once, and all is freed in the end', () => {
  const server = resolve(() => [], 1);
  const client = udpClient();
  for (let index = 0; index < 400; index++) {
    sendUdp(client, queryFor(`n${index}.x`, 'TXT', index));
    engine.turn(0);
  }
  // A pod's share of the node's network, where this resolver is.
  const share = 205;
  turnUntil(engine, () => pod.counters.refused === 400 - share, 'refusals');
  assert.equal(pod.underWay, share);
  assert.equal(shared.stats()['dnsNodeQuestions'], share);
  assert.equal(shared.stats()['dnsNodeSockets'], 8);
  for (let index = 0; index < 400 - share; index++) assert.equal(rcode(receiveUdp(client)), Rcode.SERVFAIL);
  turnUntil(engine, () => pod.underWay === 0, 'the end of all');
  assert.equal(shared.stats()['dnsNodeQuestions'], 0);
  assert.equal(rcode(receiveUdp(client)), Rcode.SERVFAIL);
  assert.equal(pod.counters.cell(16, false).requests, 400);
  assert.equal(pod.counters.cell(16, false).upstreamRequests, share);
  assert.equal(pod.counters.cell(16, false).upstreamFailures, share);
  server.answering = query => [answerFor(query)];
  const another = udpClient();
  sendUdp(another, queryFor('after.x', 'TXT', 9));
  assert.equal(rcode(receiveUdp(another)), Rcode.NOERROR);
});

test('pipelined queries are answered, also in one packet, and more than may be under way wait their turn', () => {
  let isHeld = true;
  const server = resolve(query => (isHeld ? [] : [answerFor(query)]));
  const client = tcpClient();
  turnUntil(engine, () => pod.connectionCount === 1, 'a connection');
  sendTcp(client, ...Array.from({ length: 50 }, (_, index) => queryFor(`n${index}.x`, 'TXT', index)));
  turnUntil(engine, () => pod.underWay === 16, 'sixteen under way');
  engine.turn(0);
  assert.equal(pod.underWay, 16);
  isHeld = false;
  const { answers, end } = receiveTcp(client, 50);
  assert.ok(!end);
  assert.equal(new Set(answers.map(answer => answer.readUInt16BE(0))).size, 50);
  assert.ok(server.queries.length >= 50);
});

test('a client that does not read its answers is not read from either, and gets all of them in the end', () => {
  const count = 250;
  const text = Buffer.alloc(250, 'x');
  const server = resolve((query, isTcp) => {
    if (!isTcp) return [answerFor(query, Flag.TC)];
    const questions = dnsPacket.decode(query).questions ?? [];
    const answers = [
      { type: 'TXT', name: questions[0]?.name ?? '', ttl: 60, data: Array.from({ length: 200 }, () => text) } as const,
    ];
    return [dnsPacket.encode({ type: 'response', id: query.readUInt16BE(0), questions, answers })];
  });
  const client = keep(openTcp('ipv4'));
  setReceiveBuffer(client, 4096);
  startConnect(client, { ip: LOOPBACK, port });
  turnUntil(engine, () => pod.connectionCount === 1, 'a connection');
  sendTcp(client, ...Array.from({ length: count }, (_, index) => queryFor(`n${index}.x`, 'TXT', index)));
  // Until the kernel's buffers are full, 4 MiB at most, and nothing moves any more.
  for (let seen = -1, quiet = 0; quiet < 10; quiet = seen === server.queries.length ? quiet + 1 : 0) {
    seen = server.queries.length;
    engine.turn(20);
  }
  assert.ok(server.queries.length < count, `${server.queries.length} were asked`);
  setReceiveBuffer(client, 4 << 20);
  assert.equal(receiveTcp(client, count).answers.length, count);
});

test('a connection gets a bounded part of a turn, and one that sends less than a header ends', () => {
  const [busy, broken] = [tcpClient(), tcpClient()];
  turnUntil(engine, () => pod.connectionCount === 2, 'connections');
  const responses = Array.from({ length: 1500 }, () => answerFor(queryFor('a', 'TXT')));
  sendTcp(busy, ...responses);
  for (let turns = 0; pod.counters.garbage === 0; turns++) {
    assert.ok(turns < 100);
    engine.turn(20);
  }
  assert.ok(pod.counters.garbage < 200, `${pod.counters.garbage} in one turn`);
  assert.equal(receiveTcp(busy, responses.length).answers.length, responses.length);
  sendTcp(broken, ...Array.from({ length: 1000 }, () => Buffer.alloc(0)));
  assert.ok(receiveTcp(broken, 1).end);
  assert.equal(pod.connectionCount, 1);
});

test('what the clients of a pod leave unread is bounded over all its connections', () => {
  const clients = Array.from({ length: 20 }, () => {
    const client = keep(openTcp('ipv4'));
    setReceiveBuffer(client, 4096);
    startConnect(client, { ip: LOOPBACK, port });
    return client;
  });
  turnUntil(engine, () => pod.connectionCount === 20, 'connections');
  for (const client of clients) sendTcp(client, ...Array.from({ length: 16 }, (_, id) => queryFor('mesh', 'A', id)));
  turnUntil(engine, () => pod.underWay === 320, 'questions');
  const addresses = Array.from({ length: 4000 }, (_, index) => `10.0.${index >> 8}.${index & 255}` as Ip);
  decideAll({ kind: 'answer', canonical: undefined, addresses, ttlSeconds: 30, service: 'mesh', steps: [] });
  engine.turn(0);
  assert.ok(pod.unreadBytes <= 4 << 20, `${pod.unreadBytes} bytes are held`);
  assert.ok(pod.connectionCount > 0 && pod.connectionCount < 20, `${pod.connectionCount} connections are left`);
  const open = clients.filter(client => recv(client, slab, 0, 1) === 1);
  assert.ok(open.length > 0);
});

test('an answer that several wait for is whole for each, whatever the first does with it', () => {
  resolve(query => [answerFor(query)]);
  const heard: unknown[] = [];
  // As a SOCKS5 client's connection does when it leads to an endpoint by host name.
  pod.lookup('a.x', 'ipv4', () => shared.resolveHost('other.y', 'ipv4', found => heard.push(found)));
  pod.lookup('a.x', 'ipv4', found => heard.push(found));
  assert.equal(decideAll(), 1);
  turnUntil(engine, () => heard.length === 2, 'both answers');
  const whole = { kind: 'addresses', addresses: ['192.0.2.1'], ttlSeconds: 60 };
  assert.deepEqual(heard, [whole, whole]);
});

test('a client that ends its side still gets its answers, then the connection ends', () => {
  resolve(query => [answerFor(query)]);
  const client = tcpClient();
  turnUntil(engine, () => pod.connectionCount === 1, 'a connection');
  sendTcp(client, queryFor('a.x', 'TXT', 1), queryFor('b.x', 'TXT', 2));
  assert.equal(receiveTcp(client, 2).answers.length, 2);
  client.close();
  turnUntil(engine, () => pod.connectionCount === 0, 'the end of the connection');
});

test('a message that is too large ends the connection, and connections of a pod are bounded', () => {
  const client = tcpClient();
  turnUntil(engine, () => pod.connectionCount === 1, 'a connection');
  Buffer.of(0xff, 0xff).copy(slab.bytes);
  assert.equal(send(client, slab, 0, 2), 2);
  assert.ok(receiveTcp(client, 1).end);
  for (let index = 0; index < 70; index++) tcpClient();
  turnUntil(engine, () => pod.counters.refusedConnections === 6, 'refusals');
  assert.equal(pod.connectionCount, 64);
});

test('an idle connection, and one that sends a query by halves, ends after ten seconds', () => {
  const [idle, slow] = [tcpClient(), tcpClient()];
  turnUntil(engine, () => pod.connectionCount === 2, 'connections');
  Buffer.of(0, 30, 1).copy(slab.bytes);
  assert.equal(send(slow, slab, 0, 3), 3);
  engine.turn(0);
  const realNow = performance.now.bind(performance);
  performance.now = () => realNow() + 11_000;
  try {
    turnUntil(engine, () => pod.connectionCount === 0, 'the end of both');
  } finally {
    performance.now = realNow;
  }
  assert.ok(receiveTcp(idle, 1).end);
});

test('draining answers what is under way and what comes meanwhile, and closes then', () => {
  let isHeld = true;
  const server = resolve(query => (isHeld ? [] : [answerFor(query)]));
  const client = udpClient();
  sendUdp(client, queryFor('a.x', 'TXT', 1));
  turnUntil(engine, () => server.queries.length === 1, 'a query at the resolver');
  pod.drain();
  assert.ok(!pod.isClosed);
  isHeld = false;
  sendUdp(client, queryFor('b.x', 'TXT', 2));
  const ids = [receiveUdp(client), receiveUdp(client)].map(answer => answer.readUInt16BE(0));
  assert.deepEqual(new Set(ids), new Set([1, 2]));
  turnUntil(engine, () => pod.isClosed, 'the close');
  assert.equal(closedCount, 1);
});

test('closing at once leaves nothing behind, whatever was under way', () => {
  resolve(() => []);
  const client = udpClient();
  for (let index = 0; index < 20; index++) sendUdp(client, queryFor(`n${index}.x`, 'TXT', index));
  sendUdp(client, queryFor('mesh', 'A', 99));
  sendTcp(tcpClientConnected(), queryFor('c.x', 'TXT', 1));
  turnUntil(engine, () => pod.underWay === 22, 'all under way');
  pod.close();
  decideAll();
  assert.equal(pod.connectionCount, 0);
  assert.equal(pod.underWay, 0);
});

function tcpClientConnected(): Fd {
  const fd = tcpClient();
  turnUntil(engine, () => pod.connectionCount === 1, 'a connection');
  return fd;
}

test('an address in use is an error that names it', () => {
  const settings = workerSettings({ ...config, inpodPortReuse: false }, { opens: false, queries: true });
  const second = new PodDns(shared, {
    uid: 'second',
    sockets: new SocketFactory(settings, undefined),
    workload: () => undefined,
    onNoFds: () => undefined,
    onClosed: () => undefined,
  });
  assert.throws(() => second.open(), /EADDRINUSE.*UDP/);
  second.close();
});

test('a name that cannot be the mesh’s is forwarded unasked, from a pod that is known', () => {
  resolve(query => [answerFor(query)]);
  shared.setLabels(new MeshLabels(['cart.shop.svc.cluster.local'], 'cluster.local').bits);
  const asked = (): number => told.filter(({ type }) => type === 'needDns').length;
  const client = udpClient();
  sendUdp(client, queryFor('www.example.com', 'A', 1));
  turnUntil(engine, () => asked() === 1, 'a question about an unknown pod');
  workload = createWorkload({ uid: 'w', name: 'web', namespace: 'shop' });
  sendUdp(client, queryFor('www.example.com', 'A', 2));
  assert.equal(receiveUdp(client).readUInt16BE(0), 2);
  assert.equal(asked(), 1);
  sendUdp(client, queryFor('cart.shop', 'A', 3));
  turnUntil(engine, () => asked() === 2, 'a question about a name that may be of the mesh');
});

test('what is counted is told with who the pod is, also after the mesh has forgotten it', () => {
  resolve(query => [answerFor(query)]);
  workload = createWorkload({ uid: 'w', name: 'web', namespace: 'shop' });
  const counts = (): readonly DnsPodCounts[] => told.flatMap(each => (each.type === 'dnsCounts' ? each.counts : []));
  const client = udpClient();
  for (const id of [1, 2]) {
    sendUdp(client, queryFor('www.example.com', 'TXT', id));
    receiveUdp(client);
  }
  shared.counts.tell();
  const [first] = counts();
  assert.equal(first?.uid, 'pod');
  assert.equal(first?.source?.name, 'web');
  assert.deepEqual(
    first?.cells.map(({ query, protocol, requests, upstreamRequests }) => [
      query,
      protocol,
      requests,
      upstreamRequests,
    ]),
    [['TXT', 'udp', 2, 1]],
  );
  assert.equal(first?.keptAnswers, 1);
  workload = undefined;
  pod.countHost('db.example.com');
  shared.counts.tell();
  const [, second] = counts();
  assert.equal(second?.source?.name, 'web');
  assert.deepEqual(second?.onDemand, [{ hostname: 'db.example.com', count: 1 }]);
});

test('answers go out before bulk traffic of the same turn', () => {
  const client = udpClient();
  const notImplemented = queryFor('x', 'A', 5);
  notImplemented[2] = 0x28;
  sendUdp(client, notImplemented);
  let seen = -1;
  engine.enqueue({
    queued: false,
    isBulk: true,
    pump: () => {
      seen = recvFrom(client, slab, 0, slab.size, peers, 1);
    },
  });
  engine.turn(0);
  assert.ok(seen > 0);
  assert.equal(rcode(Buffer.from(slab.bytes.subarray(0, seen))), Rcode.NOTIMP);
});
