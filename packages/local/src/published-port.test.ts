import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { PortForwarder } from './published-port.ts';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Answers only after the caller has said all: a half-closed connection must stay half open. */
async function countingServer() {
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => undefined);
    void text(socket).then(all => socket.end(`got ${all.length}`));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}

/** However it ended. `once` would reject for an error before. */
async function closed(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.on('error', () => undefined);
  socket.once('close', () => resolve());
  await promise;
}

test('what a caller sends arrives, and the answer comes after it has ended its half', async () => {
  const { server, port } = await countingServer();
  const hostPort = await freePort();
  const forwarder = await PortForwarder.open({ ip: '127.0.0.1', hostPort, port }, '127.0.0.1');
  const socket = connect({ host: '127.0.0.1', port: hostPort, allowHalfOpen: true });
  socket.end('x'.repeat(300_000));
  assert.equal(await text(socket), 'got 300000');
  forwarder.close();
  server.close();
});

test('a port that is taken is refused with its code', async () => {
  const { server, port } = await countingServer();
  await assert.rejects(PortForwarder.open({ ip: '127.0.0.1', hostPort: port, port: 1 }, '127.0.0.1'), {
    code: 'local.port_taken',
  });
  server.close();
});

test('a workload that refuses ends the caller, and closing ends everybody', async () => {
  const hostPort = await freePort();
  const refused = await PortForwarder.open({ ip: '127.0.0.1', hostPort, port: await freePort() }, '127.0.0.1');
  const socket = connect({ host: '127.0.0.1', port: hostPort });
  await closed(socket);
  refused.close();
  const { server, port } = await countingServer();
  const forwarder = await PortForwarder.open({ ip: '127.0.0.1', hostPort, port }, '127.0.0.1');
  const open = connect({ host: '127.0.0.1', port: hostPort });
  const gone = closed(open);
  await Promise.all([once(server, 'connection'), once(open, 'connect')]);
  forwarder.close();
  await gone;
  server.close();
});
