import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { createNetNs } from './net-ns.ts';
import { NetlinkProtocol, NetlinkSocket } from './netlink.ts';
import { setLink } from './rtnetlink-links.ts';
import { listListeners, readListener } from './sock-diag.ts';
import { bindTo, listenTcp, localAddress, openTcp, startConnect } from './socket-setup.ts';
import { acceptOne, netNsSkip } from './testing.ts';
import { openUdp } from './udp.ts';

const skip = netNsSkip();

test('listeners of both protocols and families are found, from outside too', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.SOCK_DIAG));
  assert.deepEqual(listListeners(socket), []);
  const opened = ns.run(() => {
    setLink(1, { up: true });
    const any = listenTcp({ address: '::', port: 8080, backlog: 1 });
    const one = listenTcp({ address: '127.0.0.1', port: 8081, backlog: 1 });
    const datagrams = openUdp('ipv4');
    assert.equal(bindTo(datagrams, { ip: '0.0.0.0', port: 53 }), 0);
    const v6 = openUdp('ipv6', { v6Only: true });
    assert.equal(bindTo(v6, { ip: '::1', port: 5353 }), 0);
    return [any.fd, one.fd, datagrams, v6];
  });
  const inodes = opened.map(fd => fstatSync(fd.number).ino);
  const uid = process.getuid?.() ?? 0;
  const byPort = (a: { port: number }, b: { port: number }) => a.port - b.port;
  const expected = [
    { protocol: 'udp', ip: '0.0.0.0', port: 53, isOneFamily: true, inode: inodes[2], uid },
    { protocol: 'udp', ip: '::1', port: 5353, isOneFamily: true, inode: inodes[3], uid },
    { protocol: 'tcp', ip: '::', port: 8080, isOneFamily: false, inode: inodes[0], uid },
    { protocol: 'tcp', ip: '127.0.0.1', port: 8081, isOneFamily: true, inode: inodes[1], uid },
  ];
  assert.deepEqual(listListeners(socket).sort(byPort), expected);
  assert.deepEqual(ns.run(() => listListeners()).sort(byPort), expected);
  for (const fd of opened) fd.close();
  assert.deepEqual(listListeners(socket), []);
});

test('connections and connected datagram sockets are no listeners', { skip }, () => {
  using ns = createNetNs();
  const found = ns.run(() => {
    setLink(1, { up: true });
    const listener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 });
    using client = openTcp('ipv4');
    startConnect(client, { ip: '127.0.0.1', port: listener.port });
    using server = acceptOne(listener.fd);
    assert.ok(localAddress(server).port > 0);
    listener.fd.close();
    using connected = openUdp('ipv4');
    assert.equal(startConnect(connected, { ip: '127.0.0.1', port: 9 }), 0);
    return listListeners();
  });
  assert.deepEqual(found, []);
});

test('hostile entries give a listener or nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0, 2, 10), (raw, family) => {
      const entry = Buffer.from(raw);
      if (entry.length > 0) entry[0] = family;
      const found = readListener('tcp', entry);
      assert.ok(found === undefined || (found.port > 0 && found.ip.length > 1));
      assert.equal(found === undefined, entry.length < 72 || family === 0 || entry.readUInt16BE(4) === 0);
    }),
    { seed: 15, numRuns: 1000 },
  );
});
