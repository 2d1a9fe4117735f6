import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EventFd } from './event-fd.ts';
import { duplicateFd, Fd, ownedFdCount } from './fd.ts';
import { epollEventLayout } from './layouts.ts';
import { EventMask, Reactor } from './reactor.ts';
import { send, shutdownWrite } from './socket-io.ts';
import { Slab } from './slab.ts';
import { bindTo, localAddress, startConnect } from './socket-setup.ts';
import { tcpPair } from './testing.ts';
import { openUdp } from './udp.ts';

test('only Linux on x64 and arm64 has a known event layout', () => {
  assert.deepEqual(epollEventLayout('linux', 'x64', 'LE'), { wordsPerEvent: 3, dataWord: 1 });
  assert.deepEqual(epollEventLayout('linux', 'arm64', 'LE'), { wordsPerEvent: 4, dataWord: 2 });
  for (const [platform, arch, order] of [
    ['linux', 'ia32', 'LE'],
    ['linux', 'arm64', 'BE'],
    ['darwin', 'arm64', 'LE'],
    ['linux', 's390x', 'BE'],
  ] as const) {
    assert.throws(() => epollEventLayout(platform, arch, order), { code: 'native.unsupported' });
  }
});

test('a registration reports writability at once, then each edge once', () => {
  using reactor = new Reactor();
  using pair = tcpPair();
  const masks: number[] = [];
  reactor.add(pair.server, { onEvents: mask => void masks.push(mask) });
  assert.equal(reactor.poll(0), 1);
  assert.equal(reactor.poll(0), 0, 'edge-triggered: nothing new');
  send(pair.client, Slab.allocate(1), 0, 1);
  assert.equal(reactor.poll(1000), 1);
  shutdownWrite(pair.client);
  assert.equal(reactor.poll(1000), 1);
  assert.deepEqual(masks, [
    EventMask.OUT,
    EventMask.OUT | EventMask.IN,
    EventMask.OUT | EventMask.IN | EventMask.RDHUP,
  ]);
});

test('a UDP socket for reading hears of what comes and not of what it sent', () => {
  using reactor = new Reactor();
  using server = openUdp('ipv4');
  using client = openUdp('ipv4');
  bindTo(server, { ip: '127.0.0.1', port: 0 });
  startConnect(client, { ip: '127.0.0.1', port: localAddress(server).port });
  const masks: Record<string, number[]> = { both: [], reading: [] };
  reactor.add(client, { onEvents: mask => void masks['reading']?.push(mask) }, 'reading');
  reactor.add(server, { onEvents: mask => void masks['both']?.push(mask) });
  reactor.poll(0);
  send(client, Slab.allocate(8), 0, 8);
  reactor.poll(1000);
  assert.deepEqual(masks, { both: [EventMask.OUT, EventMask.OUT | EventMask.IN], reading: [] });
});

test('an event fetched for a registration removed in the same batch is dropped', () => {
  using reactor = new Reactor();
  using a = EventFd.create();
  using b = EventFd.create();
  const ran: string[] = [];
  const first = reactor.add(a.fd, {
    onEvents: () => {
      ran.push('a');
      reactor.remove(second);
    },
  });
  const second = reactor.add(b.fd, {
    onEvents: () => {
      ran.push('b');
      reactor.remove(first);
    },
  });
  assert.equal(reactor.poll(0), 1);
  assert.equal(ran.length, 1);
  assert.equal(reactor.poll(0), 0);
});

test('an event of an old generation never reaches the next owner of the number', () => {
  using reactor = new Reactor();
  const a = EventFd.create();
  const b = EventFd.create();
  const ran: string[] = [];
  let reused: EventFd | undefined;
  const replace = (mine: EventFd, other: EventFd, name: string) => ({
    onEvents: () => {
      ran.push(name);
      const number = other.fd.number;
      other.close();
      const next = EventFd.create();
      assert.equal(next.fd.number, number, 'the kernel gives the lowest free number');
      reactor.add(next.fd, { onEvents: () => void ran.push('new') });
      reused = next;
      void mine;
    },
  });
  reactor.add(a.fd, replace(a, b, 'a'));
  reactor.add(b.fd, replace(b, a, 'b'));
  reactor.poll(0);
  assert.equal(ran.length, 1, 'the second event of the batch was for the closed descriptor');
  reactor.poll(0);
  assert.equal(ran[1], 'new', 'the new owner hears of its own readiness');
  for (const fd of [a, b, reused]) fd?.close();
});

test('removing an old registration leaves the next owner of its number alone', () => {
  using reactor = new Reactor();
  const a = EventFd.create();
  const old = reactor.add(a.fd, { onEvents: () => assert.fail('closed') });
  const number = a.fd.number;
  a.close();
  using b = EventFd.create();
  assert.equal(b.fd.number, number);
  let events = 0;
  reactor.add(b.fd, { onEvents: () => void events++ });
  reactor.remove(old);
  reactor.remove(old);
  reactor.poll(0);
  assert.equal(events, 1);
});

test('a duplicate that keeps the open file alive does not make a removed registration run', () => {
  using reactor = new Reactor();
  const a = EventFd.create();
  using other = duplicateFd(a.fd);
  const registration = reactor.add(a.fd, { onEvents: () => assert.fail('removed') });
  reactor.remove(registration);
  a.notify();
  a.close();
  assert.equal(reactor.poll(0), 0);
  assert.ok(other.isOpen);
});

test('when a handler throws, poll throws and the rest of the batch runs at the next poll', () => {
  using reactor = new Reactor();
  const ran: number[] = [];
  const fds = [0, 1, 2].map(i => {
    const fd = EventFd.create();
    reactor.add(fd.fd, {
      onEvents: () => {
        ran.push(i);
        if (ran.length === 1) throw new Error('handler bug');
      },
    });
    return fd;
  });
  assert.throws(() => reactor.poll(0), /handler bug/);
  assert.equal(reactor.poll(-1), 2, 'does not wait while events are left');
  assert.deepEqual(
    ran.toSorted((a, b) => a - b),
    [0, 1, 2],
  );
  for (const fd of fds) fd.close();
});

test('a handler cannot poll, and may close the reactor', () => {
  const reactor = new Reactor();
  using a = EventFd.create();
  using b = EventFd.create();
  let ran = 0;
  const handler = {
    onEvents: () => {
      ran++;
      assert.throws(() => reactor.poll(0), { code: 'native.argument' });
      reactor.close();
    },
  };
  reactor.add(a.fd, handler);
  reactor.add(b.fd, handler);
  assert.equal(reactor.poll(0), 1);
  assert.equal(ran, 1);
  assert.throws(() => reactor.poll(0), { code: 'native.closed' });
  assert.throws(() => reactor.add(a.fd, handler), { code: 'native.closed' });
});

test('adding twice, adding a file or a closed descriptor, and odd timeouts are errors', () => {
  using reactor = new Reactor();
  const a = EventFd.create();
  const handler = { onEvents: () => undefined };
  reactor.add(a.fd, handler);
  assert.throws(() => reactor.add(a.fd, handler), { name: 'SysError', code: 'EEXIST' });
  a.close();
  assert.throws(() => reactor.add(a.fd, handler), { code: 'native.closed' });
  assert.throws(() => reactor.add(new Fd(999_999), handler), { name: 'SysError', code: 'EBADF' });
  for (const timeout of [-2, 0.5, Number.NaN, 2 ** 31]) {
    assert.throws(() => reactor.poll(timeout), { code: 'native.argument' });
  }
});

test('pollAsync waits without blocking the event loop and runs handlers here', async () => {
  using reactor = new Reactor();
  using wake = EventFd.create();
  let drained = 0;
  reactor.add(wake.fd, { onEvents: () => void (drained += wake.drain() ? 1 : 0) });
  reactor.poll(0);
  const polled = reactor.pollAsync(-1);
  await assert.rejects(reactor.pollAsync(0), { code: 'native.argument' });
  assert.throws(() => reactor.poll(0), { code: 'native.argument' });
  setImmediate(() => wake.notify());
  assert.equal(await polled, 1);
  assert.equal(drained, 1);
  reactor.poll(0); // draining makes an eventfd writable once more
  assert.equal(await reactor.pollAsync(1), 0, 'ends by its timeout');
});

test('pollAsync lets the event loop turn even when events are always ready', async () => {
  using reactor = new Reactor();
  using wake = EventFd.create();
  reactor.add(wake.fd, { onEvents: () => wake.notify() });
  let turned = false;
  setImmediate(() => void (turned = true));
  for (let i = 0; i < 100 && !turned; i++) await reactor.pollAsync(-1);
  assert.ok(turned);
});

test('a descriptor added while pollAsync waits is seen by it', async () => {
  using reactor = new Reactor();
  using late = EventFd.create();
  const polled = reactor.pollAsync(-1);
  let mask = 0;
  reactor.add(late.fd, { onEvents: bits => void (mask = bits) });
  assert.equal(await polled, 1);
  assert.equal(mask, EventMask.OUT);
});

test('close ends a waiting pollAsync and releases its descriptors', async () => {
  const before = ownedFdCount();
  const reactor = new Reactor();
  await reactor.pollAsync(0);
  const polled = reactor.pollAsync(-1);
  reactor.close();
  assert.equal(await polled, 0);
  assert.equal(ownedFdCount(), before);
});

test('a worker blocked in poll is woken by an eventfd lent to it', async () => {
  using wake = EventFd.create();
  const source = new URL('./index.ts', import.meta.url).href;
  const code = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { EventFd, Reactor } = await import(${JSON.stringify(source)});
    const reactor = new Reactor();
    const wake = EventFd.adopt(workerData);
    let notified = false;
    reactor.add(wake.fd, { onEvents: () => { notified ||= wake.drain(); } });
    while (!notified) reactor.poll(-1);
    wake.close(); reactor.close();
    parentPort.postMessage('woken');`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
    workerData: wake.fd.number,
  });
  // Listened for from the start: the last message and the exit may arrive in one turn of the event loop.
  const exited = new Promise(resolve => worker.once('exit', resolve));
  wake.notify();
  const message = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  assert.equal(message, 'woken');
  await exited;
  wake.notify();
  assert.equal(wake.drain(), true, 'the worker closed its duplicate, not ours');
});
