import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { Errno } from './errno.ts';
import { EventFd } from './event-fd.ts';
import { createNetNs } from './net-ns.ts';
import { EventMask } from './reactor.ts';
import { openFdCount } from './resources.ts';
import { Slab } from './slab.ts';
import { send } from './socket-io.ts';
import {
  setKeepAlive,
  setMark,
  setNoDelay,
  setReceiveBuffer,
  setSendBuffer,
  setTransparent,
  setUserTimeout,
  socketError,
} from './socket-options.ts';
import {
  bindTo,
  listenTcp,
  localAddress,
  openTcp,
  originalDestination,
  peerAddress,
  startConnect,
} from './socket-setup.ts';
import { tcpInfo } from './tcp-info.ts';
import { acceptOne, netNsSkip, runIn, tcpPair, toolSkip, waitFor } from './testing.ts';

const namespaced = netNsSkip();
const nft = toolSkip('nft');

test('both ends agree on their addresses', () => {
  using pair = tcpPair();
  assert.deepEqual(peerAddress(pair.server), localAddress(pair.client));
  assert.deepEqual(localAddress(pair.server), { ip: '127.0.0.1', port: pair.listener.port });
});

test('a dual-stack listener shows IPv4 peers as IPv4 and IPv6 peers as IPv6', () => {
  using v4 = tcpPair('::', '127.0.0.1');
  assert.equal(peerAddress(v4.server).ip, '127.0.0.1');
  assert.equal(localAddress(v4.server).ip, '127.0.0.1');
  using v6 = tcpPair('::', '::1');
  assert.equal(peerAddress(v6.server).ip, '::1');
  assert.equal(localAddress(v6.listener.fd).ip, '::');
});

test('a Node client and a Node server talk to our sockets', async () => {
  const listener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 8 });
  const socket = connect(listener.port, '127.0.0.1');
  await new Promise(resolve => socket.once('connect', resolve));
  const accepted = acceptOne(listener.fd);
  assert.equal(peerAddress(accepted).port, socket.localPort);
  const hello = Slab.allocate(2);
  hello.bytes.write('hi');
  send(accepted, hello, 0, 2);
  assert.equal(String(await new Promise(resolve => socket.once('data', resolve))), 'hi');
  socket.destroy();
  accepted.close();
  listener.fd.close();

  const server = createServer(peer => peer.end());
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const client = openTcp('ipv4');
  startConnect(client, { ip: '127.0.0.1', port: address.port });
  waitFor(client, EventMask.OUT);
  assert.equal(socketError(client), 0);
  client.close();
  await new Promise(resolve => server.close(resolve));
});

test('a refused connection is told by socketError, once', () => {
  const listener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 });
  listener.fd.close();
  using client = openTcp('ipv4');
  const started = startConnect(client, { ip: '127.0.0.1', port: listener.port });
  if (started === -Errno.EINPROGRESS) {
    waitFor(client, EventMask.OUT);
    assert.equal(socketError(client), -Errno.ECONNREFUSED);
    assert.equal(socketError(client), 0);
  } else {
    assert.equal(started, -Errno.ECONNREFUSED);
  }
});

test('an address of the other family and a foreign address are refused with an errno', () => {
  using v4 = openTcp('ipv4');
  assert.equal(startConnect(v4, { ip: '::1', port: 1 }), -Errno.EAFNOSUPPORT);
  assert.equal(bindTo(v4, { ip: '192.0.2.1', port: 0 }), -Errno.EADDRNOTAVAIL);
  assert.equal(bindTo(v4, { ip: '127.0.0.1', port: 0 }), 0);
  assert.notEqual(localAddress(v4).port, 0);
});

test('a taken port is an error that names it and leaves no descriptor; reusePort shares it', () => {
  const first = listenTcp({ address: '127.0.0.1', port: 0, backlog: 8, reusePort: true });
  assert.equal(first.reusePort, true);
  const { port } = first;
  const before = openFdCount();
  assert.throws(() => listenTcp({ address: '127.0.0.1', port, backlog: 8 }), {
    code: 'EADDRINUSE',
    call: 'bind',
    message: `bind failed: EADDRINUSE (127.0.0.1 port ${port})`,
  });
  assert.equal(openFdCount(), before);
  const second = listenTcp({ address: '127.0.0.1', port, backlog: 8, reusePort: true });
  assert.equal(second.port, port);
  first.fd.close();
  second.fd.close();
});

test('ports, backlogs, marks and times outside their range are refused', () => {
  using fd = openTcp('ipv4');
  for (const port of [-1, 65536, 1.5, Number.NaN]) {
    assert.throws(() => startConnect(fd, { ip: '127.0.0.1', port }), { code: 'native.argument' });
  }
  for (const call of [
    () => listenTcp({ address: '127.0.0.1', port: 0, backlog: 0 }),
    () => listenTcp({ address: 'localhost', port: 0, backlog: 1 }),
    () => bindTo(fd, { ip: '1.2.3', port: 0 }),
    () => setMark(fd, 2 ** 32),
    () => setMark(fd, -1),
    () => setUserTimeout(fd, -1),
    () => setKeepAlive(fd, { idleSeconds: 0, intervalSeconds: 1, probes: 1 }),
    () => setKeepAlive(fd, { idleSeconds: 1, intervalSeconds: 1, probes: 128 }),
    () => setSendBuffer(fd, 0),
    () => setReceiveBuffer(fd, 2 ** 31),
  ]) {
    assert.throws(call, { code: 'native.argument' });
  }
});

test('options are accepted by a TCP socket and refused by something else', () => {
  using fd = openTcp('ipv6');
  setNoDelay(fd);
  setKeepAlive(fd, { idleSeconds: 180, intervalSeconds: 180, probes: 9 });
  setUserTimeout(fd, 30_000);
  setSendBuffer(fd, 65536);
  using event = EventFd.create();
  assert.throws(() => setNoDelay(event.fd), { name: 'SysError', code: 'ENOTSOCK' });
  assert.equal(setMark(event.fd, 1), -Errno.ENOTSOCK);
  assert.equal(socketError(event.fd), -Errno.ENOTSOCK);
  assert.throws(() => localAddress(event.fd), { code: 'ENOTSOCK' });
  assert.throws(() => tcpInfo(event.fd), { code: 'ENOTSOCK' });
  assert.equal(originalDestination(event.fd), undefined);
});

test('tcpInfo tells state and counts of a live connection', () => {
  using pair = tcpPair();
  assert.equal(tcpInfo(pair.listener.fd).state, 'listen');
  const slab = Slab.allocate(1000);
  send(pair.client, slab, 0, 1000);
  waitFor(pair.server, EventMask.IN);
  const server = tcpInfo(pair.server);
  assert.equal(server.state, 'established');
  assert.equal(server.bytesReceived, 1000);
  const client = tcpInfo(pair.client);
  assert.ok(client.rttUs > 0 && client.rttUs < 1e6, `rtt ${client.rttUs}`);
  assert.ok(client.sendMss >= 500 && client.congestionWindow >= 2);
  assert.equal(client.totalRetransmits, 0);
});

test('a redirected connection tells where it was going, over IPv4 and IPv6', { skip: nft }, () => {
  using ns = createNetNs();
  runIn(ns, 'ip', ['link', 'set', 'lo', 'up']);
  runIn(ns, 'ip', ['address', 'add', '10.9.9.9/32', 'dev', 'lo']);
  runIn(ns, 'ip', ['-6', 'address', 'add', 'fd00:9::9/128', 'dev', 'lo', 'nodad']);
  const listener = ns.run(() => listenTcp({ address: '::', port: 0, backlog: 8 }));
  const rule = `tcp dport 8080 redirect to :${listener.port}`;
  runIn(ns, 'nft', ['-f', '-'], `table inet t { chain c { type nat hook output priority -100; ${rule}; }; }`);
  for (const ip of ['10.9.9.9', 'fd00:9::9']) {
    const client = ns.run(() => openTcp(ip.includes(':') ? 'ipv6' : 'ipv4'));
    startConnect(client, { ip, port: 8080 });
    const server = acceptOne(listener.fd);
    assert.deepEqual(originalDestination(server), { ip, port: 8080 });
    assert.equal(localAddress(server).port, listener.port);
    client.close();
    server.close();
  }
  listener.fd.close();
});

test('a transparent socket connects from an address this host does not have', { skip: namespaced }, () => {
  using ns = createNetNs();
  runIn(ns, 'ip', ['link', 'set', 'lo', 'up']);
  for (const [family, source, prefix, local] of [
    ['ipv4', '192.0.2.77', '192.0.2.0/24', '127.0.0.1'],
    ['ipv6', '2001:db8::77', '2001:db8::/64', '::1'],
  ] as const) {
    const listener = ns.run(() => listenTcp({ address: '::', port: 0, backlog: 8, transparent: 'require' }));
    assert.equal(listener.transparent, true);
    const client = ns.run(() => openTcp(family));
    assert.equal(bindTo(client, { ip: source, port: 0 }), -Errno.EADDRNOTAVAIL);
    assert.equal(setTransparent(client, family), 0);
    assert.equal(bindTo(client, { ip: source, port: 0 }), 0);
    // Only now a way back for the answers: with it the address would count as local and prove nothing.
    runIn(ns, 'ip', ['route', 'add', 'local', prefix, 'dev', 'lo']);
    startConnect(client, { ip: local, port: listener.port });
    const server = acceptOne(listener.fd);
    assert.equal(peerAddress(server).ip, source);
    for (const fd of [client, server, listener.fd]) fd.close();
  }
});

test('a mark is set where it is allowed, on listeners too', { skip: namespaced }, () => {
  using ns = createNetNs();
  const listener = ns.run(() => listenTcp({ address: '127.0.0.1', port: 0, backlog: 1, mark: 1337 }));
  assert.equal(setMark(listener.fd, 0x539), 0);
  listener.fd.close();
});
