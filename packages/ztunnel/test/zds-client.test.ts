import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createNetNs, Fd, openFdCount, SeqPacket, type SeqPacketListener } from '@ambit/native';
import { type Ack, decodeAck, decodeHello, encodeRequest, type WorkloadRequest } from '@ambit/wire';
import { systemClock } from '../src/clock.ts';
import { Log, LogFilter } from '../src/log.ts';
import { MainReactor } from '../src/zds/main-reactor.ts';
import { ZdsClient } from '../src/zds/zds-client.ts';
import { ZdsSocket } from '../src/zds/zds-socket.ts';

/** The agent's end, reading by short polls of a non-blocking socket. */
class Agent {
  readonly #listener: SeqPacketListener;
  #socket: SeqPacket | undefined;

  constructor(path: string) {
    this.#listener = SeqPacket.listen(path, 8);
  }

  async accept(): Promise<void> {
    this.#socket?.close();
    this.#socket = await eventually(() => this.#listener.accept());
    assert.deepEqual(decodeHello(await this.#packet()), { version: 'V1', canary: true });
  }

  async ask(request: WorkloadRequest | Uint8Array, fds: readonly Fd[] = []): Promise<Ack> {
    const bytes = request instanceof Uint8Array ? request : encodeRequest(request);
    assert.ok((this.#socket?.send(bytes, fds) ?? -1) > 0);
    return decodeAck(await this.#packet());
  }

  hangUp(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  close(): void {
    this.hangUp();
    this.#listener.close();
  }

  async #packet(): Promise<Uint8Array> {
    return eventually(() => {
      const received = this.#socket?.receive(1024, 1);
      return received?.kind === 'message' ? received.bytes : undefined;
    });
  }
}

async function eventually<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await new Promise(resolve => setImmediate(resolve));
  }
}

interface World {
  readonly agent: Agent;
  readonly client: ZdsClient;
  readonly opened: string[];
  readonly described: string[];
  readonly closed: string[];
  readonly broken: Set<string>;
  readonly lines: string[];
  isReady: boolean;
}

async function withClient(run: (world: World) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-zds-'));
  const path = join(directory, 'zds.sock');
  const filter = LogFilter.parse('info');
  assert.ok(filter !== undefined);
  const lines: string[] = [];
  const log = new Log({ write: line => lines.push(line), now: () => 0 }, { format: 'plain', filter });
  const reactor = new MainReactor(error => assert.fail(String(error)));
  const world: World = {
    agent: new Agent(path),
    opened: [],
    described: [],
    closed: [],
    broken: new Set(),
    lines,
    isReady: false,
    client: new ZdsClient(
      {
        connect: () => new ZdsSocket(path, reactor),
        openPod: async (uid, info, netnsFd) => {
          assert.ok(netnsFd > 2);
          if (world.broken.has(uid)) return 'port 15008 is taken';
          world.opened.push(`${uid}=${info.name}`);
          return undefined;
        },
        describePod: (uid, { l7 }) => void world.described.push(`${uid}=${l7}`),
        closePod: async uid => void world.closed.push(uid),
        onReady: isReady => void (world.isReady = isReady),
        clock: systemClock,
        random: () => 0.5,
        log: log.scope('ztunnel::zds'),
      },
      { path, retryPendingMs: 20 },
    ),
  };
  const running = world.client.run();
  try {
    await world.agent.accept();
    await run(world);
  } finally {
    world.client.stop();
    await running;
    world.agent.close();
    reactor.close();
    await rm(directory, { recursive: true });
  }
}

/** The own network namespace as a descriptor to send; needs no rights. */
function ownNetns(): Fd {
  return new Fd(openSync('/proc/self/ns/net', 'r'));
}

const add = (uid: string, name = 'web-1'): WorkloadRequest => ({
  kind: 'add',
  uid,
  info: { name, namespace: 'shop', serviceAccount: 'web' },
});

test('Z11: hello, add, snapshot, delete; ready exactly after the snapshot; no descriptor leaks', async () => {
  const before = openFdCount();
  await withClient(async world => {
    const { agent, opened, closed, client } = world;
    using netns = ownNetns();
    assert.deepEqual(await agent.ask(add('a'), [netns]), { kind: 'ok' });
    assert.deepEqual(opened, ['a=web-1']);
    assert.equal(world.isReady, false);
    assert.deepEqual(await agent.ask(add('a'), [netns]), { kind: 'ok' });
    assert.deepEqual(opened, ['a=web-1'], 'an identical add starts nothing');
    await agent.ask({ kind: 'snapshotSent' });
    assert.deepEqual(client.counts, { running: 1, pending: 0 });
    await agent.ask({ kind: 'del', uid: 'a' });
    assert.deepEqual(closed, ['a']);
    assert.deepEqual(client.counts, { running: 0, pending: 0 });
  });
  assert.equal(openFdCount(), before);
});

test('what an agent says anew of a pod is told on, and cuts nothing', () =>
  withClient(async ({ agent, opened, described, closed }) => {
    using netns = ownNetns();
    const info = { name: 'web-1', namespace: 'shop', serviceAccount: 'web' };
    for (const l7 of ['on', 'off', 'off']) {
      assert.deepEqual(await agent.ask({ kind: 'add', uid: 'a', info: { ...info, l7 } }, [netns]), { kind: 'ok' });
    }
    assert.deepEqual([opened, described, closed], [['a=web-1'], ['a=off'], []]);
  }));

test('readiness follows the snapshot, a pending pod and the connection', () =>
  withClient(async world => {
    const { agent, broken } = world;
    using netns = ownNetns();
    await agent.ask({ kind: 'snapshotSent' });
    await eventually(() => (world.isReady ? true : undefined));
    broken.add('a');
    assert.deepEqual(await agent.ask(add('a'), [netns]), {
      kind: 'failed',
      error: 'failure to start proxy : port 15008 is taken',
    });
    await eventually(() => (world.isReady ? undefined : true));
    broken.clear();
    await eventually(() => (world.isReady ? true : undefined));
    assert.deepEqual(world.opened, ['a=web-1']);
    agent.hangUp();
    await eventually(() => (world.isReady ? undefined : true));
    await agent.accept();
    await agent.ask({ kind: 'keep', uid: 'a' });
    await agent.ask({ kind: 'snapshotSent' });
    await eventually(() => (world.isReady ? true : undefined));
    assert.deepEqual(world.closed, []);
  }));

test('a protocol error is acknowledged, counted, and answered with a new connection; pods stay', () =>
  withClient(async ({ agent, client, closed, lines }) => {
    using netns = ownNetns();
    await agent.ask(add('a'), [netns]);
    await agent.ask({ kind: 'snapshotSent' });
    const ack = await agent.ask({ kind: 'keep', uid: 'a' });
    assert.ok(ack.kind === 'failed' && ack.error.startsWith('failure to process message : '), JSON.stringify(ack));
    await agent.accept();
    assert.equal(client.disconnects.get('keep_after_snapshot'), 1);
    assert.deepEqual(closed, []);
    assert.ok(lines.some(line => line.includes('broke the protocol')));
  }));

test('Z1: wrong descriptors and garbage are refused with a reason, and their descriptors are closed', async () => {
  const before = openFdCount();
  await withClient(async ({ agent, client, opened }) => {
    using netns = ownNetns();
    using file = new Fd(openSync('/dev/null', 'r'));
    const cases: readonly (readonly [WorkloadRequest | Uint8Array, readonly Fd[], RegExp])[] = [
      [add('a'), [], /failure to read message : No control message/],
      [{ kind: 'del', uid: 'a' }, [netns], /Unexpected control message/],
      [add('a'), [netns, netns], /Expected 1 FD, got 2/],
      [add('a'), [file], /not a network namespace/],
      [Uint8Array.of(255, 255, 255), [netns], /failure to read message/],
      [new Uint8Array(2000), [netns], /longer than allowed/],
    ];
    for (const [request, fds, error] of cases) {
      const ack = await agent.ask(request, fds);
      assert.ok(ack.kind === 'failed');
      assert.match(ack.error, error);
      await agent.accept();
    }
    assert.equal(client.disconnects.get('bad_packet'), cases.length);
    assert.deepEqual(opened, []);
  });
  assert.equal(openFdCount(), before);
});

test('another namespace under the same uid replaces the pod', async t => {
  let other: Fd;
  try {
    using netns = createNetNs();
    other = new Fd(netns.run(() => openSync('/proc/thread-self/ns/net', 'r')));
  } catch (error) {
    t.skip(`cannot make a network namespace: ${String(error)}`);
    return;
  }
  await withClient(async ({ agent, opened, closed }) => {
    using netns = ownNetns();
    await agent.ask(add('a'), [netns]);
    await agent.ask(add('a', 'web-2'), [other]);
    assert.deepEqual(opened, ['a=web-1', 'a=web-2']);
    assert.deepEqual(closed, ['a']);
  });
  other.close();
});

test('an agent that is not there yet is waited for', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'ambit-zds-'));
  const path = join(directory, 'zds.sock');
  const filter = LogFilter.parse('off');
  assert.ok(filter !== undefined);
  const log = new Log({ write: () => undefined, now: () => 0 }, { format: 'plain', filter });
  const reactor = new MainReactor(error => assert.fail(String(error)));
  let attempts = 0;
  const client = new ZdsClient(
    {
      connect: () => {
        attempts++;
        return new ZdsSocket(path, reactor);
      },
      openPod: async () => undefined,
      describePod: () => undefined,
      closePod: async () => undefined,
      onReady: () => undefined,
      clock: systemClock,
      random: () => 0.5,
      log: log.scope('x'),
    },
    { path, retryPendingMs: 1000 },
  );
  const running = client.run();
  await eventually(() => (attempts > 1 ? true : undefined));
  const agent = new Agent(path);
  await agent.accept();
  client.stop();
  await running;
  agent.close();
  reactor.close();
  await rm(directory, { recursive: true });
});
