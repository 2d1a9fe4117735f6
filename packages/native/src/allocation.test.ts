// The copy loop must not feed the garbage collector: a collection in the middle of bulk traffic is a latency spike.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Errno } from './errno.ts';
import { EventFd } from './event-fd.ts';
import { IoVec } from './iovec.ts';
import { Reactor } from './reactor.ts';
import { Slab } from './slab.ts';
import { readv, recv, send, writev } from './socket-io.ts';
import { bindTo, localAddress } from './socket-setup.ts';
import { tcpPair } from './testing.ts';
import { openUdp, recvFrom, sendTo, UdpAddresses } from './udp.ts';
import { UdpBatch } from './udp-batch.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const CALLS = 20_000;
/** The smallest thing V8 can allocate is 16 bytes; the rest is the engine's own bookkeeping spread over the calls. */
const MAX_BYTES_PER_CALL = 8;
/** Code not yet optimised boxes its numbers, so the first rounds may allocate. */
const MAX_ROUNDS = 10;

function bytesPerCall(run: () => void): number {
  let least = Infinity;
  for (let round = 0; round < MAX_ROUNDS && least > MAX_BYTES_PER_CALL; round++) {
    collect();
    const before = getHeapStatistics().used_heap_size;
    for (let i = 0; i < CALLS; i++) run();
    least = Math.min(least, Math.abs(getHeapStatistics().used_heap_size - before) / CALLS);
  }
  return least;
}

test('hot calls leave no garbage', () => {
  using pair = tcpPair();
  using wake = EventFd.create();
  using reactor = new Reactor();
  reactor.add(wake.fd, { onEvents: () => void wake.drain() });
  const slab = Slab.allocate(4096);
  const iov = IoVec.allocate(4);
  using datagrams = openUdp('ipv4');
  expect(bindTo(datagrams, { ip: '127.0.0.1', port: 0 }) === 0);
  const peers = UdpAddresses.allocate(2);
  peers.set(0, localAddress(datagrams));
  const batch = UdpBatch.allocate(2, 64);
  batch.peers.copy(0, peers, 0);
  batch.setLength(0, 20);
  const calls: Readonly<Record<string, () => void>> = {
    recv: () => expect(recv(pair.server, slab, 8, 1024) === -Errno.EAGAIN),
    send: () => expect(send(pair.server, slab, 8, 0) === 0),
    vector: () => {
      iov.clear();
      iov.push(slab, 0, 16);
      iov.push(slab, 64, 32);
      expect(readv(pair.server, iov) === -Errno.EAGAIN);
    },
    writev: () => {
      iov.clear();
      iov.push(slab, 0, 0);
      expect(writev(pair.server, iov) === 0);
    },
    datagram: () => {
      expect(sendTo(datagrams, slab, 0, 20, peers, 0) === 20);
      expect(recvFrom(datagrams, slab, 64, 512, peers, 1) === 20);
      expect(peers.equals(0, peers, 1));
    },
    batch: () => {
      expect(batch.send(datagrams, 0, 1) === 1);
      expect(batch.receive(datagrams) === 1);
    },
    poll: () => {
      wake.notify();
      expect(reactor.poll(0) === 1);
    },
  };
  for (const [name, run] of Object.entries(calls)) {
    const bytes = bytesPerCall(run);
    assert.ok(bytes <= MAX_BYTES_PER_CALL, `${name}: ${bytes} bytes per call`);
  }
});

/** `assert.ok` allocates. */
function expect(claim: boolean): void {
  if (!claim) assert.fail('unexpected result');
}
