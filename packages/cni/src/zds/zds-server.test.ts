// The agent against a proxy that behaves, and against ones that do not. Needs no privileges: the namespace it passes on is
// the test's own.
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { EventMask, ownedFdCount, Reactor, SeqPacket } from '@ambit/native';
import { encodeAck, encodeHello, type WorkloadInfo } from '@ambit/wire';
import { FakeProxy, namespaceIdentity } from '../../test/fake-proxy.ts';
import { CniError } from '../errors.ts';
import { HeldNetns } from '../netns/held-netns.ts';
import { ZdsServer, type ZdsServerOptions } from './zds-server.ts';

const OWN_NETNS = '/proc/self/ns/net';
const INFO: WorkloadInfo = { name: 'cart-1', namespace: 'shop', serviceAccount: 'cart' };

function ownIdentity(): string {
  const fd = openSync(OWN_NETNS, 'r');
  try {
    return namespaceIdentity(fd);
  } finally {
    closeSync(fd);
  }
}

const soon = (ms = 5000) => AbortSignal.timeout(ms);

const fails =
  (code: string, text = /./) =>
  (error: unknown) => {
    return error instanceof CniError && error.code === code && text.test(error.message);
  };

interface Bench {
  readonly agent: ZdsServer;
  /** The test's own namespace. */
  readonly held: HeldNetns;
  /** Connects another proxy. */
  readonly proxy: (firstPacket?: Uint8Array) => FakeProxy;
}

/** An agent with its reactor, taken down with the test, which must leave no descriptor behind. */
async function bench(t: TestContext, options: ZdsServerOptions = {}): Promise<Bench> {
  const fdsBefore = ownedFdCount();
  const directory = await mkdtemp(join(tmpdir(), 'ambit-agent-'));
  const reactor = new Reactor();
  const running = { is: true };
  const polling = (async () => {
    while (running.is) await reactor.pollAsync(-1);
  })();
  const path = join(directory, 'made', 'z.sock');
  const agent = new ZdsServer(reactor, path, { acceptsPerSecond: 100, ...options }).listen();
  const held = HeldNetns.open(OWN_NETNS);
  const proxies: FakeProxy[] = [];
  t.after(async () => {
    for (const proxy of proxies) proxy.close();
    agent.close();
    agent.close();
    held.close();
    assert.equal(existsSync(path), false);
    running.is = false;
    reactor.close();
    await polling;
    await rm(directory, { recursive: true });
    assert.equal(ownedFdCount(), fdsBefore);
  });
  const proxy = (firstPacket?: Uint8Array) => {
    const made = new FakeProxy(reactor, agent.path, firstPacket);
    proxies.push(made);
    return made;
  };
  return { agent, held, proxy };
}

describe('the ZDS server', () => {
  test('gives a new proxy every pod with its namespace, then the end of the snapshot, one at a time', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.add('u1', INFO, held);
    agent.add('u2', { ...INFO, name: 'cart-2' }, held);
    const peer = proxy();
    const first = await peer.next();
    assert.deepEqual(first, { request: { kind: 'add', uid: 'u1', info: INFO }, namespaces: [ownIdentity()] });
    assert.equal(peer.unread, 0, 'nothing follows an unanswered request');
    peer.ack();
    await agent.enrolled('u1', soon());
    const second = await peer.next();
    assert.deepEqual(second.request, { kind: 'add', uid: 'u2', info: { ...INFO, name: 'cart-2' } });
    peer.ack();
    assert.deepEqual(await peer.next(), { request: { kind: 'snapshotSent' }, namespaces: [] });
    peer.ack();
    await agent.whenSynced(soon());
    await agent.enrolled('u2', soon());
    assert.equal(agent.connections, 1);
  });

  test('announces later pods at once, and tells a refusal in the proxy’s words', async t => {
    const { agent, held, proxy } = await bench(t);
    const peer = proxy();
    assert.deepEqual(await peer.takeSnapshot(), []);
    agent.add('u1', INFO, held);
    const enrolled = agent.enrolled('u1', soon());
    assert.equal((await peer.next()).request.kind, 'add');
    peer.ack('failure to start proxy : address in use');
    await assert.rejects(enrolled, fails('enrol.refused', /shop\/cart-1: failure to start proxy : address in use/));
    agent.add('u2', INFO, held);
    assert.equal((await peer.next()).request.kind, 'add');
    peer.ack();
    await agent.enrolled('u2', soon());
  });

  test('withdraws a pod and waits for the answer', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.add('u1', INFO, held);
    const peer = proxy();
    await peer.takeSnapshot();
    const removed = agent.remove('u1');
    assert.deepEqual(await peer.next(), { request: { kind: 'del', uid: 'u1' }, namespaces: [] });
    peer.ack();
    await removed;
    await agent.remove('u1');
    await assert.rejects(agent.enrolled('u1', soon()), fails('enrol.unknown_pod'));
    assert.equal(peer.unread, 0);
  });

  test('sends the snapshot again to a proxy that comes back, and an open enrolment ends there', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.add('u1', INFO, held);
    const enrolled = agent.enrolled('u1', soon());
    const first = proxy();
    await first.next();
    first.close();
    const second = proxy();
    assert.deepEqual(
      (await second.takeSnapshot()).map(({ request }) => request.kind),
      ['add'],
    );
    await enrolled;
    await agent.whenSynced(soon());
  });

  test('a proxy that leaves with a packet unread is gone, and nothing else is', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.add('u1', INFO, held);
    using arrivals = new Reactor();
    const rude = SeqPacket.connect(agent.path);
    let hasMail = false;
    arrivals.add(rude.fd, { onEvents: mask => void (hasMail ||= (mask & EventMask.IN) !== 0) });
    rude.send(encodeHello());
    while (!hasMail) await arrivals.pollAsync(-1);
    // The kernel tells the agent of such an end as an error.
    rude.close();
    await proxy().takeSnapshot();
    await agent.enrolled('u1', soon());
  });

  test('adds through the newest proxy, removes through all, and falls back to the one before', async t => {
    const { agent, held, proxy } = await bench(t);
    const old = proxy();
    await old.takeSnapshot();
    const young = proxy();
    await young.takeSnapshot();
    assert.equal(agent.connections, 2);
    agent.add('u1', INFO, held);
    assert.equal((await young.next()).request.kind, 'add');
    young.close();
    assert.deepEqual((await old.next()).request, { kind: 'add', uid: 'u1', info: INFO });
    old.ack();
    await agent.enrolled('u1', soon());
    const third = proxy();
    await third.takeSnapshot();
    agent.add('u1', { ...INFO, l7: 'off' }, held);
    assert.equal((await third.next()).request.kind, 'add');
    third.ack();
    third.close();
    assert.deepEqual((await old.next()).request, { kind: 'add', uid: 'u1', info: { ...INFO, l7: 'off' } });
    old.ack();
    const fourth = proxy();
    await fourth.takeSnapshot();
    const removed = agent.remove('u1');
    assert.equal((await old.next()).request.kind, 'del');
    assert.equal((await fourth.next()).request.kind, 'del');
    old.ack();
    fourth.ack('no such pod');
    await removed;
  });

  const RUDE: readonly (readonly [string, readonly Uint8Array[]])[] = [
    ['garbage instead of a hello', [Buffer.from('ffffff', 'hex')]],
    ['a hello of another version', [Buffer.from('0807', 'hex')]],
    ['an answer that nothing asked for', [encodeHello(), encodeAck()]],
    ['a packet that is too long', [Buffer.alloc(1100, 1)]],
  ];
  for (const [what, packets] of RUDE) {
    test(`hangs up on ${what}, and serves the next`, async t => {
      const { agent, held, proxy } = await bench(t);
      const [first, ...rest] = packets;
      const rude = proxy(first);
      // The agent may have hung up already, which is what is wanted.
      if (rest.length > 0) await rude.takeSnapshot();
      for (const packet of rest) rude.send(packet);
      await rude.ended;
      agent.add('u1', INFO, held);
      await proxy().takeSnapshot();
      await agent.enrolled('u1', soon());
    });
  }

  test('does not wait for ever: for a hello, for an answer, for a proxy', async t => {
    const { agent, held, proxy } = await bench(t, { answerTimeoutMs: 50 });
    await proxy(new Uint8Array()).ended;
    agent.add('u1', INFO, held);
    await proxy().ended;
    await assert.rejects(agent.enrolled('u1', soon(20)), fails('enrol.no_ztunnel', /shop\/cart-1/));
    await assert.rejects(agent.whenSynced(soon(20)), fails('enrol.no_ztunnel'));
  });

  test('names that fit no packet fail that pod only', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.add('u1', { ...INFO, name: 'x'.repeat(1100) }, held);
    agent.add('u2', INFO, held);
    assert.equal((await proxy().takeSnapshot()).length, 1);
    await assert.rejects(agent.enrolled('u1', soon()), fails('enrol.refused', /1024/));
    await agent.enrolled('u2', soon());
  });

  test('closing tells those who wait, and a closed agent takes no more pods', async t => {
    const { agent, held } = await bench(t);
    agent.add('u1', INFO, held);
    const enrolled = agent.enrolled('u1', soon());
    agent.close();
    await assert.rejects(enrolled, fails('enrol.disconnected'));
    assert.throws(() => agent.add('u2', INFO, held), fails('enrol.disconnected'));
  });

  test('a pod whose namespace is unknown is kept, and added as soon as it is found', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.keep('u1');
    agent.keep('gone');
    await agent.remove('gone');
    const peer = proxy();
    const snapshot = await peer.takeSnapshot();
    assert.deepEqual(snapshot, [{ request: { kind: 'keep', uid: 'u1' }, namespaces: [] }]);
    agent.keep('u2');
    agent.add('u1', INFO, held);
    assert.equal((await peer.next()).request.kind, 'add');
    peer.ack();
    await agent.enrolled('u1', soon());
    assert.equal(peer.unread, 0, 'nothing is kept after the snapshot, where it would be an error');
  });

  test('what is served is not said again; a refusal, another namespace, name or description is', async t => {
    const { agent, held, proxy } = await bench(t);
    const peer = proxy();
    await peer.takeSnapshot();
    agent.add('u1', INFO, held);
    await peer.next();
    peer.ack('no room');
    await assert.rejects(agent.enrolled('u1', soon()), fails('enrol.refused'));
    for (const info of [INFO, { ...INFO, serviceAccount: 'other' }, { ...INFO, l7: 'off' }, INFO]) {
      agent.add('u1', info, held);
      assert.deepEqual((await peer.next()).request, { kind: 'add', uid: 'u1', info });
      peer.ack();
      await agent.enrolled('u1', soon());
      agent.add('u1', info, held);
    }
    await agent.remove('unknown');
    assert.equal(peer.unread, 0);
  });

  test('tells of every answer that counts, and of ztunnels that come and go', async t => {
    const told: string[] = [];
    const gone = Promise.withResolvers<void>();
    const events = {
      onAnswer: (uid: string, error: CniError | undefined) => void told.push(`${uid} ${error?.code ?? 'served'}`),
      onConnections: () => {
        if (told.push('connections') === 4) gone.resolve();
      },
    };
    const { agent, held, proxy } = await bench(t, { events });
    agent.add('u1', INFO, held);
    const peer = proxy();
    await peer.next();
    peer.ack('no room');
    await peer.next();
    assert.equal(agent.synced, 0);
    peer.ack();
    await agent.whenSynced(soon());
    assert.equal(agent.synced, 1);
    assert.deepEqual(told, ['connections', 'u1 enrol.refused', 'connections']);
    peer.close();
    await gone.promise;
    await assert.rejects(agent.whenSynced(soon(20)), fails('enrol.no_ztunnel'));
    assert.deepEqual([agent.connections, agent.synced, told.length], [0, 0, 4]);
  });

  test('a wait ends with its signal, and the pod stays announced', async t => {
    const { agent, held, proxy } = await bench(t);
    agent.add('u1', INFO, held);
    const peer = proxy();
    await peer.next();
    await assert.rejects(
      agent.enrolled('u1', AbortSignal.abort()),
      fails('enrol.timeout', /not answered for shop.cart-1/),
    );
    peer.ack();
    await agent.enrolled('u1', soon());
  });

  test('a namespace given up before its turn costs that announcement only', async t => {
    const { agent, held, proxy } = await bench(t);
    const peer = proxy();
    await peer.takeSnapshot();
    agent.add('u1', INFO, held);
    const lost = HeldNetns.open(OWN_NETNS);
    agent.add('u2', INFO, lost);
    const removed = agent.remove('u2');
    lost.close();
    await peer.next();
    peer.ack();
    assert.deepEqual((await peer.next()).request, { kind: 'del', uid: 'u2' });
    peer.ack();
    await removed;
    await agent.enrolled('u1', soon());
  });

  test('lets in no more than so many a second, and forgets nobody', async t => {
    const { agent, proxy } = await bench(t, { acceptsPerSecond: 2 });
    const peers = [proxy(), proxy(), proxy()];
    await Promise.all(peers.map(async peer => peer.takeSnapshot()));
    assert.equal(agent.connections, 3);
  });

  test('replaces the socket of a dead agent, not a file of somebody else, and leaves a successor its own', async t => {
    const { agent } = await bench(t);
    const reactor = new Reactor();
    const next = new ZdsServer(reactor, agent.path).listen();
    agent.close();
    assert.equal(existsSync(agent.path), true, 'it is the successor’s');
    next.close();
    assert.equal(existsSync(agent.path), false);
    writeFileSync(agent.path, 'precious');
    assert.throws(() => new ZdsServer(reactor, agent.path).listen(), fails('cni.config', /EADDRINUSE/));
    rmSync(agent.path);
    reactor.close();
  });
});
