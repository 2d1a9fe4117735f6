// A live tunnel moves between engines as plain data: every byte arrives, nothing is reset, the peer cannot tell. Here the
// engines share a thread, so that a test can choose the moment; hand-over-threads.test.ts moves between blocking threads.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { setImmediate as nextImmediate } from 'node:timers/promises';
import type { TlsOptions } from '@ambit/native';
import { FRAME_TYPE, MAX_WINDOW_SIZE, SETTING } from '../src/h2/index.ts';
import type { FrozenTunnel } from '../src/index.ts';
import { dial, digest, portOf, readAll, readBytes, sendPattern, serve, serveEcho } from './apps.ts';
import { ClientProxy, clientTls, meshCertificates, ServerProxy, serverTls } from './mini-mesh.ts';
import { dataFrame, pingFrame, RawPeer, windowUpdate } from './raw-peer.ts';
import { type Mesh, type MeshOptions, withMesh } from './with-mesh.ts';

interface Movable extends Mesh {
  /** The client proxy that has the tunnels now, and the server proxy. */
  clientNow: ClientProxy;
  serverNow: ServerProxy;
  moveClient(): readonly FrozenTunnel[];
  moveServer(): readonly FrozenTunnel[];
  /** Ends of streams, of both engines of a role. */
  readonly ends: { client(): unknown[]; server(): unknown[] };
}

/** A mesh with two proxies of each role, the second of each empty until something moves there. */
async function withMovable(options: MeshOptions, run: (mesh: Movable) => Promise<void>): Promise<void> {
  await withMesh(options, async mesh => {
    const certificates = await meshCertificates();
    const contexts = [clientTls(certificates, options.tls), serverTls(certificates, options.tls)] as const;
    const otherClient = new ClientProxy(contexts[0], options.client);
    const otherServer = new ServerProxy(contexts[1], options.server);
    mesh.driver.add(otherClient.engine);
    mesh.driver.add(otherServer.engine);
    const movable: Movable = {
      ...mesh,
      clientNow: mesh.client,
      serverNow: mesh.server,
      moveClient: () => {
        const from = movable.clientNow;
        movable.clientNow = from === mesh.client ? otherClient : mesh.client;
        const frozen = from.freezeAll();
        for (const each of frozen) movable.clientNow.thaw(structuredClone(each));
        return frozen;
      },
      moveServer: () => {
        const from = movable.serverNow;
        movable.serverNow = from === mesh.server ? otherServer : mesh.server;
        const frozen = from.freezeAll();
        for (const each of frozen) movable.serverNow.thaw(structuredClone(each));
        return frozen;
      },
      ends: {
        client: () => [...mesh.client.ends, ...otherClient.ends].map(end => end.kind),
        server: () => [...mesh.server.ends, ...otherServer.ends].map(({ end }) => end.kind),
      },
    };
    try {
      await run(movable);
      await mesh.driver.until(() => otherClient.streamCount + otherServer.streamCount === 0, 'no streams');
    } finally {
      otherClient.destroy();
      otherServer.destroy();
      await mesh.driver.until(() => otherClient.pool.tunnelCount === 0, 'closed');
      await mesh.driver.until(
        () => otherClient.engine.lingering.size + otherServer.engine.lingering.size === 0,
        'gone',
      );
      for (const { engine } of [otherClient, otherServer]) {
        mesh.driver.remove(engine);
        engine.close();
        assert.equal(engine.timers.size, 0);
        assert.equal(engine.budget.usedBytes, 0);
      }
      for (const context of contexts) context.close();
    }
  });
}

const MOVES = 100;
const LARGE_WINDOW = { settings: [{ id: SETTING.INITIAL_WINDOW_SIZE, value: MAX_WINDOW_SIZE }] };
const LARGE_CONNECTION_WINDOW = windowUpdate(0, 0x7000_0000);

interface Seen {
  unopened: number;
  unsent: number;
  pending: number;
}

function look(seen: Seen, frozen: readonly FrozenTunnel[]): void {
  for (const tunnel of frozen) {
    if (tunnel.unopened.length > 0) seen.unopened++;
    if (tunnel.unsent.length > 0) seen.unsent++;
    if (tunnel.streams.some(stream => stream.pending.length > 0)) seen.pending++;
  }
}

/** Bulk both ways, requests, and a reader that stutters, while `move` runs a hundred times. */
async function moveUnderLoad(tls: TlsOptions, move: (mesh: Movable) => readonly FrozenTunnel[]): Promise<void> {
  const bulkBytes = 8_000_000;
  await using echo = await serveEcho();
  await using source = await serve(socket => sendPattern(socket, bulkBytes, 5));
  const sunk: Array<Promise<{ readonly hash: string; readonly bytes: number }>> = [];
  await using sink = await serve(async socket => {
    const stutter = setInterval(() => (socket.isPaused() ? socket.resume() : socket.pause()), 7);
    const all = digest(socket);
    sunk.push(all);
    await all;
    clearInterval(stutter);
    socket.end();
  });
  await withMovable({ tls, server: { sendBufferBytes: 65_536 } }, async mesh => {
    const seen: Seen = { unopened: 0, unsent: 0, pending: 0 };
    let isDone = false;
    let hasServerMoved = false;
    const work: Array<Promise<void>> = [];
    const ports = [mesh.to(echo.port), mesh.to(source.port), mesh.to(sink.port)] as const;
    const repeated = async (run: () => Promise<void>): Promise<void> => {
      // At least once, and as long as the moves go on: there is load to the last of them.
      do await run();
      while (!isDone);
    };
    const requests = await Promise.all(Array.from({ length: 8 }, () => dial(ports[0])));
    for (const socket of requests) {
      work.push(
        repeated(async () => {
          const text = `request ${Math.random()}`;
          socket.write(text);
          assert.equal((await readBytes(socket, text.length)).toString(), text);
        }).then(() => void socket.end()),
      );
    }
    // All connections are there before the first move, since listeners do not move in this test.
    const bulk = await Promise.all(Array.from({ length: 4 }, () => dial(ports[0])));
    for (const [i, socket] of bulk.entries()) {
      const echoed = Promise.all([sendPattern(socket, bulkBytes, i), digest(socket)]);
      work.push(echoed.then(([sent, got]) => assert.deepEqual(got, { hash: sent, bytes: bulkBytes })));
    }
    const download = await dial(ports[1]);
    work.push(
      digest(download)
        .then(({ bytes }) => assert.equal(bytes, bulkBytes))
        .then(() => void download.end()),
    );
    const upload = await dial(ports[2]);
    work.push(
      (async () => {
        const sent = await sendPattern(upload, bulkBytes / 8, 9);
        await readAll(upload);
        assert.deepEqual(await sunk[0], { hash: sent, bytes: bulkBytes / 8 });
      })(),
    );
    await mesh.driver.until(() => mesh.client.statuses.length === 14, 'all streams open');
    for (let i = 0; i < MOVES; i++) {
      // A few turns of work between moves; odd counts, so that no step of the proxies is always at the same point.
      for (let turns = 0; turns < 1 + (i % 5); turns++) await nextImmediate();
      look(seen, move(mesh));
      hasServerMoved ||= mesh.serverNow !== mesh.server;
    }
    isDone = true;
    await Promise.all(work);
    await mesh.driver.until(() => mesh.ends.client().length === 14 && mesh.ends.server().length === 14, 'all ended');
    assert.ok(mesh.ends.client().every(kind => kind === 'finished'));
    assert.ok(mesh.ends.server().every(kind => kind === 'finished'));
    assert.equal(mesh.server.tunnelsOpened, 1);
    // The moments that matter did occur. Only the server's applications are slow.
    assert.ok(seen.unopened > 0, 'never moved inside a record');
    if (hasServerMoved) assert.ok(seen.pending > 0, 'never moved with bytes pending');
  });
}

describe('a tunnel under load, moved a hundred times', () => {
  test('at its client', () => moveUnderLoad({}, mesh => mesh.moveClient()));
  test('at its server', () => moveUnderLoad({}, mesh => mesh.moveServer()));
  test('at both ends at once', () => moveUnderLoad({}, mesh => [...mesh.moveClient(), ...mesh.moveServer()]));
  test('while both ends update their keys all the time', () =>
    moveUnderLoad({ updateAfterRecords: 40 }, mesh => [...mesh.moveServer(), ...mesh.moveClient()]));
});

describe('a tunnel moved at an awkward moment', () => {
  test('inside a frame', async () => {
    await using app = await serveEcho();
    await withMovable({}, async mesh => {
      const peer = await RawPeer.connect(mesh.server.port, await meshCertificates(), LARGE_WINDOW);
      peer.send(LARGE_CONNECTION_WINDOW, peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'answer');
      const payload = Buffer.from(Array.from({ length: 60_000 }, (_, i) => i % 251));
      const whole = dataFrame(1, payload);
      let at = 0;
      for (const cut of [3, 9, 10, 5000, 20_000, 59_000, whole.length]) {
        peer.send(whole.subarray(at, cut));
        at = cut;
        const expected = Math.max(0, cut - 9);
        await peer.until(() => peer.dataBytes(1) === expected, `echo of ${expected} bytes`);
        // Nothing tells that a bare header has arrived, except that what follows it does.
        for (let turns = 0; turns < 3; turns++) await nextImmediate();
        const [frozen] = mesh.moveServer();
        if (cut > 9 && cut < whole.length) {
          assert.equal(frozen?.currentStreamId, 1);
          assert.equal(frozen?.currentUnusedBytes, whole.length - cut);
        }
      }
      assert.ok(peer.data(1).equals(payload));
      // Windows still add up: more than a stream window can go through.
      let sent = payload.length;
      while (sent < 1_500_000) {
        await peer.until(() => peer.dataBytes(1) === sent, 'echo');
        peer.send(dataFrame(1, payload));
        sent += payload.length;
      }
      peer.send(dataFrame(1, Buffer.alloc(0), 1));
      await peer.until(() => peer.dataBytes(1) === sent, 'all of it');
      peer.close();
    });
  });

  test('inside a record', async () => {
    await using app = await serveEcho();
    await withMovable({}, async mesh => {
      // Holds back the end of what the peer sends until told.
      let held: Buffer | undefined;
      let isHolding = false;
      let up: net.Socket | undefined;
      const relay = net.createServer(down => {
        up = net.connect(mesh.server.port, '127.0.0.1');
        up.on('error', () => down.destroy());
        down.on('error', () => up?.destroy());
        up.pipe(down);
        down.on('data', bytes => {
          if (isHolding && held === undefined && bytes.length > 40) {
            held = bytes.subarray(30);
            up?.write(bytes.subarray(0, 30));
          } else up?.write(bytes);
        });
        down.on('close', () => up?.destroy());
      });
      relay.listen(0, '127.0.0.1');
      await once(relay, 'listening');
      const peer = await RawPeer.connect(portOf(relay), await meshCertificates());
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'answer');
      isHolding = true;
      peer.send(dataFrame(1, Buffer.from('split over two owners of the connection')));
      await mesh.driver.until(() => held !== undefined, 'half of it is held');
      for (let turns = 0; turns < 5; turns++) await nextImmediate();
      const [frozen] = mesh.moveServer();
      assert.equal(frozen?.unopened.length, 30);
      up?.write(held ?? '');
      await peer.until(() => peer.data(1).toString() === 'split over two owners of the connection', 'echo');
      peer.close();
      relay.close();
    });
  });

  test('with bytes that its socket has not taken', async () => {
    const size = 12_000_000;
    await using app = await serve(socket => void socket.end(Buffer.alloc(size, 3)));
    await withMovable({}, async mesh => {
      const peer = await RawPeer.connect(mesh.server.port, await meshCertificates(), LARGE_WINDOW);
      peer.send(LARGE_CONNECTION_WINDOW, peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.DATA).length > 0, 'first bytes');
      peer.socket.pause();
      const isFull = (): boolean => Array.from(mesh.serverNow.tunnels).some(({ output }) => !output.isWritable);
      await mesh.driver.until(isFull, 'the socket is full');
      let unsent = 0;
      for (let i = 0; i < 5; i++) {
        unsent += mesh.moveServer()[0]?.unsent.length ?? 0;
        await nextImmediate();
      }
      assert.ok(unsent > 0);
      peer.socket.resume();
      await peer.until(() => peer.dataBytes(1) === size, 'everything');
      peer.send(dataFrame(1, Buffer.alloc(0), 1));
      await mesh.driver.until(() => mesh.ends.server().length === 1, 'over');
      peer.close();
    });
  });

  test('while a request waits for a decision, and while its application is dialled', async () => {
    await using app = await serveEcho();
    await withMovable({}, async mesh => {
      mesh.server.onStream = () => undefined; // undecided; the next proxy dials
      const first = await dial(mesh.to(app.port));
      first.write('early'); // stays in the socket until there is an answer
      await mesh.driver.until(() => mesh.server.requests.length === 1, 'the request');
      const [requested] = mesh.moveServer();
      assert.equal(requested?.streams[0]?.phase, 'requested');
      mesh.moveClient();
      const [dialing] = mesh.moveServer();
      assert.equal(dialing?.streams[0]?.phase, 'dialing');
      assert.equal((await readBytes(first, 5)).toString(), 'early');
      first.end();
      await readAll(first);
    });
  });

  test('in the middle of a drain, which then goes on', async () => {
    await using app = await serveEcho();
    await withMovable({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      socket.write('x');
      await readBytes(socket, 1);
      for (const tunnel of mesh.server.tunnels) tunnel.drain();
      mesh.moveServer();
      await mesh.driver.until(() => mesh.clientNow.pool.tunnels()[0]?.tunnel.state === 'draining', 'heard');
      mesh.moveClient();
      mesh.moveServer();
      assert.equal(mesh.clientNow.pool.tunnelCount, 1);
      socket.end('bye');
      assert.equal((await readAll(socket)).toString(), 'bye');
      await mesh.driver.until(() => mesh.clientNow.pool.tunnelCount === 0, 'the client closed');
      await mesh.driver.until(() => mesh.serverNow.tunnels.size === 0, 'the server closed');
    });
  });

  test('after which a limit, a window and the header tables are what they were', async () => {
    await using app = await serveEcho();
    await withMovable({ server: { settings: { maxConcurrentStreams: 3 } } }, async mesh => {
      const peer = await RawPeer.connect(mesh.server.port, await meshCertificates());
      for (const id of [1, 3]) peer.send(peer.requestFrame(id, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 2, 'answers');
      mesh.moveServer();
      for (const id of [5, 7]) peer.send(peer.requestFrame(id, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 3 && peer.resets(7).length === 1, 'one refused');
      mesh.moveServer();
      peer.send(pingFrame());
      await peer.until(() => peer.all(FRAME_TYPE.PING).length === 1, 'PING answered');
      for (const id of [1, 3, 5]) peer.send(dataFrame(id, Buffer.from(`stream ${id}`), 1));
      for (const id of [1, 3, 5]) await peer.until(() => peer.data(id).toString() === `stream ${id}`, 'echo');
      peer.close();
    });
  });

  test('records of OpenSSL refuse to move and say so', async () => {
    await using app = await serveEcho();
    await withMesh({ tls: { records: 'openssl' } }, async mesh => {
      const socket = await dial(mesh.to(app.port));
      socket.write('x');
      await readBytes(socket, 1);
      const [tunnel] = mesh.server.tunnels;
      assert.throws(() => tunnel?.freeze(undefined), { code: 'tls.not_exportable' });
      socket.end('still here');
      assert.equal((await readAll(socket)).toString(), 'still here');
    });
  });
});
