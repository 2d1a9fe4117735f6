// How tunnels live and end: keepalive, drain in both roles, orderly and disorderly closes, and damage on the wire.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { FRAME_FLAG, FRAME_TYPE, H2_ERROR, MAX_WINDOW_SIZE, SETTING } from '../src/h2/index.ts';
import { dial, ending, portOf, readAll, readBytes, serve, serveEcho } from './apps.ts';
import { addressOf, meshCertificates } from './mini-mesh.ts';
import { dataFrame, frame, goawayFrame, pingFrame, RawPeer, RawServer, settingsFrame } from './raw-peer.ts';
import { withMesh } from './with-mesh.ts';

describe('keepalive', () => {
  test('a silent peer is asked, and its answer keeps the tunnel', async () => {
    await withMesh({ server: { settings: { pingIntervalMs: 20, pingTimeoutMs: 5000 } } }, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      await peer.until(() => peer.all(FRAME_TYPE.PING).length >= 3, 'three PINGs');
      assert.equal(server.tunnels.size, 1);
      peer.close();
    });
  });

  test('a peer that does not answer within the limit is cut and its streams fail', async () => {
    const settings = { pingIntervalMs: 30, pingTimeoutMs: 60 };
    await withMesh({ client: { settings } }, async ({ client, driver }) => {
      await using peers = await RawServer.listen(await meshCertificates(), { answers: false });
      const socket = await dial(client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1'));
      const end = ending(socket);
      socket.resume();
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.PING).length === 1, 'a PING');
      await peer.until(() => peer.goaways.length === 1, 'GOAWAY');
      assert.equal(await end, 'reset');
      await driver.until(() => client.ends.length === 1, 'the stream is over');
      const [ended] = client.ends;
      assert.ok(ended?.kind === 'failed' && ended.reason === 'hbone.ping_timeout');
    });
  });

  test('a peer that talks is not asked', async () => {
    await withMesh({ server: { settings: { pingIntervalMs: 100, pingTimeoutMs: 5000 } } }, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      for (let i = 0; i < 60; i++) {
        peer.send(pingFrame());
        const answered = i + 1;
        await peer.until(
          () => peer.all(FRAME_TYPE.PING).filter(each => (each.flags & FRAME_FLAG.ACK) !== 0).length === answered,
          'answer',
        );
        await new Promise(resolve => setTimeout(resolve, 5));
      }
      // Three intervals have passed, and in none of them the peer was silent for the whole of it.
      assert.equal(peer.all(FRAME_TYPE.PING).filter(each => each.flags === 0).length, 0);
      peer.close();
    });
  });
});

describe('drain', () => {
  test('a server warns first, takes what is under way, then names its last stream and closes after it', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server, driver }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates(), { answers: false });
      peer.send(frame(FRAME_TYPE.SETTINGS, FRAME_FLAG.ACK, 0));
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'answer');
      const [tunnel] = server.tunnels;
      tunnel?.drain();
      await peer.until(() => peer.goaways.length === 1 && peer.all(FRAME_TYPE.PING).length === 1, 'warning');
      assert.deepEqual(peer.goaways[0], { lastStreamId: MAX_WINDOW_SIZE, code: H2_ERROR.NO_ERROR });
      // The peer has not heard of it yet: this request counts.
      peer.send(peer.requestFrame(3, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 3).length === 1, 'answer to a late request');
      const ping = peer.all(FRAME_TYPE.PING)[0];
      peer.send(frame(FRAME_TYPE.PING, FRAME_FLAG.ACK, 0, ping?.payload));
      await peer.until(() => peer.goaways.length === 2, 'final GOAWAY');
      assert.deepEqual(peer.goaways[1], { lastStreamId: 3, code: H2_ERROR.NO_ERROR });
      // What comes after the final word is ignored, data and all, and hurts nobody.
      peer.send(peer.requestFrame(5, `127.0.0.1:${app.port}`), dataFrame(5, Buffer.alloc(1000)));
      peer.send(dataFrame(1, Buffer.from('one'), 1), dataFrame(3, Buffer.from('three'), 1));
      await peer.until(() => peer.isEnded, 'the end');
      assert.equal(peer.data(1).toString(), 'one');
      assert.equal(peer.data(3).toString(), 'three');
      assert.equal(peer.error, undefined);
      assert.equal(peer.all(FRAME_TYPE.HEADERS, 5).length, 0);
      await driver.until(() => server.tunnelEnds.length === 1, 'tunnel over');
      assert.deepEqual(server.tunnelEnds, [{ reason: undefined, error: 'drained' }]);
      peer.close();
    });
  });

  test('a draining tunnel delivers everything that its socket had not taken yet', async () => {
    const size = 12_000_000;
    await using app = await serve(socket => void socket.end(Buffer.alloc(size, 7)));
    await withMesh({}, async ({ server, driver }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates(), {
        settings: [{ id: SETTING.INITIAL_WINDOW_SIZE, value: MAX_WINDOW_SIZE }],
      });
      peer.send(frame(FRAME_TYPE.WINDOW_UPDATE, 0, 0, Buffer.from([0x70, 0, 0, 0])));
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`, FRAME_FLAG.END_HEADERS | FRAME_FLAG.END_STREAM));
      await peer.until(() => peer.all(FRAME_TYPE.DATA, 1).length > 0, 'first bytes');
      peer.socket.pause();
      const [tunnel] = server.tunnels;
      tunnel?.drain();
      await driver.until(() => tunnel?.output.isWritable === false, 'the socket is full');
      peer.socket.resume();
      await peer.until(() => peer.isEnded, 'the end');
      assert.equal(peer.dataBytes(1), size);
      await driver.until(() => server.tunnelEnds.length === 1, 'tunnel over');
      assert.equal(server.tunnelEnds[0]?.reason, undefined);
      assert.equal(server.ends[0]?.end.kind, 'finished');
      peer.close();
    });
  });

  test('a draining tunnel waits for its output even when its last stream is over', async () => {
    const application = Promise.withResolvers<net.Socket>();
    await using app = await serve(socket => {
      socket.resume();
      application.resolve(socket);
    });
    await withMesh({}, async ({ server, driver }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates(), {
        settings: [{ id: SETTING.INITIAL_WINDOW_SIZE, value: MAX_WINDOW_SIZE }],
      });
      peer.send(frame(FRAME_TYPE.WINDOW_UPDATE, 0, 0, Buffer.from([0x70, 0, 0, 0])));
      peer.send(peer.requestFrame(1, `127.0.0.1:${app.port}`, FRAME_FLAG.END_HEADERS | FRAME_FLAG.END_STREAM));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'answer');
      const [tunnel] = server.tunnels;
      assert.ok(tunnel !== undefined);
      tunnel.drain();
      await peer.until(() => peer.goaways.length === 2, 'final GOAWAY');
      peer.socket.pause();
      // As much as the tunnel's socket takes and one piece more, so that the end of the stream is queued behind it.
      const socket = await application.promise;
      const stream = tunnel.streams.get(1);
      let written = 0;
      await driver.until(() => {
        if (!tunnel.output.isWritable) return true;
        if (stream?.bytesToTunnel === written) {
          written += 16_000;
          socket.write(Buffer.alloc(16_000));
        }
        return false;
      }, 'the socket is full');
      socket.end();
      await driver.until(() => tunnel.streams.size === 0, 'the stream is over');
      assert.ok(tunnel.output.queuedBytes > 0 && tunnel.state === 'draining');
      peer.socket.resume();
      await peer.until(() => peer.isEnded, 'the end');
      assert.equal(peer.dataBytes(1), written);
      assert.equal(peer.error, undefined);
      peer.close();
    });
  });

  test('both proxies drain while streams run, and the streams finish', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ client, server, driver, to }) => {
      const port = to(app.port);
      const sockets = await Promise.all(Array.from({ length: 10 }, () => dial(port)));
      for (const socket of sockets) socket.write('ping');
      await Promise.all(sockets.map(socket => readBytes(socket, 4)));
      for (const tunnel of server.tunnels) tunnel.drain();
      await driver.until(() => client.pool.tunnels().every(({ tunnel }) => tunnel.state === 'draining'), 'heard');
      // New connections get a tunnel of their own.
      const fresh = await dial(port);
      fresh.write('new!');
      assert.equal((await readBytes(fresh, 4)).toString(), 'new!');
      assert.equal(server.tunnelsOpened, 2);
      for (const socket of [...sockets, fresh]) socket.end('bye');
      for (const socket of [...sockets, fresh]) assert.equal((await readAll(socket)).toString(), 'bye');
      client.pool.drain();
      await driver.until(() => server.tunnels.size === 0 && client.pool.tunnelCount === 0, 'tunnels closed');
      assert.ok(server.tunnelEnds.every(end => end.reason === undefined));
    });
  });
});

describe('the end of a tunnel', () => {
  test('close_notify while streams run is an early end, without streams it is none', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server, driver }) => {
      const quiet = await RawPeer.connect(server.port, await meshCertificates());
      await quiet.until(() => quiet.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS');
      quiet.socket.end();
      await driver.until(() => server.tunnelEnds.length === 1, 'quiet tunnel over');
      assert.equal(server.tunnelEnds[0]?.reason, undefined);
      const busy = await RawPeer.connect(server.port, await meshCertificates());
      busy.send(busy.requestFrame(1, `127.0.0.1:${app.port}`));
      await busy.until(() => busy.all(FRAME_TYPE.HEADERS).length === 1, 'answer');
      busy.socket.end();
      await driver.until(() => server.tunnelEnds.length === 2, 'busy tunnel over');
      assert.equal(server.tunnelEnds[1]?.reason, 'peer.eof_early');
      const ended = server.ends[0]?.end;
      assert.ok(ended?.kind === 'failed' && ended.reason === 'peer.eof_early');
    });
  });

  test('a peer that vanishes with FIN and no close_notify fails its streams', async () => {
    await using app = await serveEcho();
    await withRelay(async relay => {
      await withMesh({}, async ({ client, server, driver }) => {
        relay.target = server.port;
        const socket = await dial(client.listen(addressOf(`127.0.0.1:${relay.port}`), `127.0.0.1:${app.port}`));
        const end = ending(socket);
        socket.write('ping');
        await readBytes(socket, 4);
        socket.resume();
        relay.endBoth();
        assert.equal(await end, 'reset');
        await driver.until(() => client.ends.length === 1 && server.ends.length === 1, 'both told');
        for (const each of [...client.ends, ...server.ends.map(served => served.end)]) {
          assert.ok(each.kind === 'failed' && each.reason === 'peer.eof_early', JSON.stringify(each));
        }
      });
    });
  });

  for (const direction of ['up', 'down'] as const) {
    test(`a bit flipped on its way ${direction} is tls.bad_record there and an alert at the other end`, async () => {
      await using app = await serveEcho();
      await withRelay(async relay => {
        await withMesh({}, async ({ client, server, driver }) => {
          relay.target = server.port;
          const socket = await dial(client.listen(addressOf(`127.0.0.1:${relay.port}`), `127.0.0.1:${app.port}`));
          const end = ending(socket);
          socket.write('ping');
          await readBytes(socket, 4);
          socket.resume();
          relay.flip = direction;
          socket.write('damaged on the way');
          assert.equal(await end, 'reset');
          await driver.until(() => client.ends.length === 1 && server.tunnelEnds.length === 1, 'both told');
          const clientEnd = client.ends[0];
          assert.ok(clientEnd?.kind === 'failed');
          const [here, there] =
            direction === 'up' ? [server.tunnelEnds[0], clientEnd] : [clientEnd, server.tunnelEnds[0]];
          assert.equal(here?.reason, 'tls.bad_record');
          assert.equal(here?.error, 'bad TLS record: BAD_RECORD_MAC');
          assert.equal(there?.reason, 'tls.alert');
          assert.equal(there?.error, 'received TLS alert: bad_record_mac');
        });
      });
    });
  }

  test('GOAWAY with an error and streams above its last are told apart', async () => {
    await withMesh({}, async ({ client, driver }) => {
      client.maxAttempts = 1;
      await using peers = await RawServer.listen(await meshCertificates());
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const first = await dial(port);
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'request 1');
      peer.send(peer.responseFrame(1, 200));
      const second = await dial(port);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 3).length === 1, 'request 3');
      const end = ending(second);
      second.resume();
      peer.send(goawayFrame(1, H2_ERROR.INTERNAL_ERROR));
      await end;
      assert.equal(client.retries, 1);
      const [lost] = client.ends;
      assert.ok(lost?.kind === 'failed' && lost.reason === 'hbone.goaway' && lost.retryable);
      assert.equal(client.pool.entryCount, 0, 'nobody will be given this tunnel again');
      assert.equal(client.pool.tunnelCount, 1);
      first.write('goes on');
      await peer.until(() => peer.data(1).toString() === 'goes on', 'the first stream');
      first.end();
      peer.send(dataFrame(1, Buffer.alloc(0), 1));
      await driver.until(() => client.pool.tunnelCount === 0, 'closed after its last stream');
    });
  });
});

describe('misplaced frames', () => {
  const cases: ReadonlyArray<[string, (peer: RawPeer, authority: string) => Buffer, number]> = [
    ['DATA on an idle stream', () => dataFrame(99, Buffer.from('x')), H2_ERROR.PROTOCOL_ERROR],
    [
      'RST_STREAM on an idle stream',
      () => frame(FRAME_TYPE.RST_STREAM, 0, 99, Buffer.alloc(4)),
      H2_ERROR.PROTOCOL_ERROR,
    ],
    [
      'WINDOW_UPDATE on an idle stream',
      () => frame(FRAME_TYPE.WINDOW_UPDATE, 0, 99, Buffer.of(0, 0, 0, 1)),
      H2_ERROR.PROTOCOL_ERROR,
    ],
    [
      'a block that HPACK cannot read',
      () => frame(FRAME_TYPE.HEADERS, 4, 1, Buffer.of(0xff, 0xff, 0xff, 0xff, 0xff)),
      H2_ERROR.COMPRESSION_ERROR,
    ],
    ['PUSH_PROMISE', () => frame(FRAME_TYPE.PUSH_PROMISE, 4, 1, Buffer.alloc(10)), H2_ERROR.PROTOCOL_ERROR],
    [
      'PRIORITY of a wrong size on an idle stream',
      () => frame(FRAME_TYPE.PRIORITY, 0, 99, Buffer.alloc(4)),
      H2_ERROR.FRAME_SIZE_ERROR,
    ],
    [
      'a frame above the announced size',
      () => frame(FRAME_TYPE.DATA, 0, 1, Buffer.alloc(1024 * 1024 + 1)),
      H2_ERROR.FRAME_SIZE_ERROR,
    ],
    [
      'SETTINGS out of range',
      () => settingsFrame([{ id: SETTING.INITIAL_WINDOW_SIZE, value: 0x8000_0000 }]),
      H2_ERROR.FLOW_CONTROL_ERROR,
    ],
  ];
  for (const [name, make, code] of cases) {
    test(`${name} ends the connection with error ${code}`, async () => {
      await withMesh({}, async ({ server }) => {
        const peer = await RawPeer.connect(server.port, await meshCertificates());
        peer.send(make(peer, 'x:1'));
        await peer.until(() => peer.goaways.length === 1 && peer.isEnded, 'GOAWAY and close_notify');
        assert.equal(peer.goaways[0]?.code, code);
        assert.equal(peer.error, undefined);
        assert.ok(server.tunnelEnds[0]?.reason?.startsWith('hbone.'));
        peer.close();
      });
    });
  }

  test('a peer that had sent more than was read gets GOAWAY and no reset of the connection', async () => {
    await withRelay(async relay => {
      await withMesh({}, async ({ server, driver }) => {
        relay.target = server.port;
        const peer = await RawPeer.connect(relay.port, await meshCertificates());
        const junk = Buffer.concat(Array.from({ length: 150 }, () => dataFrame(99, Buffer.alloc(16_384))));
        peer.send(dataFrame(99, Buffer.from('x')), junk);
        await peer.until(() => peer.goaways.length === 1 && peer.isEnded, 'GOAWAY and close_notify');
        await driver.until(() => server.engine.lingering.size === 0, 'the connection is closed');
        assert.deepEqual(relay.errors, []);
        peer.close();
      });
    });
  });

  test('a refusal ends the stream for the peer too, however it was said', async () => {
    await withMesh({}, async ({ client, driver }) => {
      await using peers = await RawServer.listen(await meshCertificates());
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const sockets = await Promise.all([dial(port), dial(port)]);
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 2, 'requests');
      peer.send(peer.responseFrame(1, 401, FRAME_FLAG.END_HEADERS | FRAME_FLAG.END_STREAM), peer.responseFrame(3, 503));
      await driver.until(() => client.ends.length === 2, 'refused');
      await peer.roundTrip();
      assert.deepEqual(
        peer.all(FRAME_TYPE.DATA, 1).map(each => each.flags),
        [FRAME_FLAG.END_STREAM],
      );
      assert.deepEqual(peer.resets(1), []);
      assert.deepEqual(peer.resets(3), [H2_ERROR.CANCEL]);
      for (const socket of sockets) socket.destroy();
    });
  });

  test('DATA and HEADERS after END_STREAM reset the stream with STREAM_CLOSED', async () => {
    await using app = await serve(socket => void socket.resume());
    await withMesh({}, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      for (const id of [1, 3]) peer.send(peer.requestFrame(id, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 2, 'answers');
      peer.send(dataFrame(1, Buffer.alloc(0), 1), dataFrame(1, Buffer.from('late')));
      peer.send(dataFrame(3, Buffer.alloc(0), 1), peer.requestFrame(3, 'x:1'));
      await peer.until(() => peer.resets(1).length === 1 && peer.resets(3).length === 1, 'resets');
      assert.deepEqual([peer.resets(1), peer.resets(3)], [[H2_ERROR.STREAM_CLOSED], [H2_ERROR.STREAM_CLOSED]]);
      peer.close();
    });
  });

  test('DATA before a response resets the stream', async () => {
    await withMesh({}, async ({ client }) => {
      await using peers = await RawServer.listen(await meshCertificates());
      const socket = await dial(client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1'));
      const end = ending(socket);
      socket.resume();
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length === 1, 'request');
      peer.send(dataFrame(1, Buffer.from('too early')));
      assert.equal(await end, 'reset');
      await peer.until(() => peer.resets(1).length === 1, 'reset');
      assert.deepEqual(peer.resets(1), [H2_ERROR.PROTOCOL_ERROR]);
    });
  });

  test('requests that are no usable CONNECT are answered or reset, and the tunnel goes on', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      // :method GET, :scheme https, :path /, :authority x
      const get = Buffer.concat([Buffer.of(0x82, 0x87, 0x84, 0x01, 1), Buffer.from('x')]);
      // A CONNECT with :path is malformed (RFC 9113 section 8.5).
      const connect = Buffer.concat([
        Buffer.of(0x02, 7),
        Buffer.from('CONNECT'),
        Buffer.of(0x84, 0x01, 1),
        Buffer.from('x'),
      ]);
      peer.send(frame(FRAME_TYPE.HEADERS, 5, 1, get), frame(FRAME_TYPE.HEADERS, 4, 3, connect));
      peer.send(peer.requestFrame(5, `127.0.0.1:${app.port}`), dataFrame(5, Buffer.from('fine')));
      await peer.until(() => peer.data(5).toString() === 'fine', 'the good one');
      assert.equal(peer.all(FRAME_TYPE.HEADERS, 1).length, 1);
      assert.deepEqual(peer.resets(3), [H2_ERROR.PROTOCOL_ERROR]);
      assert.deepEqual(server.badRequests, [
        { status: 400, reason: 'hbone.not_connect' },
        { status: 0, reason: 'hbone.protocol' },
      ]);
      peer.close();
    });
  });

  test('a stream that is over for the peer does not count against its limit while an application is slow', async () => {
    await using slow = await serve(socket => {
      socket.end();
      socket.pause();
    });
    await using app = await serveEcho();
    const options = { settings: { maxConcurrentStreams: 1 }, sendBufferBytes: 65_536 };
    await withMesh({ server: options }, async ({ server, driver }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'SETTINGS and their ACK');
      peer.send(peer.requestFrame(1, `127.0.0.1:${slow.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.DATA, 1).some(each => each.flags === 1), 'its end');
      for (let i = 0; i < 31; i++) peer.send(dataFrame(1, Buffer.alloc(16_384), i === 30 ? 1 : 0));
      const [tunnel] = server.tunnels;
      await driver.until(() => tunnel?.streams.get(1)?.isSettled === true, 'settled');
      assert.ok((tunnel?.streams.get(1)?.pendingBytes ?? 0) > 0);
      peer.send(peer.requestFrame(3, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 3).length + peer.resets(3).length > 0, 'an answer');
      assert.deepEqual(peer.resets(3), []);
      peer.close();
      for (const socket of slow.sockets) socket.resume();
      // Stream 1 lives on without its tunnel until the application has taken everything.
      await driver.until(() => server.ends.length === 2, 'both over');
      assert.equal(server.ends.find(each => each.authority.endsWith(`:${slow.port}`))?.end.kind, 'finished');
    });
  });

  test('streams above the limit are refused, and one that ended makes room', async () => {
    await using app = await serveEcho();
    await withMesh({ server: { settings: { maxConcurrentStreams: 2 } } }, async ({ server }) => {
      const peer = await RawPeer.connect(server.port, await meshCertificates());
      for (const id of [1, 3, 5]) peer.send(peer.requestFrame(id, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.resets(5).length === 1 && peer.all(FRAME_TYPE.HEADERS).length === 2, 'refusal');
      assert.deepEqual(peer.resets(5), [H2_ERROR.REFUSED_STREAM]);
      peer.send(dataFrame(1, Buffer.alloc(0), 1));
      await peer.until(() => peer.all(FRAME_TYPE.DATA, 1).some(each => (each.flags & 1) !== 0), 'stream 1 over');
      peer.send(peer.requestFrame(7, `127.0.0.1:${app.port}`));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 7).length === 1, 'room again');
      assert.equal(server.badRequests.length, 0);
      peer.close();
    });
  });
});

interface Relay {
  readonly port: number;
  target: number;
  /** Damages the next bytes that go this way. */
  flip: 'up' | 'down' | undefined;
  /** What its sockets suffered. */
  readonly errors: string[];
  /** Sends FIN both ways, in the middle of whatever is going on. */
  endBoth(): void;
}

/** A TCP relay between the proxies that can do harm. */
async function withRelay(run: (relay: Relay) => Promise<void>): Promise<void> {
  const sockets: net.Socket[] = [];
  const server = net.createServer(down => {
    const up = net.connect(relay.target, '127.0.0.1');
    sockets.push(down, up);
    for (const socket of [down, up]) socket.on('error', error => relay.errors.push(error.message));
    const pass = (from: net.Socket, to: net.Socket, way: 'up' | 'down'): void => {
      from.on('data', bytes => {
        if (relay.flip === way) {
          relay.flip = undefined;
          // The last byte belongs to the tag of the last record.
          bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
        }
        to.write(bytes);
      });
      from.on('end', () => to.end());
      from.on('close', () => to.destroy());
    };
    pass(down, up, 'up');
    pass(up, down, 'down');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const relay: Relay = {
    port: portOf(server),
    target: 0,
    flip: undefined,
    errors: [],
    endBoth: () => {
      for (const socket of sockets) socket.end();
    },
  };
  try {
    await run(relay);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}
