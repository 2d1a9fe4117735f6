// The agent against a proxy that behaves, and against ones that do not. Needs no privileges: the namespace it passes on is
// the test's own.
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { ownedFdCount, Reactor } from '@ambit/native';
import { encodeAck, encodeHello, type WorkloadInfo } from '@ambit/wire';
import { TestbedError } from '../src/errors.ts';
import { type AgentOptions, ZdsAgent } from '../src/zds-agent.ts';
import { FakeProxy, namespaceIdentity } from './fake-proxy.ts';

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

const fails =
  (code: string, text = /./) =>
  (error: unknown) => {
    return error instanceof TestbedError && error.code === code && text.test(error.message);
  };

interface Bench {
  readonly agent: ZdsAgent;
  /** Connects another proxy. */
  readonly proxy: (firstPacket?: Uint8Array) => FakeProxy;
}

/** An agent with its reactor, taken down with the test, which must leave no descriptor behind. */
async function bench(t: TestContext, options: AgentOptions = {}): Promise<Bench> {
  const fdsBefore = ownedFdCount();
  const directory = await mkdtemp(join(tmpdir(), 'ambit-agent-'));
  const reactor = new Reactor();
  const running = { is: true };
  const polling = (async () => {
    while (running.is) await reactor.pollAsync(-1);
  })();
  const agent = new ZdsAgent(reactor, join(directory, 'z.sock'), options);
  const proxies: FakeProxy[] = [];
  t.after(async () => {
    for (const proxy of proxies) proxy.close();
    agent.close();
    agent.close();
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
  return { agent, proxy };
}

describe('the node agent', () => {
  test('gives a new proxy every pod with its namespace, then the end of the snapshot, one at a time', async t => {
    const { agent, proxy } = await bench(t);
    agent.add('u1', INFO, OWN_NETNS);
    agent.add('u2', { ...INFO, name: 'cart-2' }, OWN_NETNS);
    const peer = proxy();
    const first = await peer.next();
    assert.deepEqual(first, { request: { kind: 'add', uid: 'u1', info: INFO }, namespaces: [ownIdentity()] });
    assert.equal(peer.unread, 0, 'nothing follows an unanswered request');
    peer.ack();
    await agent.enrolled('u1');
    const second = await peer.next();
    assert.deepEqual(second.request, { kind: 'add', uid: 'u2', info: { ...INFO, name: 'cart-2' } });
    peer.ack();
    assert.deepEqual(await peer.next(), { request: { kind: 'snapshotSent' }, namespaces: [] });
    peer.ack();
    await agent.synced();
    await agent.enrolled('u2');
    assert.equal(agent.connections, 1);
  });

  test('announces later pods at once, and tells a refusal in the proxy’s words', async t => {
    const { agent, proxy } = await bench(t);
    const peer = proxy();
    assert.deepEqual(await peer.takeSnapshot(), []);
    agent.add('u1', INFO, OWN_NETNS);
    const enrolled = agent.enrolled('u1');
    assert.equal((await peer.next()).request.kind, 'add');
    peer.ack('failure to start proxy : address in use');
    await assert.rejects(enrolled, fails('enrol.refused', /shop\/cart-1: failure to start proxy : address in use/));
    agent.add('u2', INFO, OWN_NETNS);
    assert.equal((await peer.next()).request.kind, 'add');
    peer.ack();
    await agent.enrolled('u2');
  });

  test('withdraws a pod and waits for the answer', async t => {
    const { agent, proxy } = await bench(t);
    agent.add('u1', INFO, OWN_NETNS);
    const peer = proxy();
    await peer.takeSnapshot();
    const removed = agent.remove('u1');
    assert.deepEqual(await peer.next(), { request: { kind: 'del', uid: 'u1' }, namespaces: [] });
    peer.ack();
    await removed;
    await agent.remove('u1');
    await assert.rejects(agent.enrolled('u1'), fails('testbed.unknown'));
    assert.equal(peer.unread, 0);
  });

  test('sends the snapshot again to a proxy that comes back, and an open enrolment ends there', async t => {
    const { agent, proxy } = await bench(t);
    agent.add('u1', INFO, OWN_NETNS);
    const enrolled = agent.enrolled('u1');
    const first = proxy();
    await first.next();
    first.close();
    const second = proxy();
    assert.deepEqual(
      (await second.takeSnapshot()).map(({ request }) => request.kind),
      ['add'],
    );
    await enrolled;
    await agent.synced();
  });

  test('adds through the newest proxy, removes through all, and falls back to the one before', async t => {
    const { agent, proxy } = await bench(t);
    const old = proxy();
    await old.takeSnapshot();
    const young = proxy();
    await young.takeSnapshot();
    assert.equal(agent.connections, 2);
    agent.add('u1', INFO, OWN_NETNS);
    assert.equal((await young.next()).request.kind, 'add');
    young.close();
    assert.deepEqual((await old.next()).request, { kind: 'add', uid: 'u1', info: INFO });
    old.ack();
    await agent.enrolled('u1');
    const third = proxy();
    await third.takeSnapshot();
    const removed = agent.remove('u1');
    assert.equal((await old.next()).request.kind, 'del');
    assert.equal((await third.next()).request.kind, 'del');
    old.ack();
    third.ack('no such pod');
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
      const { agent, proxy } = await bench(t);
      const [first, ...rest] = packets;
      const rude = proxy(first);
      // The agent may have hung up already, which is what is wanted.
      if (rest.length > 0) await rude.takeSnapshot();
      for (const packet of rest) rude.send(packet);
      await rude.ended;
      agent.add('u1', INFO, OWN_NETNS);
      await proxy().takeSnapshot();
      await agent.enrolled('u1');
    });
  }

  test('does not wait for ever: for a hello, for an answer, for a proxy', async t => {
    const { agent, proxy } = await bench(t, { answerTimeoutMs: 50 });
    await proxy(new Uint8Array()).ended;
    agent.add('u1', INFO, OWN_NETNS);
    await proxy().ended;
    await assert.rejects(agent.enrolled('u1', 20), fails('testbed.timeout', /shop\/cart-1/));
    await assert.rejects(agent.synced(20), fails('testbed.timeout'));
  });

  test('names that fit no packet fail that pod only', async t => {
    const { agent, proxy } = await bench(t);
    agent.add('u1', { ...INFO, name: 'x'.repeat(1100) }, OWN_NETNS);
    agent.add('u2', INFO, OWN_NETNS);
    assert.equal((await proxy().takeSnapshot()).length, 1);
    await assert.rejects(agent.enrolled('u1'), fails('enrol.refused', /1024/));
    await agent.enrolled('u2');
  });

  test('closing tells those who wait, and a closed agent takes no more pods', async t => {
    const { agent } = await bench(t);
    agent.add('u1', INFO, OWN_NETNS);
    const enrolled = agent.enrolled('u1');
    assert.throws(() => agent.add('u1', INFO, OWN_NETNS), fails('testbed.name_taken'));
    agent.close();
    await assert.rejects(enrolled, fails('testbed.closed'));
    assert.throws(() => agent.add('u2', INFO, OWN_NETNS), fails('testbed.closed'));
  });
});
