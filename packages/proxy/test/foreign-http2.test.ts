// Foreign HTTP/2 (nghttp2 inside node:http2, over node:tls) at either end of our tunnels, and nghttpd as a server of its
// own. nghttp2 is strict: it ends the session at the first frame that is not allowed, and every test would notice.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { dial, digest, ending, portOf, readAll, sendPattern, serve, serveEcho } from './apps.ts';
import { addressOf, type Certificates, meshCertificates } from './mini-mesh.ts';
import { clientOptions, serverOptions } from './raw-peer.ts';
import { withMesh } from './with-mesh.ts';

const NGHTTPD = ['/usr/bin/nghttpd', '/usr/sbin/nghttpd'].find(path => existsSync(path));

async function connectSession(
  port: number,
  certificates: Certificates,
  options: http2.ClientSessionOptions = {},
): Promise<http2.ClientHttp2Session> {
  const socket = tls.connect(clientOptions(port, certificates));
  await once(socket, 'secureConnect');
  const session = http2.connect(`https://127.0.0.1:${port}`, { ...options, createConnection: () => socket });
  session.on('error', () => undefined);
  await once(session, 'remoteSettings');
  return session;
}

function connectStream(session: http2.ClientHttp2Session, authority: string): http2.ClientHttp2Stream {
  const stream = session.request(
    { ':method': 'CONNECT', ':authority': authority, baggage: '', forwarded: 'for="1.2.3.4:5"' },
    { endStream: false },
  );
  stream.on('error', () => undefined);
  return stream;
}

async function statusOf(stream: http2.ClientHttp2Stream): Promise<number> {
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader];
  return headers[':status'] ?? 0;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

describe('node:http2 as the client of our server', () => {
  test('bytes go both ways and both ends are told apart', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server }) => {
      const session = await connectSession(server.port, await meshCertificates());
      const stream = connectStream(session, `127.0.0.1:${app.port}`);
      assert.equal(await statusOf(stream), 200);
      const bytes = Buffer.alloc(5_000_000, 'pattern');
      stream.end(bytes);
      assert.ok((await collect(stream)).equals(bytes));
      assert.equal(stream.rstCode, 0);
      assert.equal(server.requests[0]?.forwarded, 'for="1.2.3.4:5"');
      session.destroy();
    });
  });

  test('padded frames, small windows and a table size of 0 work', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server }) => {
      const session = await connectSession(server.port, await meshCertificates(), {
        paddingStrategy: http2.constants.PADDING_STRATEGY_MAX,
        settings: { headerTableSize: 0, initialWindowSize: 1000 },
      });
      const streams = Array.from({ length: 10 }, () => connectStream(session, `127.0.0.1:${app.port}`));
      for (const stream of streams) assert.equal(await statusOf(stream), 200);
      const bytes = Buffer.alloc(100_000, 'padded');
      await Promise.all(
        streams.map(async stream => {
          stream.end(bytes);
          assert.ok((await collect(stream)).equals(bytes));
        }),
      );
      session.destroy();
    });
  });

  test('trailers end its direction', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server }) => {
      const session = await connectSession(server.port, await meshCertificates());
      const stream = session.request(
        { ':method': 'CONNECT', ':authority': `127.0.0.1:${app.port}` },
        { endStream: false, waitForTrailers: true },
      );
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': 'none' }));
      assert.equal(await statusOf(stream), 200);
      stream.end('with trailers');
      assert.equal((await collect(stream)).toString(), 'with trailers');
      assert.equal(server.ends.length, 1);
      assert.equal(server.ends[0]?.end.kind, 'finished');
      session.destroy();
    });
  });

  // node:http2 puts an END_STREAM in front of a RST_STREAM, and a node:net socket that saw an end does not see a reset, so
  // what became of the stream is asked of the proxy.
  test('its RST_STREAM resets the application, and ours is seen', async () => {
    await using app = await serve(socket => void socket.resume());
    await using rude = await serve(socket => void socket.once('data', () => socket.resetAndDestroy()));
    await withMesh({}, async ({ server, driver }) => {
      const session = await connectSession(server.port, await meshCertificates());
      const stream = connectStream(session, `127.0.0.1:${app.port}`);
      await statusOf(stream);
      stream.close(http2.constants.NGHTTP2_CANCEL);
      await driver.until(() => server.ends.length === 1, 'the stream is over');
      const ended = server.ends[0]?.end;
      assert.ok(ended?.kind === 'failed' && ended.reason === 'peer.reset');
      const other = connectStream(session, `127.0.0.1:${rude.port}`);
      await statusOf(other);
      const closed = once(other, 'close');
      other.write('x');
      await closed;
      assert.equal(other.rstCode, http2.constants.NGHTTP2_CANCEL);
      session.destroy();
    });
  });

  test('a refused upstream is a 503 that ends the stream, and the session goes on', async () => {
    await using app = await serveEcho();
    const gone = await serve(() => undefined);
    await gone[Symbol.asyncDispose]();
    await withMesh({}, async ({ server }) => {
      const session = await connectSession(server.port, await meshCertificates());
      const stream = connectStream(session, `127.0.0.1:${gone.port}`);
      const closed = once(stream, 'close');
      assert.equal(await statusOf(stream), 503);
      stream.resume();
      await closed;
      assert.equal(stream.rstCode, http2.constants.NGHTTP2_NO_ERROR);
      const next = connectStream(session, `127.0.0.1:${app.port}`);
      assert.equal(await statusOf(next), 200);
      next.end('ok');
      assert.equal((await collect(next)).toString(), 'ok');
      session.destroy();
    });
  });

  test('our drain reaches it as GOAWAY, and its own close is orderly', async () => {
    await using app = await serveEcho();
    await withMesh({}, async ({ server, driver }) => {
      const session = await connectSession(server.port, await meshCertificates());
      const stream = connectStream(session, `127.0.0.1:${app.port}`);
      await statusOf(stream);
      const goaway = once(session, 'goaway');
      for (const tunnel of server.tunnels) tunnel.drain();
      assert.equal((await goaway)[0], http2.constants.NGHTTP2_NO_ERROR);
      stream.end('to the end');
      assert.equal((await collect(stream)).toString(), 'to the end');
      await driver.until(() => server.tunnelEnds.length === 1, 'closed');
      assert.equal(server.tunnelEnds[0]?.reason, undefined);
      const second = await connectSession(server.port, await meshCertificates());
      second.close();
      await driver.until(() => server.tunnelEnds.length === 2, 'closed by the peer');
      assert.equal(server.tunnelEnds[1]?.reason, undefined);
    });
  });

  test('the limits we announce are those it sees', async () => {
    await withMesh({ server: { settings: { maxConcurrentStreams: 7 } } }, async ({ server }) => {
      const session = await connectSession(server.port, await meshCertificates());
      assert.equal(session.remoteSettings.maxConcurrentStreams, 7);
      assert.equal(session.remoteSettings.initialWindowSize, server.settings.streamWindowBytes);
      assert.equal(session.remoteSettings.maxFrameSize, server.settings.maxFrameBytes);
      assert.equal(session.remoteSettings.maxHeaderListSize, server.settings.maxHeaderListBytes);
      session.destroy();
    });
  });
});

interface ForeignServer {
  readonly port: number;
  readonly requests: http2.IncomingHttpHeaders[];
  readonly sessions: http2.ServerHttp2Session[];
}

/** A node:http2 server that treats CONNECT as `onConnect` says. */
async function withForeignServer(
  settings: http2.Settings,
  onConnect: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  run: (server: ForeignServer) => Promise<void>,
): Promise<void> {
  const server = http2.createSecureServer({ ...serverOptions(await meshCertificates()), settings });
  const foreign: ForeignServer & { port: number } = { port: 0, requests: [], sessions: [] };
  server.on('session', session => {
    foreign.sessions.push(session);
    session.on('error', () => undefined);
  });
  server.on('sessionError', () => undefined);
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    foreign.requests.push(headers);
    onConnect(stream, headers);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  foreign.port = portOf(server);
  try {
    await run(foreign);
  } finally {
    for (const session of foreign.sessions) session.destroy();
    server.close();
  }
}

const echo = (stream: http2.ServerHttp2Stream): void => {
  stream.respond({ ':status': 200 });
  stream.pipe(stream);
};

describe('node:http2 as the server of our client', () => {
  test('bytes go both ways, and the request is as it should be', async () => {
    await withForeignServer({}, echo, async foreign => {
      await withMesh({}, async ({ client }) => {
        const socket = await dial(client.listen(addressOf(`127.0.0.1:${foreign.port}`), '10.1.2.3:8080'));
        const [sent, got] = await Promise.all([sendPattern(socket, 3_000_000), digest(socket)]);
        assert.deepEqual(got, { hash: sent, bytes: 3_000_000 });
        const [headers] = foreign.requests;
        assert.equal(headers?.[':method'], 'CONNECT');
        assert.equal(headers?.[':authority'], '10.1.2.3:8080');
        assert.equal(headers?.[':path'], undefined);
        assert.equal(headers?.baggage, '');
        assert.equal(foreign.sessions.length, 1);
        client.pool.drain();
      });
    });
  });

  test('small windows and a table size of 0 work', async () => {
    await withForeignServer({ initialWindowSize: 777, headerTableSize: 0 }, echo, async foreign => {
      await withMesh({}, async ({ client }) => {
        const port = client.listen(addressOf(`127.0.0.1:${foreign.port}`), 'x:1');
        await Promise.all(
          Array.from({ length: 5 }, async (_, i) => {
            const socket = await dial(port);
            const [sent, got] = await Promise.all([sendPattern(socket, 30_000 + i, i), digest(socket)]);
            assert.equal(got.hash, sent);
          }),
        );
      });
    });
  });

  test('a limit of one stream is kept', async () => {
    let most = 0;
    let now = 0;
    const counted = (stream: http2.ServerHttp2Stream): void => {
      most = Math.max(most, ++now);
      stream.on('close', () => now--);
      echo(stream);
    };
    await withForeignServer({ maxConcurrentStreams: 1 }, counted, async foreign => {
      await withMesh({ client: { pool: { maxStreamsPerTunnel: 100 } } }, async ({ client, driver }) => {
        client.maxAttempts = 50;
        const port = client.listen(addressOf(`127.0.0.1:${foreign.port}`), 'x:1');
        const first = await dial(port);
        first.write('x');
        await driver.until(() => client.statuses.length === 1, 'the limit is known');
        const sockets = await Promise.all(Array.from({ length: 4 }, () => dial(port)));
        for (const socket of [...sockets, first]) socket.end('done');
        for (const socket of sockets) assert.equal((await readAll(socket)).toString(), 'done');
        assert.equal((await readAll(first)).toString(), 'xdone');
        for (const session of foreign.sessions) assert.ok(session.state.effectiveLocalWindowSize !== 0);
        assert.ok(most <= foreign.sessions.length, `${most} streams on ${foreign.sessions.length} sessions`);
      });
    });
  });

  test('its trailers, resets, refusals and GOAWAY have their meaning', async () => {
    const act = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void => {
      switch (headers[':authority']) {
        case 'trailers:1':
          stream.respond({ ':status': 200 }, { waitForTrailers: true });
          stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'yes' }));
          stream.end('tail');
          stream.resume();
          return;
        case 'reset:1':
          stream.respond({ ':status': 200 });
          stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
          return;
        case 'denied:1':
          stream.respond({ ':status': 401 }, { endStream: true });
          return;
        case 'goaway:1':
          stream.respond({ ':status': 200 });
          stream.session?.goaway(http2.constants.NGHTTP2_NO_ERROR);
          stream.pipe(stream);
          return;
        default:
          echo(stream);
      }
    };
    await withForeignServer({}, act, async foreign => {
      await withMesh({}, async ({ client, driver }) => {
        const to = (authority: string): Promise<net.Socket> =>
          dial(client.listen(addressOf(`127.0.0.1:${foreign.port}`), authority));
        const trailers = await to('trailers:1');
        assert.equal((await readAll(trailers)).toString(), 'tail');
        trailers.end();
        const reset = await to('reset:1');
        reset.resume();
        await driver.until(() => client.ends.length === 2, 'the stream is over'); // asked of the proxy, as above
        assert.ok(client.ends[1]?.kind === 'failed' && client.ends[1].reason === 'peer.reset');
        const denied = await to('denied:1');
        const deniedEnd = ending(denied);
        denied.resume();
        assert.equal(await deniedEnd, 'reset');
        await driver.until(() => client.ends.length === 3, 'three ended');
        const errors = client.ends.map(each => (each.kind === 'failed' ? each.error : 'finished'));
        assert.ok(errors.includes('http status: 401 Unauthorized'), errors.join('; '));
        const going = await to('goaway:1');
        going.end('last on this one');
        assert.equal((await readAll(going)).toString(), 'last on this one');
        const fresh = await to('echo:1');
        fresh.end('first on the next');
        assert.equal((await readAll(fresh)).toString(), 'first on the next');
        assert.equal(foreign.sessions.length, 2);
      });
    });
  });
});

describe('nghttpd', () => {
  test('takes our requests, resets and PINGs without complaint', {
    skip: NGHTTPD === undefined && 'nghttpd is not installed',
  }, async () => {
    const certificates = await meshCertificates();
    const directory = await mkdtemp(join(tmpdir(), 'ambit-nghttpd-'));
    try {
      const file = async (name: string, text: string): Promise<string> => {
        await writeFile(join(directory, name), text, { mode: 0o600 });
        return join(directory, name);
      };
      const key = await file('key.pem', certificates.server.privateKeyPem);
      const cert = await file('cert.pem', certificates.server.certChainPem);
      const port = await freePort();
      const child = spawn(
        NGHTTPD ?? '',
        ['-v', `--htdocs=${directory}`, '--address=127.0.0.1', String(port), key, cert],
        {
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      );
      try {
        await accepts(port);
        let log = '';
        child.stdout.on('data', (text: Buffer) => (log += text.toString('latin1')));
        const settings = { pingIntervalMs: 20, pingTimeoutMs: 5000 };
        await withMesh({ client: { settings } }, async ({ client, driver }) => {
          // It answers no CONNECT before the end of the request, which a tunnel has not; so each is given up.
          const listen = client.listen(addressOf(`127.0.0.1:${port}`), 'x:1');
          for (let i = 0; i < 3; i++) {
            const socket = await dial(listen);
            await driver.until(() => log.includes(`recv (stream_id=${2 * i + 1}) :method: CONNECT`), 'the request');
            socket.resetAndDestroy();
            await driver.until(() => client.ends.length === i + 1, 'given up');
          }
          const pinged = (): boolean => (log.match(/send PING frame/g) ?? []).length >= 3;
          await driver.until(() => pinged() && log.includes('recv RST_STREAM'), 'PINGs answered');
          assert.equal(client.pool.tunnelCount, 1);
          assert.deepEqual(client.failures, []);
          client.pool.drain();
          await driver.until(() => client.pool.tunnelCount === 0, 'closed');
          await driver.until(() => log.includes('recv GOAWAY'), 'the farewell');
          assert.doesNotMatch(log, /send GOAWAY|send RST_STREAM|invalid/);
        });
      } finally {
        child.kill();
        await once(child, 'exit');
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

async function freePort(): Promise<number> {
  const server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

async function accepts(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const socket = net.connect(port, '127.0.0.1');
    const up = await new Promise<boolean>(resolve => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (up) return;
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  assert.fail('the program never listened');
}
