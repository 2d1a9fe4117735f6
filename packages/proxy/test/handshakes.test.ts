// What SecureHandshake says of handshakes that fail, in both roles, and what the peer is told. Descriptors, timers and the
// rest are counted by withMesh.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { makeLeaf, makeRoot, materialOf } from '../../native/test/certificates.ts';
import { Errno, listenTcp, openTcp, startConnect, TlsContext } from '@ambit/native';
import { SecureHandshake } from '../src/index.ts';
import { portOf } from './apps.ts';
import { addressOf, CLIENT_ID, type ClientProxy, meshCertificates, SERVER_ID } from './mini-mesh.ts';
import { clientOptions, serverOptions } from './raw-peer.ts';
import { type Mesh, withMesh } from './with-mesh.ts';

const HOUR_MS = 3_600_000;

/** What a node:tls client experiences that shakes hands with the server proxy. */
async function tlsOutcome(mesh: Mesh, options: tls.ConnectionOptions): Promise<string> {
  const socket = tls.connect(options);
  const outcome = Promise.withResolvers<string>();
  socket.on('error', (error: Error & { code?: string }) => outcome.resolve(error.code ?? error.message));
  socket.on('close', () => outcome.resolve('closed'));
  socket.resume();
  const text = await outcome.promise;
  await mesh.driver.until(() => mesh.server.handshakeFailures.length === 1, 'the server knows');
  socket.destroy();
  return text;
}

describe('as a server', () => {
  test('a client without a certificate', () =>
    withMesh({}, async mesh => {
      const { cert: _cert, key: _key, ...anonymous } = clientOptions(mesh.server.port, await meshCertificates());
      assert.equal(await tlsOutcome(mesh, anonymous), 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
      assert.equal(mesh.server.handshakeFailures[0]?.reason, 'tls.no_certificate');
    }));

  test('a client of another root', () =>
    withMesh({}, async mesh => {
      const certificates = await meshCertificates();
      const other = await makeRoot('O=elsewhere');
      const client = await makeLeaf(other, { uris: [CLIENT_ID] });
      const outcome = await tlsOutcome(mesh, clientOptions(mesh.server.port, { ...certificates, client }));
      assert.equal(outcome, 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA');
      assert.equal(mesh.server.handshakeFailures[0]?.reason, 'tls.untrusted_root');
    }));

  test('a client whose certificate has expired, or is not valid yet', async () => {
    const certificates = await meshCertificates();
    const at = (from: number, to: number): Promise<Awaited<ReturnType<typeof makeLeaf>>> =>
      makeLeaf(certificates.root, {
        uris: [CLIENT_ID],
        notBefore: new Date(Date.now() + from * HOUR_MS),
        notAfter: new Date(Date.now() + to * HOUR_MS),
      });
    await withMesh({}, async mesh => {
      const client = await at(-2, -1);
      const outcome = await tlsOutcome(mesh, clientOptions(mesh.server.port, { ...certificates, client }));
      assert.match(outcome, /ALERT_CERTIFICATE_EXPIRED$/);
      assert.equal(mesh.server.handshakeFailures[0]?.reason, 'tls.expired');
    });
    await withMesh({}, async mesh => {
      const client = await at(1, 2);
      await tlsOutcome(mesh, clientOptions(mesh.server.port, { ...certificates, client }));
      assert.equal(mesh.server.handshakeFailures[0]?.reason, 'tls.not_yet_valid');
    });
  });

  test('a client that speaks another protocol, or another version', async () => {
    const certificates = await meshCertificates();
    await withMesh({}, async mesh => {
      const options = { ...clientOptions(mesh.server.port, certificates), ALPNProtocols: ['http/1.1'] };
      assert.match(await tlsOutcome(mesh, options), /NO_APPLICATION_PROTOCOL/);
      assert.equal(mesh.server.handshakeFailures[0]?.reason, 'tls.protocol');
    });
    await withMesh({}, async mesh => {
      const options: tls.ConnectionOptions = {
        ...clientOptions(mesh.server.port, certificates),
        minVersion: 'TLSv1.2',
        maxVersion: 'TLSv1.2',
      };
      assert.match(await tlsOutcome(mesh, options), /PROTOCOL_VERSION/);
    });
  });

  const talks: ReadonlyArray<[string, (socket: net.Socket) => void, string]> = [
    ['garbage', socket => socket.write(Buffer.alloc(100, 0x5a)), 'tls.protocol'],
    ['an HTTP request', socket => socket.write('GET / HTTP/1.1\r\n\r\n'), 'tls.protocol'],
    ['an end at once', socket => void socket.end(), 'tls.eof'],
    ['half a ClientHello and an end', socket => void socket.end(Buffer.of(22, 3, 1, 2, 0, 1, 0)), 'tls.eof'],
  ];
  for (const [name, talk, reason] of talks) {
    test(`a client that sends ${name} is ${reason}`, () =>
      withMesh({}, async ({ server, driver }) => {
        const socket = net.connect(server.port, '127.0.0.1');
        socket.on('error', () => undefined);
        socket.resume();
        talk(socket);
        await driver.until(() => server.handshakeFailures.length === 1, 'the failure');
        assert.equal(server.handshakeFailures[0]?.reason, reason);
        socket.destroy();
      }));
  }

  test('a client that says nothing is cut after the limit', () =>
    withMesh({ server: { handshakeTimeoutMs: 40 } }, async ({ server, driver }) => {
      const socket = net.connect(server.port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.resume();
      const closed = once(socket, 'close');
      await driver.until(() => server.handshakeFailures.length === 1, 'the failure');
      assert.equal(server.handshakeFailures[0]?.reason, 'tls.handshake_timeout');
      await closed;
    }));
});

/** Asks the pool for a tunnel to `port` and gives the reason why there is none. */
async function dialFailure(mesh: Mesh, client: ClientProxy, port: number): Promise<string> {
  const socket = net.connect(client.listen(addressOf(`127.0.0.1:${port}`), 'x:1'), '127.0.0.1');
  socket.on('error', () => undefined);
  await mesh.driver.until(() => client.failures.length === 1, 'the failure');
  socket.destroy();
  return client.failures[0]?.reason ?? 'none';
}

/** Runs a node:tls server with these options while `run` dials it. */
async function withTlsServer(
  options: tls.TlsOptions,
  run: (port: number, errors: string[]) => Promise<void>,
): Promise<void> {
  const errors: string[] = [];
  const sockets = new Set<net.Socket>();
  const server = tls.createServer(options, socket => socket.on('error', (error: Error) => errors.push(codeOf(error))));
  server.on('connection', (socket: net.Socket) => sockets.add(socket));
  server.on('tlsClientError', (error: Error) => errors.push(codeOf(error)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await run(portOf(server), errors);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

function codeOf(error: Error & { code?: string }): string {
  return error.code ?? error.message;
}

describe('as a client', () => {
  test('a server of another root, and one that has expired', async () => {
    const certificates = await meshCertificates();
    const other = await makeRoot('O=elsewhere');
    const cases: ReadonlyArray<[string, Awaited<ReturnType<typeof makeLeaf>>]> = [
      ['tls.untrusted_root', await makeLeaf(other, { uris: [SERVER_ID] })],
      [
        'tls.expired',
        await makeLeaf(certificates.root, {
          uris: [SERVER_ID],
          notAfter: new Date(Date.now() - HOUR_MS),
          notBefore: new Date(Date.now() - 2 * HOUR_MS),
        }),
      ],
    ];
    for (const [reason, server] of cases) {
      await withTlsServer(serverOptions({ ...certificates, server }), async (port, errors) => {
        await withMesh({}, async mesh => {
          assert.equal(await dialFailure(mesh, mesh.client, port), reason);
          await mesh.driver.until(() => errors.length === 1, 'the server hears the alert');
          assert.match(errors[0] ?? '', /ALERT_(UNKNOWN_CA|CERTIFICATE_EXPIRED)/);
        });
      });
    }
  });

  test('a server with the wrong identity hears bad_certificate', async () => {
    const certificates = await meshCertificates();
    const server = await makeLeaf(certificates.root, { uris: ['spiffe://cluster.local/ns/shop/sa/other'] });
    await withTlsServer(serverOptions({ ...certificates, server }), async (port, errors) => {
      await withMesh({}, async mesh => {
        assert.equal(await dialFailure(mesh, mesh.client, port), 'identity.mismatch');
        await mesh.driver.until(() => errors.length === 1, 'the server hears the alert');
        assert.match(errors[0] ?? '', /ALERT_BAD_CERTIFICATE/);
      });
    });
  });

  test('a server that refuses us', async () => {
    const certificates = await meshCertificates();
    const other = await makeRoot('O=elsewhere');
    const serverContext = TlsContext.server(materialOf(certificates.server, other));
    // In TLS 1.3 the client is done before the server looks at its certificate, so the refusal arrives as an alert on a
    // running tunnel, and a request that waits for its answer fails with it.
    await withMesh({ serverContext }, async ({ client, server, driver, to }) => {
      client.maxAttempts = 1;
      const socket = net.connect(to(1), '127.0.0.1');
      socket.on('error', () => undefined);
      await driver.until(() => client.ends.length === 1, 'the failure');
      const [end] = client.ends;
      assert.ok(end?.kind === 'failed' && end.reason === 'tls.alert', JSON.stringify(end));
      assert.equal(end.error, 'received TLS alert: unknown_ca');
      assert.equal(server.handshakeFailures[0]?.reason, 'tls.untrusted_root');
      socket.destroy();
    });
  });

  test('nobody listens', () =>
    withMesh({}, async mesh => {
      const server = net.createServer();
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const port = portOf(server);
      server.close();
      await once(server, 'close');
      assert.equal(await dialFailure(mesh, mesh.client, port), 'dial.refused');
      assert.match(mesh.client.failures[0]?.error ?? '', /Connection refused \(os error 111\)/);
    }));

  test('a connect that nobody answers ends at its limit', () =>
    withMesh({ client: { pool: { connectTimeoutMs: 40 } } }, async mesh => {
      // A full backlog that nobody accepts from: the kernel drops further SYNs, as a firewall would.
      const listener = listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 });
      const fillers = fillBacklog(listener.port);
      try {
        assert.equal(await dialFailure(mesh, mesh.client, listener.port), 'dial.timeout');
        assert.match(mesh.client.failures[0]?.error ?? '', /NetworkPolicy is blocking HBONE port 15008/);
      } finally {
        for (const fd of [...fillers, listener.fd]) fd.close();
      }
    }));

  test('a server that accepts and says nothing', async () => {
    const sockets: net.Socket[] = [];
    const server = net.createServer(socket => void sockets.push(socket.on('error', () => undefined)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    await withMesh({ client: { pool: { handshakeTimeoutMs: 40 } } }, async mesh => {
      assert.equal(await dialFailure(mesh, mesh.client, portOf(server)), 'tls.handshake_timeout');
    });
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  test('a context that was closed fails in the next turn, not in the constructor', () =>
    withMesh({}, async ({ client, server, driver }) => {
      const certificates = await meshCertificates();
      const context = TlsContext.client(materialOf(certificates.client, certificates.root));
      context.close();
      const fd = openTcp('ipv4');
      startConnect(fd, server.address);
      const failures: string[] = [];
      const limits = { connectTimeoutMs: 1000, handshakeTimeoutMs: 1000 };
      const handshake = new SecureHandshake(client.engine, fd, context, 'connected', limits, {
        onSecured: () => assert.fail('secured with a closed context'),
        onHandshakeFailed: reason => failures.push(reason),
      });
      assert.deepEqual(failures, []);
      await driver.until(() => failures.length === 1, 'told');
      assert.deepEqual(failures, ['tls.config']);
      assert.equal(fd.isOpen, false);
      handshake.cancel();
      await driver.until(() => server.handshakeFailures.length === 1, 'the server side is over');
    }));
});

/** More connects than the backlog has room for. */
function fillBacklog(port: number): Array<ReturnType<typeof openTcp>> {
  return Array.from({ length: 8 }, () => {
    const fd = openTcp('ipv4');
    const started = startConnect(fd, addressOf(`127.0.0.1:${port}`));
    assert.equal(started, -Errno.EINPROGRESS);
    return fd;
  });
}
