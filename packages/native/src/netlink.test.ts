import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNetNs } from './net-ns.ts';
import { NetlinkProtocol, NetlinkSocket } from './netlink.ts';
import { openFdCount } from './resources.ts';
import { netNsSkip } from './testing.ts';

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
