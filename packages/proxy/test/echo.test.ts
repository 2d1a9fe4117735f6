// What an application notices of the mesh: nothing. Run with both record layers; each test ends with the leak check of
// withMesh.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import type { RecordLayer } from '@ambit/native';
import { dial, digest, ending, readAll, readBytes, sendPattern, serve, serveEcho } from './apps.ts';
import { withMesh } from './with-mesh.ts';

const KINDS: ReadonlyArray<RecordLayer['kind']> = ['own', 'openssl'];

for (const records of KINDS) {
  const tls = { records };
  describe(`streams over records of kind ${records}`, () => {
    test('100 MB come back as they went', async () => {
      await using app = await serveEcho();
      await withMesh({ tls }, async mesh => {
        const socket = await dial(mesh.to(app.port));
        const [sent, got] = await Promise.all([sendPattern(socket, 100_000_000), digest(socket)]);
        assert.deepEqual(got, { hash: sent, bytes: 100_000_000 });
        assert.deepEqual(mesh.client.statuses, [200]);
      });
    });

    test('single bytes written one by one keep their order', async () => {
      await using app = await serveEcho();
      await withMesh({ tls }, async mesh => {
        const socket = await dial(mesh.to(app.port));
        const bytes = Buffer.from(Array.from({ length: 500 }, (_, i) => i & 0xff));
        const got = readBytes(socket, bytes.length);
        for (const byte of bytes) {
          socket.write(Buffer.of(byte));
          await new Promise(resolve => setImmediate(resolve));
        }
        assert.deepEqual(await got, bytes);
        for (let i = 0; i < 100; i++) {
          socket.write(Buffer.of(i));
          assert.deepEqual(await readBytes(socket, 1), Buffer.of(i));
        }
        socket.end();
        assert.equal((await readAll(socket)).length, 0);
      });
    });

    test('40 echoes at once share one tunnel and do not mix', async () => {
      await using app = await serveEcho();
      await withMesh({ tls }, async mesh => {
        const port = mesh.to(app.port);
        await Promise.all(
          Array.from({ length: 40 }, async (_, i) => {
            const socket = await dial(port);
            const [sent, got] = await Promise.all([sendPattern(socket, 500_000 + i * 997, i), digest(socket)]);
            assert.deepEqual(got, { hash: sent, bytes: 500_000 + i * 997 });
          }),
        );
        assert.equal(mesh.server.tunnelsOpened, 1);
        assert.equal(mesh.server.ends.length, 40);
        assert.ok(mesh.server.ends.every(({ end }) => end.kind === 'finished'));
        assert.ok(mesh.client.ends.every(end => end.kind === 'finished'));
      });
    });
  });
}

describe('half-close', () => {
  test('a client that ends first still gets the answer', async () => {
    await using app = await serve(async socket => {
      const request = await readAll(socket);
      socket.end(`got ${request.length}`);
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      socket.end('x'.repeat(70_000));
      assert.equal((await readAll(socket)).toString(), 'got 70000');
    });
  });

  test('a server that ends first still gets what the client sends', async () => {
    const received = Promise.withResolvers<number>();
    await using app = await serve(async socket => {
      socket.end('bye');
      received.resolve((await readAll(socket)).length);
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      assert.equal((await readAll(socket)).toString(), 'bye');
      socket.end(Buffer.alloc(3_000_000));
      assert.equal(await received.promise, 3_000_000);
    });
  });

  test('a client that ends at once, without a byte, reaches the server as an end', async () => {
    const received = Promise.withResolvers<number>();
    await using app = await serve(async socket => {
      received.resolve((await readAll(socket)).length);
      socket.end();
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      socket.end();
      assert.equal(await received.promise, 0);
      assert.equal((await readAll(socket)).length, 0);
    });
  });
});

describe('resets', () => {
  test('a reset by the client reaches the server as a reset', async () => {
    const seen = Promise.withResolvers<string>();
    await using app = await serve(async socket => {
      const end = ending(socket);
      socket.write('ready');
      socket.resume();
      seen.resolve(await end);
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      await readBytes(socket, 5);
      socket.resetAndDestroy();
      assert.equal(await seen.promise, 'reset');
      await mesh.driver.until(() => mesh.client.ends.length === 1 && mesh.server.ends.length === 1, 'both ends told');
      assert.deepEqual(
        mesh.client.ends.map(end => end.kind === 'failed' && end.reason),
        ['peer.reset'],
      );
      assert.deepEqual(
        mesh.server.ends.map(({ end }) => end.kind === 'failed' && end.reason),
        ['peer.reset'],
      );
    });
  });

  test('a reset by the server reaches the client as a reset', async () => {
    await using app = await serve(socket => {
      socket.once('data', () => socket.resetAndDestroy());
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      const end = ending(socket);
      socket.resume();
      socket.write('now');
      assert.equal(await end, 'reset');
    });
  });

  test('a reset by a half-closed client is not lost', async () => {
    const seen = Promise.withResolvers<string>();
    await using app = await serve(async socket => {
      await readAll(socket);
      const end = ending(socket);
      const feed = setInterval(() => socket.write('more'), 2);
      seen.resolve(await end);
      clearInterval(feed);
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      socket.end();
      await readBytes(socket, 4);
      socket.resetAndDestroy();
      assert.equal(await seen.promise, 'reset');
    });
  });

  test('a reset by a client whose peer does not read, with every window used up, frees the stream', async () => {
    await using app = await serve(socket => socket.pause());
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      const chunk = Buffer.alloc(65_536);
      while (socket.write(chunk));
      await mesh.driver.until(() => {
        if (socket.writableLength < 65_536) while (socket.write(chunk));
        const stream = mesh.client.pool.tunnels()[0]?.tunnel.streams.values().next().value;
        return stream !== undefined && stream.phase === 'open' && stream.sendWindow === 0;
      }, 'the stream window is used up');
      socket.resetAndDestroy();
      await mesh.driver.until(() => mesh.client.streamCount + mesh.server.streamCount === 0, 'streams gone');
    });
  });

  test('an application that is not there is a 503 and a reset', async () => {
    const closed = await serve(() => undefined);
    await closed[Symbol.asyncDispose]();
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(closed.port));
      assert.equal(await ending(socket), 'reset');
      assert.deepEqual(mesh.client.statuses, [503]);
      const [end] = mesh.client.ends;
      assert.ok(
        end?.kind === 'failed' && end.reason === 'hbone.status' && end.error.includes('503 Service Unavailable'),
      );
      const [served] = mesh.server.ends;
      assert.ok(served?.end.kind === 'failed' && served.end.reason === 'dial.refused');
    });
  });
});

describe('sharing a tunnel', () => {
  test('streams whose readers are stuck do not hold up a busy one', async () => {
    await using stuck = await serve(socket => socket.pause());
    await using app = await serveEcho();
    await withMesh({ server: { sendBufferBytes: 65_536 } }, async mesh => {
      const toStuck = mesh.to(stuck.port);
      const fillers = await Promise.all(Array.from({ length: 20 }, () => dial(toStuck)));
      const chunk = Buffer.alloc(65_536);
      const fill = (): void => {
        for (const socket of fillers) if (socket.writableLength < 65_536) while (socket.write(chunk));
      };
      await mesh.driver.until(() => {
        fill();
        const [tunnel] = mesh.server.tunnels;
        const streams = tunnel === undefined ? [] : Array.from(tunnel.streams.values());
        return streams.length === 20 && streams.every(stream => stream.pendingBytes > 300_000);
      }, 'every stuck stream holds most of its window');
      const socket = await dial(mesh.to(app.port));
      const [sent, got] = await Promise.all([sendPattern(socket, 20_000_000), digest(socket)]);
      assert.deepEqual(got, { hash: sent, bytes: 20_000_000 });
      assert.equal(mesh.server.tunnelsOpened, 1);
      // 20 windows of 512 KiB, and the chunks they are kept in.
      assert.ok(mesh.server.engine.budget.usedBytes < 20 * 600 * 1024 + 5 * 1024 * 1024);
      for (const each of fillers) each.resetAndDestroy();
    });
  });

  test('a slow reader costs its window and no more, and gets every byte', async () => {
    const go = Promise.withResolvers<void>();
    const result = Promise.withResolvers<{ readonly hash: string; readonly bytes: number }>();
    await using app = await serve(async socket => {
      socket.pause();
      await go.promise;
      result.resolve(await digest(socket));
      socket.end();
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      const sending = sendPattern(socket, 40_000_000);
      let highest = 0;
      const watch = (): boolean => {
        highest = Math.max(highest, mesh.server.engine.budget.usedBytes);
        const stream = mesh.client.pool.tunnels()[0]?.tunnel.streams.values().next().value;
        return stream !== undefined && stream.phase === 'open' && stream.sendWindow === 0;
      };
      await mesh.driver.until(watch, 'the window is used up');
      assert.ok(highest < 512 * 1024 * 1.5 + 2 * 1024 * 1024, `held ${highest} bytes`);
      go.resolve();
      assert.equal((await result.promise).hash, await sending);
      socket.resume();
      await once(socket, 'close');
    });
  });

  test('a tail that a slow application has not taken survives the end of its tunnel', async () => {
    const go = Promise.withResolvers<void>();
    const result = Promise.withResolvers<{ readonly hash: string; readonly bytes: number }>();
    await using app = await serve(async socket => {
      socket.end();
      socket.pause();
      await go.promise;
      result.resolve(await digest(socket));
    });
    await withMesh({ server: { sendBufferBytes: 65_536 } }, async mesh => {
      const socket = await dial(mesh.to(app.port));
      // More than the two socket buffers take, less than they and the window.
      const sent = await sendPattern(socket, 600_000);
      socket.resume();
      await mesh.driver.until(() => mesh.client.ends.length === 1, 'the client proxy is done');
      const [tunnel] = mesh.server.tunnels;
      assert.ok(Array.from(tunnel?.streams.values() ?? []).some(stream => stream.isSettled && stream.pendingBytes > 0));
      mesh.client.pool.drain();
      await mesh.driver.until(() => mesh.server.tunnels.size === 0, 'the tunnel is closed');
      assert.deepEqual(
        mesh.server.tunnelEnds.map(end => end.reason),
        [undefined],
      );
      go.resolve();
      assert.deepEqual(await result.promise, { hash: sent, bytes: 600_000 });
      await mesh.driver.until(() => mesh.server.ends.length === 1, 'the stream is over');
      assert.equal(mesh.server.ends[0]?.end.kind, 'finished');
    });
  });

  test('1000 short connections leave nothing behind', async () => {
    await using app = await serveEcho();
    await withMesh({}, async mesh => {
      const port = mesh.to(app.port);
      let left = 1000;
      const worker = async (): Promise<void> => {
        while (left-- > 0) {
          const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
          socket.end('ping');
          assert.equal((await readAll(socket)).toString(), 'ping');
        }
      };
      await Promise.all(Array.from({ length: 20 }, worker));
      await mesh.driver.until(() => mesh.server.ends.length === 1000, 'all ended');
      assert.equal(mesh.server.tunnelsOpened, 1);
      assert.equal(mesh.client.failures.length, 0);
    });
  });
});
