import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Errno } from './errno.ts';
import { NativeError, SysError } from './errors.ts';
import { Fd } from './fd.ts';
import { AF_NETLINK, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_RAW } from './layouts.ts';
import { bind } from './library.ts';
import { createNetNs } from './net-ns.ts';
import { NetlinkProtocol, NetlinkSocket } from './netlink.ts';
import { openFdCount } from './resources.ts';
import { addAddress, listAddresses } from './rtnetlink-addresses.ts';
import { addBridge, findLink } from './rtnetlink-links.ts';
import { Slab } from './slab.ts';
import { netNsSkip, toolSkip } from './testing.ts';

const c_socket = bind<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)');
const c_sendto = bind<(...args: readonly number[]) => number>(
  'int sendto(int fd, uintptr_t data, size_t length, int flags, uintptr_t address, unsigned int size)',
);

const skip = netNsSkip();
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const IFINFOMSG_BYTES = 16;

test('a socket opened inside a namespace answers for it from outside', { skip }, () => {
  using ns = createNetNs();
  using inside = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  using outside = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  const links = inside.dump(RTM_GETLINK, new Uint8Array(IFINFOMSG_BYTES));
  assert.equal(links.length, 1, 'a fresh namespace has lo and nothing else');
  // The namespace itself may be closed: the socket keeps it alive.
  ns.close();
  assert.equal(inside.dump(RTM_GETLINK, new Uint8Array(IFINFOMSG_BYTES)).length, 1);
  assert.ok(outside.dump(RTM_GETLINK, new Uint8Array(IFINFOMSG_BYTES)).length >= 1);
});

test('the refusal of the kernel carries its errno and its sentence', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  const payload = new Uint8Array(IFINFOMSG_BYTES);
  new DataView(payload.buffer).setInt32(4, 4711, true);
  assert.throws(() => socket.request(RTM_DELLINK, 0, payload), { name: 'SysError', code: 'ENODEV' });
  // An attribute of a wrong length is one of the refusals with a text.
  const short = Buffer.concat([payload, Buffer.from([5, 0, 13, 0, 1, 0, 0, 0])]);
  assert.throws(
    () => socket.request(RTM_NEWLINK, 0, short),
    (error: Error) => /netlink failed: E\w+ \(.+\)/.test(error.message),
  );
  assert.equal(socket.dump(RTM_GETLINK, payload.fill(0)).length, 1, 'the socket goes on after a refusal');
});

test('a reply precedes its acknowledgement', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  const payload = Buffer.alloc(IFINFOMSG_BYTES);
  payload.writeInt32LE(1, 4);
  const replies = socket.request(RTM_GETLINK, 0, payload);
  assert.equal(replies.length, 1);
  assert.equal(replies[0]?.readInt32LE(4), 1);
});

/** Port numbers of the namespace's route sockets, without the kernel's own. */
function routePorts(): number[] {
  const rows = readFileSync('/proc/thread-self/net/netlink', 'utf8').trim().split('\n').slice(1);
  const cells = rows.map(row => row.trim().split(/ +/));
  return cells
    .filter(([, protocol]) => protocol === '0')
    .map(([, , port]) => Number(port))
    .filter(port => port !== 0);
}

/** A message such as somebody with rights in the pod can send to another's socket. */
function forge(fd: Fd, port: number, sequence: number): number {
  const slab = Slab.allocate(64);
  slab.bytes.fill(0);
  slab.bytes.writeUInt32LE(36, 0);
  slab.bytes.writeUInt16LE(2, 4); // NLMSG_ERROR with errno 0: an acknowledgement
  slab.bytes.writeUInt32LE(sequence, 8);
  slab.bytes.writeUInt16LE(AF_NETLINK, 40);
  slab.bytes.writeUInt32LE(port, 44);
  return c_sendto(fd.number, slab.address(0, 36), 36, MSG_DONTWAIT, slab.address(40, 12), 12);
}

test('messages of anybody but the kernel count for nothing, also when they fill the socket', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  const missing = Buffer.alloc(IFINFOMSG_BYTES);
  missing.writeInt32LE(4711, 4);
  // The kernel gives a socket its port with the first message.
  assert.throws(() => socket.request(RTM_DELLINK, 0, missing), { code: 'ENODEV' });
  const [port = 0] = ns.run(routePorts);
  assert.notEqual(port, 0);
  using other = new Fd(ns.run(() => c_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NetlinkProtocol.ROUTE)));
  // Its length is read after older messages were thrown away and before the request leaves: the moment to forge.
  class Racing extends Uint8Array {
    override get length(): number {
      for (let sequence = 1; sequence < 5; sequence++) assert.equal(forge(other, port, sequence), 36);
      return super.length;
    }
  }
  assert.throws(() => socket.request(RTM_DELLINK, 0, new Racing(missing)), { code: 'ENODEV' });
  let sent = 0;
  while (forge(other, port, 1) === 36) sent++;
  assert.ok(sent > 10 && sent < 1024, `${sent} messages fill it`);
  assert.equal(socket.dump(RTM_GETLINK, new Uint8Array(IFINFOMSG_BYTES)).length, 1);
});

test('a dump misses nothing while another process changes the table', { skip: toolSkip('ip') }, async () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  addBridge('br0', socket);
  const index = findLink('br0', socket)?.index ?? 0;
  // In front of those that stay: what moves up when they go is what a torn dump misses.
  const churned = Array.from({ length: 500 }, (_, i) => `10.9.${i >> 8}.${i & 255}/32`);
  const kept = Array.from({ length: 1000 }, (_, i) => `10.${i >> 8}.${i & 255}.1`);
  for (const address of [...churned, ...kept.map(ip => `${ip}/32`)]) addAddress(index, address, socket);
  const directory = mkdtempSync(join(tmpdir(), 'ambit-netlink-'));
  try {
    const change = (verb: string) => churned.map(address => `addr ${verb} ${address} dev br0\n`).join('');
    const batch = join(directory, 'batch');
    writeFileSync(batch, (change('del') + change('add')).repeat(4));
    const process = ns.run(() => spawn('ip', ['-batch', batch], { stdio: 'inherit' }));
    const ended = once(process, 'exit');
    while (process.exitCode === null) {
      try {
        const seen = new Set(listAddresses(socket).map(({ ip }) => ip));
        assert.deepEqual(
          kept.filter(ip => !seen.has(ip)),
          [],
        );
      } catch (error) {
        // Allowed to give up, but not to give less.
        if (!(error instanceof SysError) || error.errno !== Errno.EINTR) throw error;
      }
      await setImmediate();
    }
    assert.deepEqual(await ended, [0, null]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a dump of more bytes than are wanted is refused, and the socket closed', { skip }, () => {
  using netns = createNetNs();
  using socket = netns.run(() => NetlinkSocket.open(NetlinkProtocol.ROUTE));
  assert.equal(socket.dump(RTM_GETLINK, Buffer.alloc(IFINFOMSG_BYTES), 8192).length > 0, true);
  assert.throws(
    () => socket.dump(RTM_GETLINK, Buffer.alloc(IFINFOMSG_BYTES), 64),
    (error: unknown) => error instanceof NativeError && error.code === 'native.bounds',
  );
  assert.equal(socket.isOpen, false);
});

test('a transaction is carried out as a whole, or refused by its first mistake', { skip }, () => {
  using ns = createNetNs();
  using socket = ns.run(() => NetlinkSocket.open(NetlinkProtocol.NETFILTER));
  const [nftables, newTable, getTable, inet] = [10, 10 << 8, (10 << 8) | 1, 1];
  const [create, exclusive] = [0x400, 0x200];
  const table = (name: string) => {
    const payload = Buffer.from(`\x01\0\0\0\0\0\x01\0${name}\0`);
    payload.writeUInt16LE(payload.length - 4, 4);
    return { type: newTable, flags: create | exclusive, payload };
  };
  const count = () => socket.dump(getTable, Uint8Array.of(inet, 0, 0, 0)).length;
  socket.transaction(nftables, [table('one'), table('three'), table('fifteen')]);
  assert.equal(count(), 3);
  for (const at of [0, 1, 2]) {
    const mixed = [table('four'), table('five')].toSpliced(at, 0, table('one'));
    assert.throws(() => socket.transaction(nftables, mixed), { name: 'SysError', code: 'EEXIST' });
    assert.equal(count(), 3, 'nothing of it is there, and the socket goes on');
  }
  socket.transaction(nftables, []);
  const tooMany = Array.from({ length: 1000 }, (_, i) => table(`t${i}`));
  assert.throws(() => socket.transaction(nftables, tooMany), { code: 'native.bounds' });
  socket.transaction(nftables, [table('four')]);
  assert.equal(count(), 4);
});

test('what cannot be a request is refused, and a closed socket stays closed', () => {
  const before = openFdCount();
  const socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  assert.throws(() => socket.request(RTM_GETLINK, 0, new Uint8Array(1 << 16)), { code: 'native.argument' });
  socket.close();
  socket.close();
  assert.equal(socket.isOpen, false);
  assert.throws(() => socket.dump(RTM_GETLINK, new Uint8Array(IFINFOMSG_BYTES)), { code: 'native.closed' });
  assert.equal(openFdCount(), before);
});
