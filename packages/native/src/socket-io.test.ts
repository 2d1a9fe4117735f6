import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from './errno.ts';
import { EventFd } from './event-fd.ts';
import { duplicateFd, duplicateNumber, Fd } from './fd.ts';
import { IoVec } from './iovec.ts';
import { EventMask } from './reactor.ts';
import { openFdCount } from './resources.ts';
import { Slab } from './slab.ts';
import { acceptConnection, closeWithReset, readv, recv, send, shutdownWrite, writev } from './socket-io.ts';
import { setReceiveBuffer, setSendBuffer } from './socket-options.ts';
import { tcpPair, waitFor } from './testing.ts';

/** Receives exactly `length` bytes, or what there is before the end. */
function receiveAll(fd: Fd, slab: Slab, length: number): number {
  let at = 0;
  while (at < length) {
    const n = recv(fd, slab, at, length - at);
    if (n === 0) break;
    if (n > 0) at += n;
    else {
      assert.equal(n, -Errno.EAGAIN);
      waitFor(fd, EventMask.IN);
    }
  }
  return at;
}

test('bytes arrive where the offset says and nowhere else', () => {
  using pair = tcpPair();
  const out = Slab.allocate(16);
  out.bytes.write('..hello.........', 'latin1');
  const into = Slab.allocate(16);
  into.bytes.fill('#');
  assert.equal(recv(pair.server, into, 0, 16), -Errno.EAGAIN);
  assert.equal(send(pair.client, out, 2, 5), 5);
  assert.equal(send(pair.client, out, 2, 0), 0);
  waitFor(pair.server, EventMask.IN);
  assert.equal(recv(pair.server, into, 3, 10), 5);
  assert.equal(into.bytes.toString('latin1'), '###hello########');
});

test('end of stream is 0, and sending after one is -EPIPE and not a signal', () => {
  using pair = tcpPair();
  const slab = Slab.allocate(8);
  assert.equal(shutdownWrite(pair.client), 0);
  waitFor(pair.server, EventMask.RDHUP);
  assert.equal(recv(pair.server, slab, 0, 8), 0);
  const iov = IoVec.allocate(1);
  iov.push(slab, 0, 8);
  assert.equal(send(pair.client, slab, 0, 8), -Errno.EPIPE);
  assert.equal(writev(pair.client, iov), -Errno.EPIPE);
});

test('a reset close reaches the peer as ECONNRESET and closes once', () => {
  using pair = tcpPair();
  closeWithReset(pair.client);
  closeWithReset(pair.client);
  assert.equal(pair.client.isOpen, false);
  waitFor(pair.server, EventMask.ERR);
  assert.equal(recv(pair.server, Slab.allocate(8), 0, 8), -Errno.ECONNRESET);
});

test('a vector is gathered and scattered in order, partial counts included', () => {
  using pair = tcpPair();
  const [a, b, whole] = [Slab.allocate(8), Slab.allocate(8), Slab.allocate(64)];
  a.bytes.write('abcdefgh');
  b.bytes.write('ABCDEFGH');
  const iov = IoVec.allocate(3);
  iov.push(a, 4, 4);
  iov.push(b, 0, 0);
  iov.push(b, 6, 2);
  assert.equal(writev(pair.client, iov), 6);
  assert.equal(receiveAll(pair.server, whole, 6), 6);
  assert.equal(whole.bytes.toString('latin1', 0, 6), 'efghGH');
  assert.equal(send(pair.server, whole, 0, 6), 6);
  waitFor(pair.client, EventMask.IN);
  iov.clear();
  iov.push(a, 0, 1);
  iov.push(b, 0, 8);
  assert.equal(readv(pair.client, iov), 6);
  assert.equal(`${a.bytes.toString('latin1', 0, 1)} ${b.bytes.toString('latin1', 0, 5)}`, 'e fghGH');
});

test('a full send buffer gives a short count, then -EAGAIN, and every accepted byte arrives', () => {
  using pair = tcpPair();
  setSendBuffer(pair.client, 8192);
  setReceiveBuffer(pair.server, 8192);
  const slab = Slab.allocate(1 << 20);
  for (let i = 0; i < slab.size; i++) slab.bytes[i] = (i * 31) & 0xff;
  let sent = 0;
  let n = 0;
  for (; sent < slab.size; sent += n) {
    n = send(pair.client, slab, sent, slab.size - sent);
    if (n < 0) break;
  }
  assert.equal(n, -Errno.EAGAIN);
  const into = Slab.allocate(slab.size);
  assert.equal(receiveAll(pair.server, into, sent), sent);
  assert.ok(into.bytes.subarray(0, sent).equals(slab.bytes.subarray(0, sent)));
});

test('lengths that could be mistaken or lie outside are refused before the kernel sees them', () => {
  using pair = tcpPair();
  const slab = Slab.allocate(8);
  assert.throws(() => recv(pair.server, slab, 0, 0), { code: 'native.bounds' });
  assert.throws(() => recv(pair.server, slab, 0, 9), { code: 'native.bounds' });
  assert.throws(() => send(pair.server, slab, 8, 1), { code: 'native.bounds' });
  assert.throws(() => readv(pair.server, IoVec.allocate(1)), { code: 'native.bounds' });
  slab.close();
  assert.throws(() => recv(pair.server, slab, 0, 8), { code: 'native.closed' });
});

test('the memory of a slab cannot be taken away from it', () => {
  const slab = Slab.allocate(8);
  const memory = slab.bytes.buffer as ArrayBuffer;
  assert.throws(() => structuredClone(slab.bytes, { transfer: [memory] }), { name: 'DataCloneError' });
  assert.throws(() => memory.transfer(), TypeError);
  assert.equal(slab.bytes.length, 8);
});

test('closed and impossible descriptors never reach the kernel', () => {
  const slab = Slab.allocate(8);
  const fd = EventFd.create().fd;
  fd.close();
  for (const call of [
    () => recv(fd, slab, 0, 8),
    () => send(fd, slab, 0, 8),
    () => acceptConnection(fd),
    () => shutdownWrite(fd),
    () => duplicateFd(fd),
  ]) {
    assert.throws(call, { code: 'native.closed' });
  }
  for (const number of [-1, 2 ** 31, 2 ** 32 + 1, 0.5, Number.NaN]) {
    assert.throws(() => new Fd(number), { code: 'native.argument' });
    assert.throws(() => duplicateNumber(number), { code: 'native.argument' });
    assert.throws(() => EventFd.adopt(number), { code: 'native.argument' });
  }
  assert.throws(() => EventFd.adopt(0), { code: 'native.argument' });
  assert.throws(() => duplicateNumber(999_999), { name: 'SysError', code: 'EBADF' });
});

test('many notifications are one, and an adopted eventfd is the same one with its own descriptor', () => {
  using wake = EventFd.create();
  assert.equal(wake.drain(), false);
  const other = EventFd.adopt(wake.fd.number);
  assert.notEqual(other.fd.number, wake.fd.number);
  other.notify();
  wake.notify();
  assert.equal(wake.drain(), true);
  assert.equal(other.drain(), false);
  other.close();
  assert.throws(() => other.notify(), { code: 'native.closed' });
  wake.notify();
  assert.equal(wake.drain(), true);
});

test('scratch memory of the package survives garbage collection', () => {
  // A module's scratch area once was garbage as soon as the module had loaded: eventfd reads wrote into freed memory.
  using wake = EventFd.create();
  for (let i = 0; i < 200; i++) {
    const garbage = Array.from({ length: 50 }, () => Buffer.allocUnsafeSlow(16).fill(0xee));
    wake.notify();
    assert.equal(wake.drain(), true);
    for (const chunk of garbage) assert.ok(chunk.every(byte => byte === 0xee));
    globalThis.gc?.();
  }
});

test('2 500 connections opened and closed leave no descriptor', () => {
  using first = tcpPair();
  const before = openFdCount();
  for (let i = 0; i < 2500; i++) {
    const pair = tcpPair();
    if (i % 2 === 0) closeWithReset(pair.server);
    pair[Symbol.dispose]();
  }
  assert.equal(openFdCount(), before);
  assert.ok(first.client.isOpen);
});
