// The pool against upstream's list (tests-and-benches.md section 6, P1 to P11) in our semantics: a full tunnel takes
// connections again when streams end, and one is idle when it has no stream. Opens and closes are counted at the server.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { FRAME_TYPE, H2_ERROR, SETTING } from '../src/h2/index.ts';
import { type HbonePool, poolKey } from '../src/index.ts';
import { dial, ending, portOf, readAll, readBytes, serve, serveEcho } from './apps.ts';
import { addressOf, meshCertificates } from './mini-mesh.ts';
import { dataFrame, goawayFrame, RawServer, rstStream } from './raw-peer.ts';
import { type Mesh, withMesh } from './with-mesh.ts';

/** Opens `count` echoes and keeps them open. */
async function hold(port: number, count: number): Promise<net.Socket[]> {
  const sockets = await Promise.all(Array.from({ length: count }, () => dial(port)));
  for (const socket of sockets) socket.write('x');
  await Promise.all(sockets.map(socket => readBytes(socket, 1)));
  return sockets;
}

async function release(sockets: readonly net.Socket[]): Promise<void> {
  for (const socket of sockets) socket.end();
  await Promise.all(sockets.map(readAll));
}

const noStreams = ({ client, server, driver }: Mesh): Promise<void> =>
  driver.until(() => client.streamCount + server.streamCount === 0, 'no streams');

describe('sharing (P1 to P9)', () => {
  test('P1: two at once, twice, use one tunnel; the end of the pool closes it', async () => {
    await using app = await serveEcho();
    await withMesh({ client: { pool: { maxStreamsPerTunnel: 3 } } }, async mesh => {
      const port = mesh.to(app.port);
      await release(await hold(port, 2));
      await release(await hold(port, 2));
      assert.equal(mesh.server.tunnelsOpened, 1);
      assert.equal(mesh.server.tunnelEnds.length, 0);
      await noStreams(mesh);
      mesh.client.pool.drain();
      await mesh.driver.until(() => mesh.server.tunnelEnds.length === 1, 'closed');
    });
  });

  test('P2: what an application said before the pool ended is delivered', async () => {
    await using app = await serve(socket => {
      socket.write('poolsrv\n');
      socket.pipe(socket);
    });
    await withMesh({}, async mesh => {
      const socket = await dial(mesh.to(app.port));
      assert.equal((await readBytes(socket, 8)).toString(), 'poolsrv\n');
      for (const letter of 'abcde') {
        socket.write(letter);
        assert.equal((await readBytes(socket, 1)).toString(), letter);
      }
      mesh.client.pool.drain();
      socket.end('last');
      assert.equal((await readAll(socket)).toString(), 'last');
    });
  });

  test('P3: connections of two sources do not share', async () => {
    await using app = await serveEcho();
    await withMesh({}, async mesh => {
      const authority = `127.0.0.1:${app.port}`;
      const one = await hold(mesh.client.listen(mesh.server.address, authority, '10.0.0.1'), 1);
      const two = await hold(mesh.client.listen(mesh.server.address, authority, '10.0.0.2'), 1);
      assert.equal(mesh.server.tunnelsOpened, 2);
      await release([...one, ...two]);
    });
  });

  test('P4: four at once with room for two open two tunnels, and five more reuse both', async () => {
    await using app = await serveEcho();
    await withMesh({ client: { pool: { maxStreamsPerTunnel: 2 } } }, async mesh => {
      const port = mesh.to(app.port);
      const four = await hold(port, 4);
      assert.equal(mesh.server.tunnelsOpened, 2);
      await release(four);
      await noStreams(mesh);
      assert.equal(mesh.server.tunnelEnds.length, 0, 'full tunnels stay, unlike upstream');
      const five = await hold(port, 5);
      assert.equal(mesh.server.tunnelsOpened, 3, 'upstream opens five');
      await release(five);
    });
  });

  test('P5: after GOAWAY the next request opens a new tunnel', async () => {
    await using app = await serveEcho();
    await withMesh({}, async mesh => {
      const port = mesh.to(app.port);
      await release(await hold(port, 1));
      await noStreams(mesh);
      for (const tunnel of mesh.server.tunnels) tunnel.drain();
      await mesh.driver.until(() => mesh.client.pool.tunnelCount === 0, 'gone');
      await release(await hold(port, 1));
      assert.equal(mesh.server.tunnelsOpened, 2);
    });
  });

  test('P6: two at once with room for one open two tunnels', async () => {
    await using app = await serveEcho();
    await withMesh({ client: { pool: { maxStreamsPerTunnel: 1 } } }, async mesh => {
      await release(await hold(mesh.to(app.port), 2));
      assert.equal(mesh.server.tunnelsOpened, 2);
    });
  });

  test('P7: a hundred at once fit one tunnel', async () => {
    await using app = await serveEcho();
    await withMesh({ client: { pool: { maxStreamsPerTunnel: 101 } } }, async mesh => {
      await release(await hold(mesh.to(app.port), 100));
      assert.equal(mesh.server.tunnelsOpened, 1);
    });
  });

  test('P8: a hundred keys open a hundred tunnels, and all close with the pool', async () => {
    await using app = await serveEcho();
    await withMesh({}, async mesh => {
      const authority = `127.0.0.1:${app.port}`;
      const ports = Array.from({ length: 100 }, (_, i) =>
        mesh.client.listen(mesh.server.address, authority, `10.0.1.${i}`),
      );
      const held = (await Promise.all(ports.map(port => hold(port, 1)))).flat();
      assert.equal(mesh.server.tunnelsOpened, 100);
      await release(held);
      await noStreams(mesh);
      mesh.client.pool.drain();
      await mesh.driver.until(() => mesh.server.tunnelEnds.length === 100, 'all closed');
    });
  });

  test('P9: 300 requests over three keys open three tunnels', async () => {
    await using app = await serveEcho();
    await withMesh({}, async mesh => {
      const authority = `127.0.0.1:${app.port}`;
      await Promise.all(
        [1, 2, 3].map(async i => {
          const port = mesh.client.listen(mesh.server.address, authority, `10.0.2.${i}`);
          for (let round = 0; round < 10; round++) await release(await hold(port, 10));
        }),
      );
      assert.equal(mesh.server.tunnelsOpened, 3);
      assert.equal(mesh.server.ends.length, 300);
    });
  });
});

describe('idle tunnels (P10, P11)', () => {
  test('P10: one without streams is closed after its time', async () => {
    await using app = await serveEcho();
    await withMesh({ client: { pool: { idleMs: 50 } } }, async mesh => {
      await release(await hold(mesh.to(app.port), 1));
      await mesh.driver.until(() => mesh.client.pool.tunnelCount === 0, 'closed');
      await mesh.driver.until(() => mesh.server.tunnelEnds.length === 1, 'closed at the server');
      assert.equal(mesh.server.tunnelEnds[0]?.reason, undefined);
      assert.equal(mesh.client.pool.entryCount, 0);
    });
  });

  test('P11: one with a stream stays, and goes after it', async () => {
    await using app = await serveEcho();
    await withMesh({ client: { pool: { idleMs: 30 } } }, async mesh => {
      const held = await hold(mesh.to(app.port), 1);
      const opened = performance.now();
      await mesh.driver.until(() => performance.now() - opened > 150, 'five idle times pass');
      assert.equal(mesh.client.pool.tunnelCount, 1);
      assert.equal(mesh.server.tunnelEnds.length, 0);
      await release(held);
      await mesh.driver.until(() => mesh.server.tunnelEnds.length === 1, 'closed after its stream');
    });
  });
});

describe('failures', () => {
  test('everyone who waited for a failed dial hears of it at once, after one dial', async () => {
    let dials = 0;
    const server = net.createServer(socket => {
      dials++;
      socket.on('error', () => undefined);
      // Not TLS: the handshakes fail.
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    await withMesh({}, async ({ client, driver }) => {
      const port = client.listen(addressOf(`127.0.0.1:${portOf(server)}`), 'x:1');
      const sockets = Array.from({ length: 30 }, () => net.connect(port, '127.0.0.1'));
      await Promise.all(sockets.map(socket => socket.on('error', () => undefined) && once(socket, 'close')));
      await driver.until(() => client.failures.length === 30, 'all told');
      assert.ok(client.failures.every(each => each.reason === 'tls.protocol'));
      assert.ok(dials <= 5, `${dials} dials`);
      assert.equal(client.pool.entryCount, 0);
    });
    server.close();
  });

  test('a peer without an accepted identity fails the dial with the names', async () => {
    await withMesh({}, async ({ client, server, driver }) => {
      client.expectedIdentities = ['spiffe://cluster.local/ns/shop/sa/other'];
      await dial(client.listen(server.address, 'x:1'));
      await driver.until(() => client.failures.length === 1, 'the dial failed');
      assert.equal(client.failures[0]?.reason, 'identity.mismatch');
      assert.match(client.failures[0]?.error ?? '', /sa\/other\), got spiffe:\/\/cluster.local\/ns\/shop\/sa\/cart/);
      await driver.until(() => server.tunnelEnds.length === 1, 'the server hears of it');
      assert.deepEqual(server.tunnelEnds, [{ reason: 'tls.alert', error: 'received TLS alert: bad_certificate' }]);
    });
  });

  test('without a certificate of our own nothing is dialled', async () => {
    await withMesh({}, async ({ client, server }) => {
      const target = { ...client.target(server.address), sourceIdentity: 'spiffe://cluster.local/ns/x/sa/none' };
      const failures: string[] = [];
      client.pool.request(poolKey(target), target, {
        onTunnel: () => assert.fail('a tunnel without a certificate'),
        onTunnelFailed: (reason, error) => failures.push(`${reason}: ${error}`),
      });
      assert.deepEqual(failures, ['identity.unavailable: identity error: no certificate yet']);
      assert.equal(client.pool.entryCount, 0);
    });
  });

  test('a waiter that withdraws is not served, and its entry goes with the dial', async () => {
    const server = net.createServer(() => undefined); // accepts and says nothing
    const sockets: net.Socket[] = [];
    server.on('connection', socket => sockets.push(socket.on('error', () => undefined)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    await withMesh({ client: { pool: { handshakeTimeoutMs: 100 } } }, async ({ client, driver }) => {
      const target = client.target(addressOf(`127.0.0.1:${portOf(server)}`));
      const waiter = {
        onTunnel: () => assert.fail('served after all'),
        onTunnelFailed: () => assert.fail('told after all'),
      };
      client.pool.request(poolKey(target), target, waiter);
      assert.equal(client.pool.entryCount, 1);
      client.pool.withdraw(poolKey(target), waiter);
      await driver.until(() => client.pool.entryCount === 0, 'the entry is gone');
    });
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test('a pool that drains takes no more and cancels what it was dialling', async () => {
    const server = net.createServer(socket => void socket.on('error', () => undefined));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    await withMesh({}, async ({ client }) => {
      const target = client.target(addressOf(`127.0.0.1:${portOf(server)}`));
      const heard: string[] = [];
      const ask = (pool: HbonePool): void =>
        pool.request(poolKey(target), target, {
          onTunnel: () => assert.fail('a tunnel from a draining pool'),
          onTunnelFailed: reason => heard.push(reason),
        });
      ask(client.pool);
      client.pool.drain();
      ask(client.pool);
      assert.deepEqual(heard, ['drain.deadline', 'drain.deadline']);
      assert.equal(client.pool.entryCount, 0);
    });
    server.close();
  });
});

describe('limits and refusals of the peer', () => {
  test('a peer that allows one stream gets one at a time, and everybody is served', async () => {
    await using app = await serveEcho();
    await withMesh({ server: { settings: { maxConcurrentStreams: 1 } } }, async mesh => {
      mesh.client.maxAttempts = 50;
      const sockets = await hold(mesh.to(app.port), 6);
      assert.equal(mesh.client.failures.length, 0);
      assert.ok(Array.from(mesh.server.tunnels).every(tunnel => tunnel.streams.size <= 1));
      const opened = mesh.server.tunnelsOpened;
      assert.ok(opened <= 7, `${opened} tunnels`);
      await release(sockets);
      // The limit is known now: nothing is refused any more.
      await noStreams(mesh);
      const { retries } = mesh.client;
      await release(await hold(mesh.to(app.port), 3));
      assert.equal(mesh.client.retries, retries);
    });
  });

  test('a limit once heard is assumed of the next tunnels of the same key', async () => {
    await withMesh({}, async ({ client }) => {
      await using peers = await RawServer.listen(await meshCertificates(), {
        settings: [{ id: SETTING.MAX_CONCURRENT_STREAMS, value: 1 }],
      });
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const sockets = [await dial(port)];
      const first = await peers.peer(0);
      await first.until(() => first.all(FRAME_TYPE.SETTINGS).length === 2, 'the limit is known');
      sockets.push(...(await Promise.all(Array.from({ length: 4 }, () => dial(port)))));
      for (let i = 0; i < 5; i++) {
        const peer = await peers.peer(i);
        await peer.until(() => peer.all(FRAME_TYPE.HEADERS).length > 0, 'a request');
        await peer.roundTrip();
        assert.equal(peer.all(FRAME_TYPE.HEADERS).length, 1);
      }
      for (const peer of peers.peers) peer.send(peer.responseFrame(1, 200), dataFrame(1, Buffer.alloc(0), 1));
      for (const socket of sockets) socket.end();
      await Promise.all(sockets.map(readAll));
      assert.equal(client.retries, 0);
    });
  });

  test('REFUSED_STREAM and GOAWAY below the stream are retried elsewhere, other resets are not', async () => {
    await withMesh({}, async ({ client, driver }) => {
      await using peers = await RawServer.listen(await meshCertificates());
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const socket = await dial(port);
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'request');
      peer.send(rstStream(1, H2_ERROR.REFUSED_STREAM));
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 3).length === 1, 'again');
      peer.send(goawayFrame(1, H2_ERROR.NO_ERROR));
      const second = await peers.peer(1);
      await second.until(() => second.all(FRAME_TYPE.HEADERS, 1).length === 1, 'on another tunnel');
      second.send(second.responseFrame(1, 200), dataFrame(1, Buffer.from('at last')));
      assert.equal((await readBytes(socket, 7)).toString(), 'at last');
      assert.equal(client.retries, 2);
      const end = ending(socket);
      socket.resume();
      second.send(rstStream(1, H2_ERROR.INTERNAL_ERROR));
      assert.equal(await end, 'reset');
      assert.equal(client.retries, 2);
      await driver.until(() => client.ends.length === 1, 'told once');
    });
  });

  test('a request on a tunnel that dies before it answers is retryable when the tunnel had served before', async () => {
    await withMesh({}, async ({ client }) => {
      await using peers = await RawServer.listen(await meshCertificates());
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const first = await dial(port);
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 1).length === 1, 'request');
      peer.send(peer.responseFrame(1, 200), dataFrame(1, Buffer.alloc(0), 1));
      first.end();
      await readAll(first);
      const second = await dial(port);
      await peer.until(() => peer.all(FRAME_TYPE.HEADERS, 3).length === 1, 'second request');
      peer.close();
      const next = await peers.peer(1);
      await next.until(() => next.all(FRAME_TYPE.HEADERS, 1).length === 1, 'the request again');
      next.send(next.responseFrame(1, 200), dataFrame(1, Buffer.from('ok'), 1));
      second.end();
      assert.equal((await readAll(second)).toString(), 'ok');
    });
  });

  test('MAX_CONCURRENT_STREAMS that is lowered below what runs only holds back new streams', async () => {
    await withMesh({}, async ({ client }) => {
      await using peers = await RawServer.listen(await meshCertificates(), {
        settings: [{ id: SETTING.MAX_CONCURRENT_STREAMS, value: 1 }],
      });
      const port = client.listen(addressOf(`127.0.0.1:${peers.port}`), 'x:1');
      const first = await dial(port);
      const peer = await peers.peer(0);
      await peer.until(() => peer.all(FRAME_TYPE.SETTINGS).length === 2, 'our limit is known');
      const second = await dial(port);
      const other = await peers.peer(1);
      await other.until(() => other.all(FRAME_TYPE.HEADERS, 1).length === 1, 'the second on a tunnel of its own');
      assert.equal(peer.all(FRAME_TYPE.HEADERS).length, 1);
      for (const each of [peer, other]) each.send(each.responseFrame(1, 200), dataFrame(1, Buffer.alloc(0), 1));
      for (const socket of [first, second]) socket.end();
      await Promise.all([first, second].map(readAll));
    });
  });
});
