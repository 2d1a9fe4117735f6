// Both windows of both directions, and the memory budget, against a peer that keeps to nothing (RFC 9113 section 5.2).
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FRAME_TYPE, H2_ERROR, SETTING } from '../src/h2/index.ts';
import { failed, MemoryBudget, type TunnelStream } from '../src/index.ts';
import { dial, readBytes, serve, serveEcho } from './apps.ts';
import { addressOf, meshCertificates } from './mini-mesh.ts';
import { dataFrame, RawPeer, RawServer, settingsFrame, windowUpdate } from './raw-peer.ts';
import { withMesh } from './with-mesh.ts';

const WINDOW = 128 * 1024;
const CONNECTION = 256 * 1024;
const SMALL = { streamWindowBytes: WINDOW, connectionWindowBytes: CONNECTION };

describe('what a peer sends', () => {
  test('a stream that exceeds its window is reset, others go on', async () => {
    await using stuck = await serve(socket => void socket.pause());
    await using echo = await serveEcho();
    await withMesh({ server: { settings: SMALL, sendBufferBytes: 4096 } }, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      peer.send(peer.requestFrame(1, `127.0.0.1:${stuck.port}`), peer.requestFrame(3, `127.0.0.1:${echo.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 2, 'both answered');
      // As fast as the connection window allows; the application's kernel takes some of it, and that is credited.
      let sent = 0;
      while (peer.resets(1).length === 0) {
        if (sent + 16_384 <= CONNECTION + peer.credit(0) - (CONNECTION - 65_535)) {
          peer.send(dataFrame(1, Buffer.alloc(16_384)));
          sent += 16_384;
        }
        await new Promise(resolve => setImmediate(resolve));
      }
      assert.ok(sent > WINDOW + peer.credit(1), 'reset only beyond the window');
      assert.deepEqual(peer.resets(1), [H2_ERROR.FLOW_CONTROL_ERROR]);
      peer.send(dataFrame(3, Buffer.from('still here')));
      await peer.until(() => peer.dataBytes(3) === 10, 'the echo');
      assert.equal(peer.goaways.length, 0);
      const [ended] = server.ends;
      assert.ok(ended?.end.kind === 'failed' && ended.end.reason === 'hbone.flow_control');
      peer.close();
    });
  });

  test('a peer that exceeds the connection window is cut with FLOW_CONTROL_ERROR', async () => {
    const settings = { ...SMALL, streamWindowBytes: 1024 * 1024 };
    await withMesh({ server: { settings } }, async ({ server }) => {
      server.onStream = stream => void stream;
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      // One frame larger than the whole connection window: no credit can come in time.
      peer.send(peer.requestFrame(1, '127.0.0.1:1'), dataFrame(1, Buffer.alloc(CONNECTION + 1)));
      await peer.until(() => peer.goaways.length === 1, 'GOAWAY');
      assert.equal(peer.goaways[0]?.code, H2_ERROR.FLOW_CONTROL_ERROR);
      assert.deepEqual(
        server.tunnelEnds.map(end => end.reason),
        ['hbone.flow_control'],
      );
      peer.close();
    });
  });

  test('a peer that has not acknowledged our smaller window may use the usual one', async () => {
    let received = 0;
    await using app = await serve(socket => socket.on('data', bytes => (received += bytes.length)));
    await withMesh({ server: { settings: { ...SMALL, streamWindowBytes: 16_384 } } }, async ({ server, driver }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`));
      for (let i = 0; i < 6; i++) peer.send(dataFrame(1, Buffer.alloc(10_000)));
      await driver.until(() => received === 60_000 || peer.resets(1).length > 0, 'all of it');
      assert.deepEqual(peer.resets(1), []);
      // A stream that opens after the acknowledgement is held to what we said.
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      peer.send(peer.requestFrame(3, `127.0.0.1:${app.port}`), dataFrame(3, Buffer.alloc(40_000)));
      await peer.until(() => peer.resets(3).length === 1, 'reset');
      assert.deepEqual(peer.resets(3), [H2_ERROR.FLOW_CONTROL_ERROR]);
      peer.close();
    });
  });

  test('stream window comes back only for bytes that the kernel of the application took', async () => {
    const accepted = Promise.withResolvers<void>();
    await using app = await serve(socket => {
      socket.pause();
      accepted.resolve();
    });
    await withMesh({ server: { settings: SMALL } }, async ({ server }) => {
      let release = (): void => undefined;
      server.onStream = stream => {
        release = () => server.dial(stream);
      };
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      for (let i = 0; i < 7; i++) peer.send(dataFrame(1, Buffer.alloc(16_384)));
      // The connection's window is given back on receipt: the sign that all of it has arrived.
      await peer.until(() => peer.credit(0) >= CONNECTION - 65_535 + 65_536, 'connection credit');
      assert.equal(peer.credit(1), 0);
      release();
      await accepted.promise;
      await peer.until(() => peer.credit(1) > 0, 'stream credit');
      peer.close();
    });
  });

  test('bytes of our own go first, and no window is given for them', async () => {
    const header = Buffer.alloc(200_000, 'H');
    let received = Buffer.alloc(0);
    await using app = await serve(socket => {
      socket.on('data', bytes => (received = Buffer.concat([received, bytes])));
    });
    await withMesh({ server: { settings: SMALL, sendBufferBytes: 65_536 } }, async ({ server, driver }) => {
      server.header = header;
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`), dataFrame(1, Buffer.alloc(1000, 'a')));
      await driver.until(() => received.length === header.length + 1000, 'all of it');
      assert.ok(received.subarray(0, header.length).equals(header));
      assert.equal(peer.credit(1), 0);
      const [stream] = Array.from(server.tunnels).flatMap(tunnel => Array.from(tunnel.streams.values()));
      assert.equal(stream?.bytesFromTunnel, 1000);
      assert.equal(stream?.receiveWindow, WINDOW - 1000);
      peer.close();
    });
  });

  test('padding counts against windows and is given back', async () => {
    await using app = await serve(socket => void socket.resume());
    await withMesh({ server: { settings: SMALL } }, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'answer');
      const padded = Buffer.alloc(1 + 255);
      padded[0] = 255;
      let sent = 0;
      while (sent < 3 * CONNECTION) {
        await peer.until(() => sent + 256 <= Math.min(WINDOW + peer.credit(1), 65_535 + peer.credit(0)), 'window');
        peer.send(dataFrame(1, padded, 0x8));
        sent += 256;
      }
      peer.send(dataFrame(1, Buffer.alloc(0), 0x1));
      peer.close();
    });
  });

  test('window overflow ends the stream, and on stream 0 the connection', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`), peer.requestFrame(3, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 2, 'answers');
      peer.send(windowUpdate(1, 0x7fff_ffff));
      await peer.until(() => peer.resets(1).length === 1, 'reset');
      assert.deepEqual(peer.resets(1), [H2_ERROR.FLOW_CONTROL_ERROR]);
      peer.send(windowUpdate(0, 0x7fff_ffff));
      await peer.until(() => peer.goaways.length === 1, 'GOAWAY');
      assert.equal(peer.goaways[0]?.code, H2_ERROR.FLOW_CONTROL_ERROR);
      peer.close();
    });
  });

  test('an initial window that overflows running streams ends the connection', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`), windowUpdate(1, 0x7fff_0000));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'answer');
      peer.send(settingsFrame([{ id: SETTING.INITIAL_WINDOW_SIZE, value: 0x7fff_ffff }]));
      await peer.until(() => peer.goaways.length === 1, 'GOAWAY');
      assert.equal(peer.goaways[0]?.code, H2_ERROR.FLOW_CONTROL_ERROR);
      peer.close();
    });
  });
});

describe('what a peer lets us send', () => {
  test('a window that becomes negative stops the stream until it is positive again', async () => {
    await withMesh({}, async ({ client, driver }) => {
      await using peers = await RawServer.listen(await meshCertificates());
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const socket = await dial(port);
      socket.write(Buffer.alloc(60_000));
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'request');
      peer.send(peer.responseFrame(1, 200));
      await peer.until(() => peer.dataBytes(1) === 60_000, 'the first bytes');
      peer.send(settingsFrame([{ id: SETTING.INITIAL_WINDOW_SIZE, value: 1000 }]));
      await driver.until(() => {
        const stream = client.pool.tunnels()[0]?.tunnel.streams.get(1);
        return stream?.sendWindow === 1000 - 60_000;
      }, 'a negative window');
      socket.write(Buffer.alloc(20_000));
      peer.send(windowUpdate(1, 59_000));
      await driver.until(() => client.pool.tunnels()[0]?.tunnel.streams.get(1)?.sendWindow === 0, 'window 0');
      assert.equal(peer.dataBytes(1), 60_000);
      peer.send(windowUpdate(1, 5));
      await peer.until(() => peer.dataBytes(1) === 60_005, 'five bytes');
      peer.send(windowUpdate(1, 100_000), windowUpdate(0, 100_000));
      await peer.until(() => peer.dataBytes(1) === 80_000, 'the rest');
      peer.send(dataFrame(1, Buffer.alloc(0), 0x1));
      socket.end();
      await peer.until(() => peer.all(FRAME_TYPE.DATA, 1).some(each => (each.flags & 1) !== 0), 'END_STREAM');
    });
  });

  test('the connection window is shared and never exceeded', async () => {
    await withMesh({}, async ({ client }) => {
      await using peers = await RawServer.listen(await meshCertificates(), {
        settings: [{ id: SETTING.INITIAL_WINDOW_SIZE, value: 1_000_000 }],
      });
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const sockets = await Promise.all(Array.from({ length: 4 }, () => dial(port)));
      for (const socket of sockets) socket.end(Buffer.alloc(50_000));
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 4, 'requests');
      for (const id of [1, 3, 5, 7]) peer.send(peer.responseFrame(id, 200));
      const total = (): number => [1, 3, 5, 7].reduce((sum, id) => sum + peer.dataBytes(id), 0);
      let window = 65_535;
      while (total() < 200_000) {
        await peer.until(() => total() >= Math.min(window, 200_000), 'all that the window allows');
        assert.ok(total() <= window, `${total()} bytes for a window of ${window}`);
        window += 10_000;
        peer.send(windowUpdate(0, 10_000));
      }
      for (const id of [1, 3, 5, 7]) peer.send(dataFrame(id, Buffer.alloc(0), 0x1));
    });
  });
});

describe('memory budget', () => {
  test('a tunnel that is quiet holds no slab, also after a read that found nothing', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ client, server, driver }) => {
      // What a first read asks for exactly, so that it is followed by one that comes back empty.
      const bytes = 2 * (16_384 - 9);
      const sockets = await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          dial(client.listen(server.address, `127.0.0.1:${app.port}`, `10.0.3.${i}`)),
        ),
      );
      await driver.until(() => client.statuses.length === 10, 'open');
      for (const socket of sockets) socket.write(Buffer.alloc(bytes));
      for (const socket of sockets) assert.equal((await readBytes(socket, bytes)).length, bytes);
      for (const { engine } of [client, server]) {
        assert.ok(engine.budget.usedBytes <= 4 * 1024 * 1024, `${engine.budget.usedBytes} bytes held`);
      }
      for (const socket of sockets) socket.destroy();
    });
  });

  test('user data waits while there is no memory for a slab, and goes on when another worker has freed some', async () => {
    await using app = await serveEcho();
    const budget = new MemoryBudget(8 * 1024 * 1024);
    await withMesh({ client: { budget } }, async ({ client, server, driver, to }) => {
      budget.takeAnyway(budget.hardBytes);
      const sockets = await Promise.all([1, 2, 3].map(() => dial(to(app.port))));
      for (const socket of sockets) socket.write('waits');
      await driver.until(() => client.statuses.length === 3, 'open: control frames need no budget');
      sockets[0]?.resetAndDestroy();
      await driver.until(() => client.ends.length === 1 && server.ends.length === 1, 'one lost patience');
      assert.equal(app.sockets.values().next().value?.bytesRead, 0);
      budget.give(budget.hardBytes);
      for (const socket of sockets.slice(1)) {
        assert.equal((await readBytes(socket, 5)).toString(), 'waits');
        socket.destroy();
      }
    });
  });

  test('above the soft mark connection window is withheld until applications take bytes', async () => {
    const go = Promise.withResolvers<void>();
    let received = 0;
    await using app = await serve(async socket => {
      socket.pause();
      await go.promise;
      socket.on('data', bytes => (received += bytes.length));
      socket.resume();
    });
    const budget = new MemoryBudget(8 * 1024 * 1024);
    const connectionWindowBytes = 1024 * 1024;
    const settings = { streamWindowBytes: 4 * 1024 * 1024, connectionWindowBytes };
    await withMesh({ server: { budget, settings, sendBufferBytes: 4096 } }, async ({ server, driver }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'answer');
      budget.takeAnyway(budget.softBytes); // somebody else's bytes
      const before = peer.credit(0);
      let window = connectionWindowBytes;
      while (window > 0) {
        const length = Math.min(16_384, window);
        peer.send(dataFrame(1, Buffer.alloc(length)));
        window -= length;
      }
      await driver.until(
        () => (server.tunnels.values().next().value?.streams.get(1)?.pendingBytes ?? 0) > 500_000,
        'held',
      );
      await peer.roundTrip();
      const held = server.tunnels.values().next().value?.streams.get(1)?.pendingBytes ?? 0;
      assert.ok(peer.credit(0) - before <= connectionWindowBytes - held, 'credit at most for what was taken');
      go.resolve();
      await driver.until(() => received === connectionWindowBytes, 'all received');
      await peer.until(() => peer.credit(0) - before > (connectionWindowBytes * 3) / 4 - 1, 'all but a step credited');
      budget.give(budget.softBytes);
      peer.close();
    });
  });

  test('withheld window comes back for bytes that are dropped with their stream', async () => {
    const budget = new MemoryBudget(8 * 1024 * 1024);
    const settings = { streamWindowBytes: 1024 * 1024, connectionWindowBytes: 1024 * 1024 };
    await withMesh({ server: { budget, settings } }, async ({ server, driver }) => {
      server.onStream = stream => void stream; // undecided: what comes is kept
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      budget.takeAnyway(budget.softBytes + 1);
      let sent = 0;
      for (let id = 1; id < 60; id += 2) {
        // A frame of which the first half is kept, and the second arrives when the stream is gone.
        const whole = dataFrame(id, Buffer.alloc(200_000));
        await peer.until(() => sent + 200_000 <= 65_535 + peer.credit(0), 'window');
        sent += 200_000;
        peer.send(peer.requestFrame(id, 'x:1'), whole.subarray(0, 100_000));
        const stream = (): TunnelStream | undefined => server.tunnels.values().next().value?.streams.get(id);
        await driver.until(() => (stream()?.pendingBytes ?? 0) >= 90_000, 'the first half');
        stream()?.abort(H2_ERROR.CANCEL, failed('policy.changed', 'test'));
        peer.send(whole.subarray(100_000));
        await peer.roundTrip();
      }
      budget.give(budget.softBytes + 1);
      peer.close();
    });
  });

  test('at the hard mark a stream that must be kept is reset, and the total stays bounded', async () => {
    await using stuck = await serve(socket => void socket.pause());
    await using echo = await serveEcho();
    const hardBytes = 6 * 1024 * 1024;
    const budget = new MemoryBudget(hardBytes);
    const settings = { streamWindowBytes: 1024 * 1024, connectionWindowBytes: 64 * 1024 * 1024 };
    await withMesh({ server: { budget, settings, sendBufferBytes: 4096 } }, async ({ server, to, driver }) => {
      const port = to(stuck.port);
      const sockets = await Promise.all(Array.from({ length: 12 }, () => dial(port)));
      let highest = 0;
      const chunk = Buffer.alloc(65_536);
      await driver.until(() => {
        for (const socket of sockets) if (!socket.destroyed && socket.writableLength < 65_536) socket.write(chunk);
        highest = Math.max(highest, budget.usedBytes);
        return server.ends.length >= 3;
      }, 'streams shed');
      for (const { end } of server.ends) assert.ok(end.kind === 'failed' && end.reason === 'limit.memory');
      assert.ok(highest <= hardBytes + 1024 * 1024, `used ${highest} bytes`);
      for (const socket of sockets) socket.resetAndDestroy();
      await driver.until(() => server.streamCount === 0, 'streams gone');
      const socket = await dial(to(echo.port));
      socket.write('after the storm');
      assert.equal((await readBytes(socket, 15)).toString(), 'after the storm');
      socket.destroy();
    });
  });
});
