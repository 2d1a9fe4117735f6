import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from './errno.ts';
import type { Fd } from './fd.ts';
import { bindTo, localAddress } from './socket-setup.ts';
import { openUdp } from './udp.ts';
import { UdpBatch } from './udp-batch.ts';

function bound(): Fd {
  const fd = openUdp('ipv4');
  assert.equal(bindTo(fd, { ip: '127.0.0.1', port: 0 }), 0);
  return fd;
}

function text(batch: UdpBatch, index: number): string {
  const at = index * batch.bytesPerDatagram;
  return batch.slab.bytes.toString('latin1', at, at + Math.min(batch.length(index), batch.bytesPerDatagram));
}

test('a batch is sent to each peer, received with each sender, and answered in place', () => {
  using server = bound();
  using one = bound();
  using two = bound();
  const out = UdpBatch.allocate(4, 64);
  for (const [i, word] of ['alpha', 'beta', '', 'delta'].entries()) {
    out.slab.bytes.write(word, i * 64);
    out.setLength(i, word.length);
    out.peers.set(i, localAddress(server));
  }
  assert.equal(out.send(one, 0, 3), 3);
  assert.equal(out.send(two, 3, 1), 1);
  const got = UdpBatch.allocate(8, 64);
  assert.equal(got.receive(server), 4);
  assert.deepEqual(
    [0, 1, 2, 3].map(i => text(got, i)),
    ['alpha', 'beta', '', 'delta'],
  );
  assert.deepEqual(got.peers.get(2), localAddress(one));
  assert.deepEqual(got.peers.get(3), localAddress(two));
  assert.equal(got.peers.get(4), undefined);
  assert.equal(got.send(server, 1, 3), 3);
  assert.equal(got.receive(one), 2);
  assert.deepEqual([text(got, 0), text(got, 1)], ['beta', '']);
  assert.equal(got.receive(two), 1);
  assert.equal(text(got, 0), 'delta');
  assert.equal(got.receive(two), -Errno.EAGAIN);
  assert.equal(got.peers.get(0), undefined, 'places are empty when nothing came');
});

test('a batch that is full leaves the rest for the next call, one cut off says its length', () => {
  using server = bound();
  using client = bound();
  const out = UdpBatch.allocate(3, 100);
  for (let i = 0; i < 3; i++) {
    out.setLength(i, 100 - i);
    out.peers.set(i, localAddress(server));
  }
  assert.equal(out.send(client, 0, 3), 3);
  const got = UdpBatch.allocate(2, 50);
  assert.equal(got.receive(server), 2);
  assert.deepEqual([got.length(0), got.length(1)], [100, 99]);
  assert.equal(got.send(server, 0, 1), 1, 'what is there of it can be sent back');
  assert.equal(got.receive(client), 1);
  assert.equal(got.length(0), 50);
  assert.equal(got.receive(server), 1);
  assert.equal(got.length(0), 98);
});

test('sending stops at the first that fails, and says why when asked from there', () => {
  using client = bound();
  using server = bound();
  const out = UdpBatch.allocate(3, 8);
  for (let i = 0; i < 3; i++) out.peers.set(i, localAddress(server));
  out.peers.set(1, { ip: '::1', port: 9 });
  assert.equal(out.send(client, 0, 3), 1);
  assert.equal(out.send(client, 1, 2), -Errno.EAFNOSUPPORT);
  assert.equal(out.send(client, 2, 1), 1);
});

test('places and lengths that are not there are refused, and a closed slab is', () => {
  using fd = bound();
  const batch = UdpBatch.allocate(2, 8);
  batch.peers.set(0, localAddress(fd));
  const odd = fc.oneof(fc.integer({ min: -3, max: 5 }), fc.constantFrom(0.5, Number.NaN, 2 ** 32, Infinity));
  fc.assert(
    fc.property(odd, odd, (a, b) => {
      const isOne = a === 0 && b === 1;
      if (isOne) assert.equal(batch.send(fd, a, b), 0 + 1);
      else assert.throws(() => batch.send(fd, a, b), { name: 'NativeError' });
      if (a === 0 || a === 1) batch.setLength(a, 0);
      else assert.throws(() => batch.setLength(a, 0), { code: 'native.bounds' });
      if (Number.isInteger(b) && b >= 0 && b <= 8) batch.setLength(0, b);
      else assert.throws(() => batch.setLength(0, b), { code: 'native.bounds' });
    }),
    { seed: 17, numRuns: 300 },
  );
  batch.slab.close();
  assert.throws(() => batch.receive(fd), { code: 'native.closed' });
  assert.throws(() => batch.send(fd, 0, 1), { code: 'native.closed' });
  for (const [capacity, bytes] of [
    [0, 8],
    [1025, 8],
    [1, 0],
    [1, 65536],
    [1.5, 8],
  ] as const) {
    assert.throws(() => UdpBatch.allocate(capacity, bytes), { code: 'native.argument' });
  }
});
