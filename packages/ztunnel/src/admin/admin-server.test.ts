import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { afterEach, test } from 'node:test';
import { createWorkload, MeshState } from '@ambit/mesh';
import { parseConfig } from '../config.ts';
import { type AdminListen, type AdminServer, serveAdmin } from './admin-server.ts';

const open: AdminServer[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

async function start(listen: Partial<AdminListen> = {}, workloads = 3): Promise<AdminServer> {
  const state = new MeshState();
  const names = Array.from({ length: workloads }, (_, i) => `w-${i}`);
  state.applyBatch({ upsertWorkloads: names.map(name => createWorkload({ uid: name, name, namespace: 'n' })) });
  const config = parseConfig({ XDS_ADDRESS: '' }, { cores: 1, exists: () => false });
  const deps = { state, config, certificates: { identityStates: () => [] }, xds: () => ({ connected: true }) };
  const server = await serveAdmin(deps, { port: 0, ipv6: false, ...listen });
  open.push(server);
  return server;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly allow: string | undefined;
}

async function ask(
  port: number,
  path: string,
  options: { host?: string; method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { host = '127.0.0.1', method = 'GET', headers = {} } = options;
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const request = httpRequest({ host, port, path, method, headers, agent: false }, response => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => void chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      resolve({ status: response.statusCode ?? 0, body, allow: response.headers.allow });
    });
  });
  request.on('error', reject);
  request.end();
  return await promise;
}

test('the dump is JSON with the mesh and the state of xDS', async () => {
  const { port } = await start();
  const { status, body } = await ask(port, '/config_dump');
  assert.equal(status, 200);
  const dump = JSON.parse(body) as { workloads: unknown[]; xds: unknown };
  assert.equal(dump.workloads.length, 3);
  assert.deepEqual(dump.xds, { connected: true });
});

test('index, unknown paths and other methods', async () => {
  const { port } = await start();
  assert.match((await ask(port, '/')).body, /config_dump/);
  assert.equal((await ask(port, '/ready')).status, 404);
  assert.equal((await ask(port, '/config_dump/x')).status, 404);
  assert.deepEqual(await ask(port, '/config_dump', { method: 'POST' }), { status: 405, body: '', allow: 'GET, HEAD' });
  assert.deepEqual(await ask(port, '/config_dump?x', { method: 'HEAD' }), { status: 200, body: '', allow: undefined });
});

test('a Host header that does not name this machine is refused', async () => {
  const { port } = await start();
  for (const host of ['localhost', 'LOCALHOST:1', '127.0.0.1:9', '127.1.2.3', '[::1]:15000']) {
    assert.equal((await ask(port, '/', { headers: { host } })).status, 200, host);
  }
  for (const host of ['evil.example', 'localhost.evil.example', '10.0.0.1', '127.0.0.1.evil', 'localhost:1@x']) {
    assert.equal((await ask(port, '/', { headers: { host } })).status, 403, host);
  }
});

test('it listens on loopback only, on one address when told so, and never on another', async () => {
  const own = await start({ address: '127.0.0.5' });
  assert.equal((await ask(own.port, '/', { host: '127.0.0.5' })).status, 200);
  await assert.rejects(ask(own.port, '/', { host: '127.0.0.1' }), { code: 'ECONNREFUSED' });
  const wildcard = await start({ address: '0.0.0.0' });
  assert.equal((await ask(wildcard.port, '/')).status, 200);
  await assert.rejects(ask(wildcard.port, '/', { host: '127.0.0.2' }), { code: 'ECONNREFUSED' });
});

test('a port that is taken is an error with the code of the system', async () => {
  const { port } = await start();
  await assert.rejects(start({ port }), { code: 'EADDRINUSE' });
});

test('a reader that stalls and one that vanishes hold up nobody, and the end cuts them', async () => {
  const server = await start({}, 20_000);
  const stalled = connect(server.port, '127.0.0.1').pause();
  stalled.write('GET /config_dump HTTP/1.1\r\nhost: localhost\r\n\r\n');
  const vanished = connect(server.port, '127.0.0.1');
  vanished.write('GET /config_dump HTTP/1.1\r\nhost: localhost\r\n\r\n');
  vanished.once('data', () => vanished.destroy());
  const dump = JSON.parse((await ask(server.port, '/config_dump')).body) as { workloads: unknown[] };
  assert.equal(dump.workloads.length, 20_000);
  const closed = new Promise<void>(resolve => stalled.once('close', () => resolve()));
  stalled.on('error', () => undefined);
  await server.close();
  stalled.resume();
  await closed;
});
