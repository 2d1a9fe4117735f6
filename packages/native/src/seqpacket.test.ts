import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Errno } from './errno.ts';
import { EventFd } from './event-fd.ts';
import { type Fd, ownedFdCount } from './fd.ts';
import { openFdCount } from './resources.ts';
import { type Received, SeqPacket } from './seqpacket.ts';

function message(received: Received): { bytes: Buffer; fds: Fd[]; truncated: boolean } {
  assert.ok(received.kind === 'message', `got ${received.kind}`);
  return { bytes: Buffer.from(received.bytes), fds: received.fds, truncated: received.truncated };
}

/** Runs `use` with two ends and checks that no descriptor is left when both are closed. */
function withPair(use: (a: SeqPacket, b: SeqPacket) => void): void {
  const before = [openFdCount(), ownedFdCount()];
  const [a, b] = SeqPacket.pair();
  use(a, b);
  a.close();
  b.close();
  assert.deepEqual([openFdCount(), ownedFdCount()], before);
}

test('message borders are kept, emptiness and the end are told apart', () => {
  withPair((a, b) => {
    assert.deepEqual(b.receive(100, 0), { kind: 'again' });
    assert.equal(a.send(Buffer.from('one')), 3);
    assert.equal(a.send(Buffer.from('second')), 6);
    assert.equal(message(b.receive(100, 0)).bytes.toString(), 'one');
    assert.equal(message(b.receive(100, 0)).bytes.toString(), 'second');
    a.close();
    assert.deepEqual(b.receive(100, 0), { kind: 'end' });
    assert.equal(b.send(Buffer.from('x')), -Errno.EPIPE);
  });
});

test('descriptors arrive in order, as new close-on-exec numbers of the same files', () => {
  withPair((a, b) => {
    const events = [EventFd.create(), EventFd.create(), EventFd.create()];
    const fds = events.map(event => event.fd);
    assert.equal(a.send(Buffer.from('take'), fds), 4);
    const got = message(b.receive(64, 3));
    assert.equal(got.truncated, false);
    assert.equal(got.fds.length, 3);
    for (const [i, fd] of got.fds.entries()) {
      events[i]?.notify();
      using same = EventFd.adopt(fd.number);
      assert.equal(same.drain(), true, `descriptor ${i}`);
      fd.close();
    }
    for (const event of events) event.close();
  });
});

test('a message longer than asked for is cut and says so', () => {
  withPair((a, b) => {
    a.send(Buffer.from('0123456789'));
    const got = message(b.receive(4, 0));
    assert.equal(got.bytes.toString(), '0123');
    assert.equal(got.truncated, true);
    a.send(Buffer.from('whole'));
    assert.equal(message(b.receive(5, 0)).truncated, false);
  });
});

test('more descriptors than asked for are cut, the ones that fit are owned, none leaks', () => {
  for (const maxFds of [0, 1, 2, 3]) {
    withPair((a, b) => {
      const events = Array.from({ length: 5 }, () => EventFd.create());
      a.send(
        Buffer.from('five'),
        events.map(event => event.fd),
      );
      for (const event of events) event.close();
      const got = message(b.receive(100, maxFds));
      assert.equal(got.truncated, true);
      assert.equal(got.fds.length, maxFds);
      for (const fd of got.fds) fd.close();
    });
  }
});

test('253 descriptors travel at once, and unread ones die with the socket', () => {
  withPair((a, b) => {
    const event = EventFd.create();
    const many = Array.from({ length: 253 }, () => event.fd);
    a.send(Buffer.from('many'), many);
    const got = message(b.receive(10, 253));
    assert.equal(got.fds.length, 253);
    for (const fd of got.fds) fd.close();
    a.send(Buffer.from('lost'), many);
    event.close();
  });
});

test('what cannot be sent as one message is refused', () => {
  withPair((a, b) => {
    assert.throws(() => a.send(new Uint8Array(0)), { code: 'native.argument' });
    assert.throws(() => a.send(new Uint8Array((1 << 20) + 1)), { code: 'native.argument' });
    const event = EventFd.create();
    const many = Array.from({ length: 254 }, () => event.fd);
    assert.throws(() => a.send(Buffer.from('x'), many), { code: 'native.argument' });
    event.close();
    assert.throws(() => a.send(Buffer.from('x'), [event.fd]), { code: 'native.closed' });
    assert.deepEqual(b.receive(1, 1), { kind: 'again' }, 'nothing of it was sent');
    for (const [bytes, fds] of [
      [0, 0],
      [1, 254],
      [1, -1],
      [2 ** 21, 0],
      [Number.NaN, 0],
    ] as const) {
      assert.throws(() => b.receive(bytes, fds), { code: 'native.argument' });
    }
  });
});

test('a full socket says EAGAIN and takes messages again after some were read', () => {
  withPair((a, b) => {
    const big = Buffer.alloc(60_000, 7);
    let sent = 0;
    let n = a.send(big);
    for (; n === big.length; n = a.send(big)) sent++;
    assert.equal(n, -Errno.EAGAIN);
    for (let i = 0; i < sent; i++) assert.ok(message(b.receive(1 << 17, 0)).bytes.equals(big));
    assert.equal(a.send(big), big.length);
  });
});

test('connect, accept and talk by path; the file is left to its owner', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ambit-seqpacket-'));
  const before = openFdCount();
  try {
    const path = join(directory, 's');
    assert.throws(() => SeqPacket.connect(path), { name: 'SysError', code: 'ENOENT' });
    const listener = SeqPacket.listen(path, 8);
    assert.throws(() => SeqPacket.listen(path, 8), { code: 'EADDRINUSE' });
    assert.equal(listener.accept(), undefined);
    const client = SeqPacket.connect(path);
    const server = listener.accept();
    assert.ok(server !== undefined);
    client.send(Buffer.from('hello'));
    assert.equal(message(server.receive(64, 0)).bytes.toString(), 'hello');
    for (const end of [client, server, listener]) end.close();
    assert.ok(existsSync(path));
    assert.throws(() => SeqPacket.connect(path), { code: 'ECONNREFUSED' });
    for (const bad of ['', 'a\0b', `/${'x'.repeat(107)}`]) {
      assert.throws(() => SeqPacket.connect(bad), { code: 'native.argument' });
      assert.throws(() => SeqPacket.listen(bad, 1), { code: 'native.argument' });
    }
    assert.equal(openFdCount(), before);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('10 000 messages with descriptors leave none behind', () => {
  withPair((a, b) => {
    const event = EventFd.create();
    for (let i = 0; i < 10_000; i++) {
      a.send(Buffer.from('m'), [event.fd]);
      for (const fd of message(b.receive(1, 1)).fds) fd.close();
    }
    event.close();
  });
});
