import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from './errno.ts';
import { createNetNs, type NetNs } from './net-ns.ts';
import { NetlinkProtocol, NetlinkSocket } from './netlink.ts';
import { openFdCount } from './resources.ts';
import { addAddress, deleteAddress, listAddresses, readAddress } from './rtnetlink-addresses.ts';
import {
  addBridge,
  addVeth,
  deleteLink,
  findLink,
  type Link,
  listLinks,
  readLink,
  setLink,
} from './rtnetlink-links.ts';
import { netNsSkip, toolSkip } from './testing.ts';

const skip = netNsSkip();
const skipTool = skip === false ? toolSkip('ip') : skip;

/** What iproute2 says, our independent witness. */
function witness(ns: NetNs, ...args: string[]): Record<string, unknown>[] {
  const { stdout, status, stderr } = ns.run(() => spawnSync('ip', ['-j', '-d', ...args], { encoding: 'utf8' }));
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as Record<string, unknown>[];
}

function link(name: string): Link {
  const found = findLink(name);
  assert.ok(found !== undefined, `no interface ${name}`);
  return found;
}

test('links are listed as ip lists them', { skip: skipTool }, () => {
  using ns = createNetNs();
  const ours = ns.run(() => {
    addBridge('br0');
    addVeth('left', 'right', { mtu: 1400 });
    setLink(link('left').index, { up: true, master: link('br0').index });
    return listLinks();
  });
  const theirs = witness(ns, 'link', 'show');
  assert.deepEqual(
    ours.map(({ index, name, address, mtu, isUp, isLoopback }) => ({ index, name, address, mtu, isUp, isLoopback })),
    theirs.map(entry => ({
      index: entry['ifindex'],
      name: entry['ifname'],
      address: entry['address'],
      mtu: entry['mtu'],
      isUp: (entry['flags'] as string[]).includes('UP'),
      isLoopback: (entry['flags'] as string[]).includes('LOOPBACK'),
    })),
  );
  const byName = new Map(ours.map(entry => [entry.name, entry]));
  const kinds = ['lo', 'br0', 'left', 'right'].map(name => byName.get(name)?.kind);
  assert.deepEqual(kinds, [undefined, 'bridge', 'veth', 'veth']);
  assert.equal(byName.get('left')?.master, byName.get('br0')?.index);
  assert.equal(byName.get('left')?.link, byName.get('right')?.index);
  assert.equal(byName.get('right')?.mtu, 1400);
});

test('a veth reaches into another namespace and goes with either end', { skip }, () => {
  using host = createNetNs();
  using pod = createNetNs();
  using inPod = pod.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  host.run(() => addVeth('veth1', 'eth0', { peerNetns: pod.fd }));
  const eth0 = findLink('eth0', inPod);
  assert.equal(eth0?.kind, 'veth');
  host.run(() => {
    assert.equal(findLink('eth0'), undefined);
    deleteLink(link('veth1').index);
  });
  assert.equal(findLink('eth0', inPod), undefined);
});

test('a change is seen at once, in the namespace of the socket', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  addVeth('a', 'b', {}, socket);
  const a = findLink('a', socket);
  assert.ok(a !== undefined && !a.isUp);
  setLink(a.index, { name: 'renamed', mtu: 1280 }, socket);
  setLink(a.index, { up: true }, socket);
  assert.deepEqual(findLink('renamed', socket), { ...a, name: 'renamed', mtu: 1280, isUp: true });
  assert.deepEqual(findLink(a.index, socket)?.name, 'renamed');
  setLink(a.index, { up: false }, socket);
  assert.equal(findLink(a.index, socket)?.isUp, false);
  assert.equal(findLink('a', socket), undefined);
});

test('refusals: names taken, indexes unknown, names and numbers that cannot be', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  addBridge('br0', socket);
  assert.throws(() => addBridge('br0', socket), { name: 'SysError', errno: Errno.EEXIST });
  assert.throws(() => addVeth('x', 'br0', {}, socket), { name: 'SysError', errno: Errno.EEXIST });
  assert.throws(() => deleteLink(4711, socket), { name: 'SysError', errno: Errno.ENODEV });
  assert.throws(() => setLink(4711, { up: true }, socket), { name: 'SysError', errno: Errno.ENODEV });
  assert.equal(findLink(4711, socket), undefined);
  for (const name of ['', 'sixteen-letters-', 'a\0b']) {
    assert.throws(() => addBridge(name, socket), { code: 'native.argument' });
  }
  for (const index of [0, -1, 1.5, 2 ** 31, Number.NaN]) {
    assert.throws(() => deleteLink(index, socket), { code: 'native.argument' });
  }
  assert.deepEqual(
    listLinks(socket).map(entry => entry.name),
    ['lo', 'br0'],
  );
});

test('addresses are added, listed as ip lists them, and deleted', { skip: skipTool }, () => {
  using ns = createNetNs();
  const ours = ns.run(() => {
    addBridge('br0');
    setLink(1, { up: true });
    addAddress(link('br0').index, '10.1.0.1/24');
    addAddress(link('br0').index, 'fd00:1::1/64');
    return listAddresses();
  });
  const theirs = witness(ns, 'addr', 'show').flatMap(entry =>
    (entry['addr_info'] as { local: string; prefixlen: number }[]).map(
      ({ local, prefixlen }) => `${String(entry['ifindex'])} ${local}/${prefixlen}`,
    ),
  );
  assert.deepEqual(ours.map(({ index, ip, prefixLength }) => `${index} ${ip}/${prefixLength}`).sort(), theirs.sort());
  assert.ok(ours.every(({ isTentative }) => !isTentative));
  ns.run(() => {
    const { index } = link('br0');
    assert.throws(() => addAddress(index, '10.1.0.1/24'), { name: 'SysError', errno: Errno.EEXIST });
    deleteAddress(index, '10.1.0.1/24');
    deleteAddress(index, 'fd00:1::1/64');
    assert.throws(() => deleteAddress(index, '10.1.0.1/24'), { name: 'SysError', errno: Errno.EADDRNOTAVAIL });
    assert.throws(() => addAddress(index, '10.1.0.1/33'), { code: 'native.argument' });
  });
  assert.deepEqual(
    ns.run(() => listAddresses()).map(({ ip }) => ip),
    ['127.0.0.1', '::1'],
  );
});

test('a listing without a socket leaves none open', () => {
  const before = openFdCount();
  assert.ok(listLinks().some(entry => entry.isLoopback));
  assert.equal(findLink('lo')?.isLoopback, true);
  assert.equal(openFdCount(), before);
});

test('a dump of more than one datagram is whole', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  addBridge('br0', socket);
  const index = findLink('br0', socket)?.index ?? 0;
  for (let i = 0; i < 1000; i++) addAddress(index, `10.${i >> 8}.${i & 255}.1/32`, socket);
  const ips = new Set(listAddresses(socket).map(({ ip }) => ip));
  assert.equal(ips.size, 1000);
});

test('hostile entries give a link, an address or nothing', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 200 }).map(list => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(bytes, raw => {
      const entry = Buffer.from(raw);
      const found = readLink(entry);
      assert.ok(found === undefined || (found.name.length <= 256 && found.address.length < 100));
      const address = readAddress(entry);
      assert.ok(address === undefined || address.family === 4 || address.family === 6);
    }),
    { seed: 12, numRuns: 2000 },
  );
});

test('the kernel agrees that this namespace was left alone', () => {
  const names = readFileSync('/proc/self/net/dev', 'utf8')
    .split('\n')
    .slice(2)
    .map(line => line.split(':')[0]?.trim() ?? '')
    .filter(name => name !== '');
  assert.deepEqual(
    listLinks()
      .map(entry => entry.name)
      .sort(),
    names.sort(),
  );
});
