// Whatever numbers, texts and closed objects come in: a call gives a number, throws SysError or NativeError, and never
// touches memory it was not given. Guard bytes around every region show the latter.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NativeError, SysError } from './errors.ts';
import { EventFd } from './event-fd.ts';
import { duplicateFd, duplicateNumber, Fd, ownedFdCount } from './fd.ts';
import { IoVec } from './iovec.ts';
import { NetNs } from './net-ns.ts';
import { openPacketSocket } from './packet-socket.ts';
import { Reactor } from './reactor.ts';
import { openFdCount } from './resources.ts';
import { SeqPacket } from './seqpacket.ts';
import { Slab } from './slab.ts';
import { familyOf } from './socket-address.ts';
import { acceptConnection, closeWithReset, readv, recv, send, shutdownWrite, writev } from './socket-io.ts';
import * as options from './socket-options.ts';
import * as setup from './socket-setup.ts';
import { tcpInfo } from './tcp-info.ts';
import { tcpPair } from './testing.ts';

const SIZE = 4096;

/** Numbers that C would cut, wrap or reinterpret, beside sensible ones. */
const odd = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: SIZE }) },
  fc.integer({ min: -16, max: SIZE + 16 }),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  fc.maxSafeInteger(),
  fc.double(),
  fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 48, 2 ** 53, -0, Number.NaN, Infinity, -Infinity, -1),
);
const text = fc.oneof(
  fc.string({ maxLength: 140 }),
  fc.constantFrom('127.0.0.1', '::1', '::', 'a\0b', '/nowhere', 'x'.repeat(5000), '1'.repeat(60), 'lo'),
  fc.ipV4(),
  fc.ipV6(),
);

/** Everything one round of calls may use; descriptors are of many kinds, some closed. */
interface World {
  readonly fds: readonly Fd[];
  readonly open: Slab;
  readonly closed: Slab;
}

type Call = (world: World, fd: Fd, a: number, b: number, c: number, t: string) => unknown;

const closeIfFd = (result: unknown) => {
  if (result instanceof Fd) result.close();
  return result;
};

const CALLS: Readonly<Record<string, Call>> = {
  recv: (w, fd, a, b) => recv(fd, w.open, a, b),
  recvClosed: (w, fd, a, b) => recv(fd, w.closed, a, b),
  send: (w, fd, a, b) => send(fd, w.open, a, b),
  sendClosed: (w, fd, a, b) => send(fd, w.closed, a, b),
  vector: (w, fd, a, b, c) => {
    const iov = IoVec.allocate(4);
    for (const [offset, length] of [
      [a, b],
      [b, c],
      [0, 16],
      [c, a],
      [8, 8],
    ] as const) {
      try {
        iov.push(w.open, offset, length);
      } catch (error) {
        assert.ok(error instanceof NativeError);
      }
    }
    return a % 2 === 0 ? readv(fd, iov) : writev(fd, iov);
  },
  allocateVector: (_w, _fd, a) => IoVec.allocate(a).count,
  allocateSlab: (_w, _fd, a) => Slab.allocate(a > 1e6 && a <= 2 ** 30 ? 2 ** 31 : a).size,
  accept: (_w, fd) => closeIfFd(acceptConnection(fd)),
  // One end stays open for writing, or nothing would be connected for the rest of the run.
  shutdownWrite: (w, fd) => (fd === w.fds[0] ? 0 : shutdownWrite(fd)),
  duplicateFd: (_w, fd) => closeIfFd(duplicateFd(fd)),
  duplicateNumber: (_w, _fd, a) => closeIfFd(duplicateNumber(a)),
  adopt: (_w, fd, a) => EventFd.adopt(a % 2 === 0 ? fd.number : a).close(),
  startConnect: (_w, fd, a, _b, _c, t) => setup.startConnect(fd, { ip: t, port: a }),
  bindTo: (_w, fd, a, _b, _c, t) => setup.bindTo(fd, { ip: t, port: a }),
  listen: (_w, _fd, a, b, c, t) => setup.listenTcp({ address: t, port: a, backlog: b, mark: c }).fd.close(),
  localAddress: (_w, fd) => setup.localAddress(fd).port,
  peerAddress: (_w, fd) => setup.peerAddress(fd).port,
  originalDestination: (_w, fd) => setup.originalDestination(fd)?.port ?? 0,
  familyOf: (_w, _fd, _a, _b, _c, t) => familyOf(t),
  tcpInfo: (_w, fd) => tcpInfo(fd).rttUs,
  setNoDelay: (_w, fd) => options.setNoDelay(fd),
  setKeepAlive: (_w, fd, a, b, c) => options.setKeepAlive(fd, { idleSeconds: a, intervalSeconds: b, probes: c }),
  setUserTimeout: (_w, fd, a) => options.setUserTimeout(fd, a),
  setMark: (_w, fd, a) => options.setMark(fd, a),
  setTransparent: (_w, fd, a) => options.setTransparent(fd, a > 0 ? 'ipv4' : 'ipv6'),
  setSendBuffer: (_w, fd, a) => options.setSendBuffer(fd, a),
  setReceiveBuffer: (_w, fd, a) => options.setReceiveBuffer(fd, a),
  socketError: (_w, fd) => options.socketError(fd),
  poll: (_w, fd, a) => {
    using reactor = new Reactor();
    const registration = reactor.add(fd, { onEvents: () => undefined });
    // A sensible timeout would really wait.
    const ran = reactor.poll(a > 0 && a < 2 ** 31 && Number.isInteger(a) ? 0 : a === -1 ? 0 : a);
    reactor.remove(registration);
    return ran;
  },
  receive: (_w, fd, a, b) => {
    const received = SeqPacket.fromFd(fd).receive(a, b);
    if (received.kind === 'message') for (const each of received.fds) each.close();
  },
  sendMessage: (w, fd, a, b) => {
    const bytes = w.open.bytes.subarray(a % SIZE || 0, SIZE);
    return SeqPacket.fromFd(fd).send(bytes, b % 2 === 0 ? [] : w.fds.slice(0, 3));
  },
  connectPath: (_w, _fd, _a, _b, _c, t) => SeqPacket.connect(t).close(),
  openNetNs: (_w, _fd, _a, _b, _c, t) => NetNs.open(t).close(),
  netNsOf: (_w, fd) => NetNs.fromFd(duplicateFd(fd)).close(),
  packetSocket: (_w, _fd, _a, _b, _c, t) => openPacketSocket(t).close(),
};

test('random arguments give a number, a SysError or a NativeError, and no leak', () => {
  const beforeOwned = ownedFdCount();
  using pair = tcpPair();
  const [left, right] = SeqPacket.pair();
  const event = EventFd.create();
  const gone = duplicateFd(event.fd);
  gone.close();
  const closed = Slab.allocate(SIZE);
  closed.close();
  const world: World = {
    fds: [pair.client, pair.server, pair.listener.fd, left.fd, right.fd, event.fd, gone],
    open: Slab.allocate(SIZE),
    closed,
  };
  const before = openFdCount();
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.keys(CALLS)),
      fc.nat(world.fds.length - 1),
      odd,
      odd,
      odd,
      text,
      (name, which, a, b, c, t) => {
        const fd = world.fds[which];
        const call = CALLS[name];
        assert.ok(fd !== undefined && call !== undefined);
        try {
          const result = call(world, fd, a, b, c, t);
          if (typeof result === 'number')
            assert.ok(Number.isFinite(result) && result > -4096, `${name} gave ${result}`);
          seen.add(`${name} returned`);
        } catch (error) {
          if (!(error instanceof NativeError) && !(error instanceof SysError)) throw error;
          seen.add(`${name} threw`);
        }
      },
    ),
    { seed: 20261124, numRuns: 20_000 },
  );
  assert.equal(openFdCount(), before);
  // The run is worth something only when it got past the argument checks: these calls alone never succeed here,
  // because what they need is closed, absent, or not what a random text names.
  const never = new Set(['recvClosed', 'sendClosed', 'connectPath', 'openNetNs', 'netNsOf']);
  const missing = Object.keys(CALLS).filter(name => !never.has(name) && !seen.has(`${name} returned`));
  assert.deepEqual(missing, []);
  closeWithReset(event.fd);
  left.close();
  right.close();
  pair[Symbol.dispose]();
  assert.equal(ownedFdCount(), beforeOwned);
});

test('receiving changes exactly the bytes it reports', () => {
  using pair = tcpPair();
  const source = Slab.allocate(SIZE);
  const target = Slab.allocate(SIZE);
  const iov = IoVec.allocate(8);
  const segment = fc.record({ offset: fc.nat(SIZE), length: fc.nat(700) });
  fc.assert(
    fc.property(
      fc.array(segment, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: SIZE }),
      (segments, count) => {
        source.bytes.fill(0xa5);
        target.bytes.fill(0x5a);
        iov.clear();
        const touched = new Uint8Array(SIZE);
        let expected = count;
        for (const { offset, length } of segments) {
          if (offset + length > SIZE) {
            assert.throws(() => iov.push(target, offset, length), { code: 'native.bounds' });
            continue;
          }
          iov.push(target, offset, length);
          const used = Math.min(length, expected);
          touched.fill(1, offset, offset + used);
          expected -= used;
        }
        if (iov.totalBytes === 0) return;
        assert.equal(send(pair.client, source, 0, count), count);
        // Loopback delivers within the send call.
        assert.equal(readv(pair.server, iov), Math.min(count, iov.totalBytes));
        for (let i = 0; i < SIZE; i++) assert.equal(target.bytes[i], touched[i] === 1 ? 0xa5 : 0x5a, `byte ${i}`);
        let left = count - Math.min(count, iov.totalBytes);
        while (left > 0) left -= recv(pair.server, target, 0, left);
      },
    ),
    { seed: 7, numRuns: 300 },
  );
});
