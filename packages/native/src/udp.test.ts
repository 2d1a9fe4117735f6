import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from './errno.ts';
import type { Fd } from './fd.ts';
import { EventMask } from './reactor.ts';
import { openFdCount } from './resources.ts';
import { Slab } from './slab.ts';
import { recv, send } from './socket-io.ts';
import { bindTo, localAddress, startConnect } from './socket-setup.ts';
import { waitFor } from './testing.ts';
import { openUdp, recvFrom, sendTo, UdpAddresses } from './udp.ts';

const LOOPBACK = { ip: '127.0.0.1', port: 0 };

function bound(ip = '127.0.0.1', options = {}): Fd {
  const fd = openUdp(ip.includes(':') ? 'ipv6' : 'ipv4', options);
  assert.equal(bindTo(fd, { ip, port: 0 }), 0);
  return fd;
}

test('a datagram arrives whole, with its sender, and can be answered by that place', () => {
  using server = bound();
  using client = bound();
  const slab = Slab.allocate(2048);
  const peers = UdpAddresses.allocate(4);
  assert.equal(recvFrom(server, slab, 0, 512, peers, 0), -Errno.EAGAIN);
  assert.equal(peers.get(0), undefined);
  peers.set(1, localAddress(server));
  slab.bytes.write('question', 100);
  assert.equal(sendTo(client, slab, 100, 8, peers, 1), 8);
  assert.equal(recvFrom(server, slab, 0, 512, peers, 0), 8);
  assert.equal(slab.bytes.toString('latin1', 0, 8), 'question');
  assert.deepEqual(peers.get(0), localAddress(client));
  peers.copy(3, peers, 0);
  slab.bytes.write('answer', 200);
  assert.equal(sendTo(server, slab, 200, 6, peers, 3), 6);
  assert.equal(recvFrom(client, slab, 0, 512, peers, 2), 6);
  assert.ok(peers.equals(2, peers, 1) && !peers.equals(2, peers, 0));
});

test('a datagram that is too long says its length, an empty one is 0', () => {
  using server = bound();
  using client = bound();
  const slab = Slab.allocate(2048);
  const peers = UdpAddresses.allocate(1);
  peers.set(0, localAddress(server));
  slab.bytes.fill(7);
  assert.equal(sendTo(client, slab, 0, 1000, peers, 0), 1000);
  assert.equal(sendTo(client, slab, 0, 0, peers, 0), 0);
  slab.bytes.fill(0);
  assert.equal(recvFrom(server, slab, 0, 100, peers, 0), 1000);
  assert.ok(slab.bytes.subarray(0, 100).every(byte => byte === 7) && slab.bytes[100] === 0);
  assert.equal(recvFrom(server, slab, 0, 100, peers, 0), 0);
  assert.deepEqual(peers.get(0), localAddress(client));
});

test('a dual-stack socket answers IPv4, an IPv6-only one does not hear it', () => {
  using client = bound();
  const slab = Slab.allocate(64);
  const peers = UdpAddresses.allocate(2);
  using dual = bound('::');
  peers.set(0, { ip: '127.0.0.1', port: localAddress(dual).port });
  assert.equal(sendTo(client, slab, 0, 4, peers, 0), 4);
  assert.equal(recvFrom(dual, slab, 0, 64, peers, 1), 4);
  assert.deepEqual(peers.get(1), localAddress(client), 'mapped addresses read as IPv4');
  assert.equal(sendTo(dual, slab, 0, 5, peers, 1), 5);
  assert.equal(recvFrom(client, slab, 0, 64, peers, 1), 5);
  // By an address that was written as text, too.
  peers.set(1, localAddress(client));
  assert.equal(sendTo(dual, slab, 0, 6, peers, 1), 6);
  assert.equal(recvFrom(client, slab, 0, 64, peers, 1), 6);
  using only = bound('::', { v6Only: true });
  using again = openUdp('ipv4');
  assert.equal(bindTo(again, { ip: '0.0.0.0', port: localAddress(only).port }), 0, 'the IPv4 port is free');
});

test('two sockets share a port when both say so', () => {
  using first = bound('127.0.0.1', { reusePort: true });
  const { port } = localAddress(first);
  using second = openUdp('ipv4', { reusePort: true });
  assert.equal(bindTo(second, { ip: '127.0.0.1', port }), 0);
  using third = openUdp('ipv4');
  assert.equal(bindTo(third, { ip: '127.0.0.1', port }), -Errno.EADDRINUSE);
});

test('a connected socket speaks by recv and send, and learns of a refusal', () => {
  const server = bound();
  using client = openUdp('ipv4');
  assert.equal(startConnect(client, localAddress(server)), 0);
  const slab = Slab.allocate(64);
  const peers = UdpAddresses.allocate(1);
  assert.equal(send(client, slab, 0, 9), 9);
  assert.equal(recvFrom(server, slab, 0, 64, peers, 0), 9);
  assert.equal(sendTo(server, slab, 0, 10, peers, 0), 10);
  assert.equal(recv(client, slab, 0, 64), 10);
  server.close();
  assert.equal(send(client, slab, 0, 9), 9);
  waitFor(client, EventMask.IN);
  assert.equal(recv(client, slab, 0, 64), -Errno.ECONNREFUSED);
});

test("node's own sockets understand ours, and the reactor wakes for them", async () => {
  using server = bound('::1');
  const client = createSocket('udp6').unref();
  const slab = Slab.allocate(64);
  const peers = UdpAddresses.allocate(1);
  const ready = once(client, 'message');
  client.send('ping', localAddress(server).port, '::1');
  await once(client, 'listening');
  await new Promise<void>(resolve => {
    client.send('pong', localAddress(server).port, '::1', () => resolve());
  });
  waitFor(server, EventMask.IN);
  assert.equal(recvFrom(server, slab, 0, 64, peers, 0), 4);
  assert.equal(slab.bytes.toString('latin1', 0, 4), 'ping');
  assert.deepEqual(peers.get(0), { ip: '::1', port: client.address().port });
  assert.equal(sendTo(server, slab, 0, 4, peers, 0), 4);
  const [message] = (await ready) as [Buffer];
  assert.equal(message.toString(), 'ping');
  client.close();
});

test('places: outside, empty, and no address', () => {
  using fd = bound();
  const slab = Slab.allocate(64);
  const peers = UdpAddresses.allocate(2);
  assert.throws(() => sendTo(fd, slab, 0, 1, peers, 0), { code: 'native.argument' });
  assert.throws(() => peers.set(0, { ip: 'localhost', port: 1 }), { code: 'native.argument' });
  assert.throws(() => peers.set(0, { ip: '127.0.0.1', port: 65536 }), { code: 'native.argument' });
  assert.throws(() => sendTo(fd, slab, 0, 1, peers, 0), { code: 'native.argument' });
  for (const index of [-1, 2, 0.5, Number.NaN, 2 ** 32]) {
    assert.throws(() => peers.get(index), { code: 'native.bounds' });
    assert.throws(() => recvFrom(fd, slab, 0, 64, peers, index), { code: 'native.bounds' });
    assert.throws(() => sendTo(fd, slab, 0, 1, peers, index), { code: 'native.bounds' });
    assert.throws(() => peers.copy(0, peers, index), { code: 'native.bounds' });
  }
  for (const count of [0, -1, 1.5, 2 ** 21]) {
    assert.throws(() => UdpAddresses.allocate(count), { code: 'native.argument' });
  }
});

test('whatever numbers come, memory outside the region stays as it was', () => {
  using server = bound();
  using client = bound();
  const slab = Slab.allocate(256);
  const peers = UdpAddresses.allocate(1);
  const odd = fc.oneof(fc.integer({ min: -8, max: 264 }), fc.constantFrom(2 ** 31, 2 ** 32, Number.NaN, 0.5, Infinity));
  fc.assert(
    fc.property(odd, odd, fc.nat(256), (offset, length, size) => {
      peers.set(0, localAddress(server));
      slab.bytes.fill(1);
      assert.equal(sendTo(client, slab, 0, size, peers, 0), size);
      slab.bytes.fill(2);
      let n: number;
      try {
        n = recvFrom(server, slab, offset, length, peers, 0);
      } catch (error) {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'native.bounds');
        recvFrom(server, slab, 0, 256, peers, 0);
        return;
      }
      assert.equal(n, size);
      const end = offset + Math.min(n, length);
      for (let i = 0; i < 256; i++) assert.equal(slab.bytes[i], i >= offset && i < end ? 1 : 2);
    }),
    { seed: 16, numRuns: 300 },
  );
});

test('sockets that cannot be had leave nothing open', () => {
  const before = openFdCount();
  openUdp('ipv4', { reusePort: true }).close();
  openUdp('ipv6', { reusePort: true, v6Only: true }).close();
  const fd = openUdp('ipv4');
  assert.equal(bindTo(fd, { ip: '192.0.2.1', port: 1 }), -Errno.EADDRNOTAVAIL);
  assert.equal(bindTo(fd, LOOPBACK), 0);
  fd.close();
  assert.throws(() => recvFrom(fd, Slab.allocate(8), 0, 8, UdpAddresses.allocate(1), 0), { code: 'native.closed' });
  assert.equal(openFdCount(), before);
});
