import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { Errno } from './errno.ts';
import { EventFd } from './event-fd.ts';
import { Fd } from './fd.ts';
import { createNetNs, NetNs } from './net-ns.ts';
import { openPacketSocket } from './packet-socket.ts';
import { EventMask } from './reactor.ts';
import { openFdCount } from './resources.ts';
import { Slab } from './slab.ts';
import { recv } from './socket-io.ts';
import { listenTcp, openTcp, startConnect } from './socket-setup.ts';
import { acceptOne, netNsSkip, runIn, waitFor } from './testing.ts';

const skip = netNsSkip();

test('own is where this thread is, however it is reached', () => {
  using own = NetNs.own();
  using byPath = NetNs.open(`/proc/${process.pid}/ns/net`);
  using copy = own.duplicate();
  assert.ok(own.same(byPath) && own.same(copy));
  assert.equal(own.identity.ino, byPath.identity.ino);
});

test('a path or descriptor that is no network namespace is refused and closed', () => {
  const before = openFdCount();
  assert.throws(() => NetNs.open('/proc/self/ns/mnt'), { code: 'native.argument' });
  assert.throws(() => NetNs.open('/dev/null'), { code: 'native.argument' });
  assert.throws(() => NetNs.fromFd(EventFd.create().fd), { code: 'native.argument' });
  assert.throws(() => NetNs.open('/nowhere/at/all'), { name: 'SysError', code: 'ENOENT' });
  for (const path of ['', 'a\0b', 'x'.repeat(5000)]) {
    assert.throws(() => NetNs.open(path), { code: 'native.argument' });
  }
  assert.equal(openFdCount(), before);
});

test('run visits, returns the value and comes home', { skip }, () => {
  using ns = createNetNs();
  using own = NetNs.own();
  assert.ok(!ns.same(own));
  const seen = ns.run(() => {
    using inside = NetNs.own();
    return { inside: inside.same(ns), devices: readFileSync('/proc/thread-self/net/dev', 'utf8') };
  });
  assert.equal(seen.inside, true);
  assert.equal(seen.devices.trim().split('\n').length, 3, 'two lines of heading and lo');
  using after = NetNs.own();
  assert.ok(after.same(own));
  assert.ok(Object.keys(networkInterfaces()).length >= 1);
});

test('what the function throws is thrown at home', { skip }, () => {
  using ns = createNetNs();
  using own = NetNs.own();
  assert.throws(
    () =>
      ns.run(() => {
        throw new RangeError('inside');
      }),
    RangeError,
  );
  using after = NetNs.own();
  assert.ok(after.same(own));
});

test('an asynchronous function, and a visit inside a visit, are refused at home', { skip }, () => {
  using ns = createNetNs();
  using own = NetNs.own();
  assert.throws(() => ns.run(() => Promise.resolve(1)), { code: 'native.argument' });
  assert.throws(() => ns.run(() => own.run(() => 1)), { code: 'native.argument' });
  assert.throws(() => ns.run(() => createNetNs()), { code: 'native.argument' });
  using after = NetNs.own();
  assert.ok(after.same(own));
  ns.close();
  assert.throws(() => ns.run(() => 1), { code: 'native.closed' });
});

test('sockets belong to the namespace they were made in and keep it alive', { skip }, () => {
  const ns = createNetNs();
  runIn(ns, 'ip', ['link', 'set', 'lo', 'up']);
  const listener = ns.run(() => listenTcp({ address: '127.0.0.1', port: 0, backlog: 4 }));
  using outside = openTcp('ipv4');
  using inside = ns.run(() => openTcp('ipv4'));
  ns.close();
  const to = { ip: '127.0.0.1', port: listener.port };
  const started = startConnect(outside, to);
  if (started === -Errno.EINPROGRESS) assert.ok(waitFor(outside, EventMask.OUT) & EventMask.ERR);
  else assert.equal(started, -Errno.ECONNREFUSED);
  startConnect(inside, to);
  const accepted = acceptOne(listener.fd);
  accepted.close();
  listener.fd.close();
});

test('a namespace passed as a descriptor is the same one', { skip }, () => {
  using ns = createNetNs();
  using copy = NetNs.fromFd(new Fd(ns.run(() => openSync('/proc/thread-self/ns/net', 'r'))));
  assert.ok(copy.same(ns));
});

test('when the way home is barred the process aborts and says why', { skip }, () => {
  const modules = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const code = `
    const { createNetNs } = await import(${modules('./net-ns.ts')});
    const { bind } = await import(${modules('./library.ts')});
    const setuid = bind('int setuid(unsigned int id)');
    createNetNs().run(() => setuid(65534));
    console.log('survived');`;
  for (const wrapped of [
    code,
    `const { Worker } = await import('node:worker_threads');
     new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(code)})));`,
  ]) {
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', wrapped], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.equal(child.signal, 'SIGABRT', child.stderr);
    assert.equal(child.stdout, '');
    assert.match(child.stderr, /fatal: setns failed: EPERM \(returning to the own network namespace\)/);
  }
});

test('visits and namespaces leave no descriptor', { skip }, () => {
  createNetNs().close();
  const before = openFdCount();
  for (let i = 0; i < 20; i++) {
    using ns = createNetNs();
    for (let j = 0; j < 500; j++) ns.run(() => openTcp('ipv4').close());
    using copy = ns.duplicate();
    assert.ok(copy.same(ns));
  }
  assert.equal(openFdCount(), before);
});

test('a packet socket sees the frames of its interface', { skip }, () => {
  using ns = createNetNs();
  runIn(ns, 'ip', ['link', 'set', 'lo', 'up']);
  const listener = ns.run(() => listenTcp({ address: '127.0.0.1', port: 0, backlog: 4 }));
  using packets = ns.run(() => openPacketSocket('lo'));
  using client = ns.run(() => openTcp('ipv4'));
  startConnect(client, { ip: '127.0.0.1', port: listener.port });
  waitFor(packets, EventMask.IN);
  const frame = Slab.allocate(2048);
  const n = recv(packets, frame, 0, 2048);
  assert.ok(n >= 14 + 20 + 20);
  assert.equal(frame.bytes.readUInt16BE(12), 0x0800, 'IPv4');
  assert.equal(frame.bytes.readUInt16BE(14 + 20 + 2), listener.port, 'the SYN to our listener');
  listener.fd.close();
  assert.throws(() => openPacketSocket('no-such-if'), { name: 'SysError', code: 'ENODEV' });
  assert.throws(() => openPacketSocket('name-longer-than-15'), { code: 'native.argument' });
});
