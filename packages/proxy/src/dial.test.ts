import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import type { SocketAddress } from '@ambit/mesh';
import { Errno, type Fd, NetNs, openTcp, ownedFdCount, SysError } from '@ambit/native';
import { addressOf } from '../test/mini-mesh.ts';
import { beginDial } from './dial.ts';

const NOWHERE: SocketAddress = addressOf('127.0.0.1:1');

/** What is told of a socket that `open` does not make. */
function told(open: () => Fd): readonly [reason: string, error: string] {
  const dial = beginDial(open, NOWHERE);
  assert.equal(dial.kind, 'failed');
  return dial.kind === 'failed' ? [dial.reason, dial.error] : ['', ''];
}

test('a process without descriptors and any other refusal of a socket have their own reasons', () => {
  const raise = (errno: number) => () => {
    throw new SysError('socket', errno);
  };
  assert.deepEqual(told(raise(Errno.EMFILE)), ['dial.no_fds', 'Too many open files (os error 24)']);
  assert.deepEqual(told(raise(Errno.ENFILE)), ['dial.no_fds', 'Too many open files in system (os error 23)']);
  assert.deepEqual(told(raise(Errno.EACCES)), ['dial.failed', 'EACCES (os error 13)']);
  const bug = (): Fd => {
    throw new TypeError('not a function');
  };
  assert.deepEqual(told(bug), ['dial.failed', 'not a function']);
});

test('a network namespace that cannot be entered is not taken for a lack of descriptors', () => {
  const netns = NetNs.own();
  netns.close();
  const [closed, text] = told(() => netns.run(() => openTcp('ipv4')));
  assert.equal(closed, 'dial.netns_gone');
  assert.match(text, /^cannot enter the pod's network namespace: /);
  const refuse = (): Fd => {
    throw new SysError('setns', Errno.EPERM);
  };
  assert.equal(told(refuse)[0], 'dial.netns_gone');
});

test('a connect that fails at once closes the socket', () => {
  const before = ownedFdCount();
  // An IPv6 socket cannot reach an IPv4 address.
  assert.equal(told(() => openTcp('ipv6'))[0], 'dial.failed');
  assert.equal(ownedFdCount(), before);
});

test('a connect under way leaves the socket to the caller', async () => {
  const server = net.createServer(socket => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const accepted = once(server, 'connection');
  const dial = beginDial(() => openTcp('ipv4'), { ip: NOWHERE.ip, port: address.port });
  assert.ok(dial.kind === 'begun' && dial.fd.isOpen);
  await accepted;
  dial.fd.close();
  server.close();
  await once(server, 'close');
});
