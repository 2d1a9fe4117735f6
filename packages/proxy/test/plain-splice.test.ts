// The copy between two plain connections keeps the promises of a stream: order, half-close, resets, bounded memory.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { type Fd, listenTcp, openTcp, ownedFdCount, setSendBuffer, startConnect } from '@ambit/native';
import { Engine, MemoryBudget, PlainSplice, type SpliceOwner, type StreamEnd } from '../src/index.ts';
import { dial, digest, ending, portOf, readAll, readBytes, sendPattern, serve, serveEcho } from './apps.ts';
import { Driver } from './driver.ts';
import { addressOf, Listener } from './mini-mesh.ts';

interface Splices {
  readonly driver: Driver;
  readonly engine: Engine;
  readonly ends: StreamEnd[];
  readonly errnos: number[];
  readonly splices: PlainSplice[];
  /** Clients given back after a failed dial. */
  readonly givenBack: Fd[];
  to(port: number): number;
}

async function withSplices(
  run: (splices: Splices) => Promise<void>,
  options: {
    readonly budgetBytes?: number;
    readonly sendBufferBytes?: number;
    readonly givesBack?: boolean;
    readonly connectTimeoutMs?: number;
  } = {},
): Promise<void> {
  const fds = ownedFdCount();
  const engine = new Engine(new MemoryBudget(options.budgetBytes ?? 64 * 1024 * 1024));
  const driver = new Driver();
  driver.add(engine);
  const listeners: Listener[] = [];
  const all: Splices = {
    driver,
    engine,
    ends: [],
    errnos: [],
    splices: [],
    givenBack: [],
    to: port => {
      const listener = new Listener(engine, client => {
        const upstream = openTcp('ipv4');
        if (options.sendBufferBytes !== undefined) setSendBuffer(upstream, options.sendBufferBytes);
        startConnect(upstream, addressOf(`127.0.0.1:${port}`));
        const owner: SpliceOwner = {
          onUpstreamDialed: errno => {
            all.errnos.push(errno);
            if (errno === 0) return;
            const back = options.givesBack === true ? splice.giveUpUpstream() : undefined;
            if (back === undefined)
              splice.abort({ kind: 'failed', reason: 'dial.refused', error: '', retryable: false });
            else all.givenBack.push(back);
          },
          onSpliceClosed: end => all.ends.push(end),
        };
        const splice = new PlainSplice(engine, client, upstream, owner, options.connectTimeoutMs ?? 10_000);
        all.splices.push(splice);
      });
      listeners.push(listener);
      return listener.port;
    },
  };
  let isDone = false;
  const work = run(all).finally(() => {
    isDone = true;
  });
  try {
    await Promise.race([work, driver.until(() => isDone, 'the test')]);
    await work;
    await driver.until(() => all.splices.every(splice => splice.isClosed), 'all splices closed');
  } finally {
    for (const listener of listeners) listener.close();
    for (const splice of all.splices) splice.abort({ kind: 'finished' });
    await driver.stop();
    engine.close();
  }
  assert.equal(engine.timers.size, 0);
  assert.equal(engine.budget.usedBytes, 0);
  assert.equal(ownedFdCount(), fds);
}

describe('a plain splice', () => {
  test('copies 50 MB both ways', async () => {
    await using app = await serveEcho();
    await withSplices(async ({ to, splices, ends, driver }) => {
      const socket = await dial(to(app.port));
      const [sent, got] = await Promise.all([sendPattern(socket, 50_000_000), digest(socket)]);
      assert.deepEqual(got, { hash: sent, bytes: 50_000_000 });
      await driver.until(() => ends.length === 1, 'closed');
      assert.equal(ends[0]?.kind, 'finished');
      assert.equal(splices[0]?.bytesToUpstream, 50_000_000);
      assert.equal(splices[0]?.bytesToClient, 50_000_000);
    });
  });

  test('keeps each direction open by itself', async () => {
    const received = Promise.withResolvers<number>();
    await using app = await serve(async socket => {
      socket.end('bye');
      received.resolve((await readAll(socket)).length);
    });
    await withSplices(async ({ to }) => {
      const socket = await dial(to(app.port));
      assert.equal((await readAll(socket)).toString(), 'bye');
      socket.end(Buffer.alloc(1_000_000));
      assert.equal(await received.promise, 1_000_000);
    });
  });

  test('passes resets on, in both directions', async () => {
    const seen = Promise.withResolvers<string>();
    await using app = await serve(async socket => {
      socket.write('ready');
      const end = ending(socket);
      socket.resume();
      seen.resolve(await end);
    });
    await using rude = await serve(socket => void socket.once('data', () => socket.resetAndDestroy()));
    await withSplices(async ({ to, ends, driver }) => {
      const socket = await dial(to(app.port));
      await readBytes(socket, 5);
      socket.resetAndDestroy();
      assert.equal(await seen.promise, 'reset');
      const other = await dial(to(rude.port));
      const end = ending(other);
      other.resume();
      other.write('x');
      assert.equal(await end, 'reset');
      await driver.until(() => ends.length === 2, 'both closed');
      assert.ok(ends.every(each => each.kind === 'failed' && each.reason === 'peer.reset'));
    });
  });

  test('waits for a slow reader with at most one read in memory', async () => {
    const go = Promise.withResolvers<void>();
    const result = Promise.withResolvers<{ readonly hash: string; readonly bytes: number }>();
    await using app = await serve(async socket => {
      socket.pause();
      await go.promise;
      result.resolve(await digest(socket));
      socket.end();
    });
    await withSplices(
      async ({ to, engine, driver }) => {
        const socket = await dial(to(app.port));
        const sending = sendPattern(socket, 12_000_000);
        let highest = 0;
        await driver.until(() => {
          highest = Math.max(highest, engine.budget.usedBytes);
          return engine.budget.usedBytes > 0 && socket.writableLength > 0;
        }, 'stuck');
        assert.ok(highest <= 256 * 1024 + 16_384, `held ${highest}`);
        go.resolve();
        assert.equal((await result.promise).hash, await sending);
        await readAll(socket);
      },
      { sendBufferBytes: 262_144 },
    );
  });

  test('is reset when the budget has no room for what it must keep', async () => {
    await using app = await serve(socket => void socket.pause());
    await withSplices(
      async ({ to, ends, driver }) => {
        const socket = await dial(to(app.port));
        const end = ending(socket);
        socket.resume();
        socket.write(Buffer.alloc(8_000_000));
        await end;
        await driver.until(() => ends.length === 1, 'closed');
        assert.ok(ends[0]?.kind === 'failed' && ends[0].reason === 'limit.memory');
      },
      { sendBufferBytes: 4096, budgetBytes: 10 },
    );
  });

  test('tells of an upstream that refuses, and can give the client back untouched', async () => {
    const server = net.createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const port = portOf(server);
    server.close();
    await once(server, 'close');
    await withSplices(async ({ to, errnos, ends, driver }) => {
      const socket = await dial(to(port));
      const end = ending(socket);
      socket.resume();
      assert.equal(await end, 'reset');
      await driver.until(() => ends.length === 1, 'closed');
      assert.deepEqual(errnos, [111]);
    });
    await withSplices(
      async ({ to, givenBack, ends, driver }) => {
        const socket = await dial(to(port));
        await driver.until(() => givenBack.length === 1, 'given back');
        assert.equal(ends.length, 0);
        assert.ok(givenBack[0]?.isOpen);
        givenBack[0]?.close();
        assert.equal((await readAll(socket)).length, 0);
      },
      { givesBack: true },
    );
  });

  test('gives up an upstream that does not answer in time', async () => {
    // A listener whose queue is full lets further connects wait.
    const silent = listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 });
    const fillers = [openTcp('ipv4'), openTcp('ipv4'), openTcp('ipv4')];
    for (const filler of fillers) startConnect(filler, addressOf(`127.0.0.1:${silent.port}`));
    await withSplices(
      async ({ to, errnos, ends, driver }) => {
        const socket = await dial(to(silent.port));
        const end = ending(socket);
        socket.resume();
        assert.equal(await end, 'reset');
        await driver.until(() => ends.length === 1, 'closed');
        assert.ok(ends[0]?.kind === 'failed' && ends[0].reason === 'dial.timeout');
        assert.deepEqual(errnos, []);
      },
      { connectTimeoutMs: 20 },
    );
    for (const fd of [...fillers, silent.fd]) fd.close();
  });
});
