import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { afterEach, test } from 'node:test';
import { createWorkload, MeshState } from '@ambit/mesh';
import { parseConfig } from '../config.ts';
import type { IdentityReport } from '../identity/certificate-state.ts';
import { Log, LogFilter } from '../log.ts';
import type { AdminDeps } from './admin-routes.ts';
import { type AdminListen, type AdminServer, serveAdmin } from './admin-server.ts';

const open: AdminServer[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

function testLog(): Log {
  const filter = LogFilter.parse('access=warn,info');
  assert.ok(filter !== undefined);
  return new Log({ write: () => undefined, now: () => 0 }, { format: 'plain', filter });
}

async function start(
  listen: Partial<AdminListen> = {},
  workloads = 3,
  more: Partial<AdminDeps> = {},
): Promise<AdminServer> {
  const state = new MeshState();
  const names = Array.from({ length: workloads }, (_, i) => `w-${i}`);
  state.applyBatch({ upsertWorkloads: names.map(name => createWorkload({ uid: name, name, namespace: 'n' })) });
  const config = parseConfig({ XDS_ADDRESS: '' }, { cores: 1, exists: () => false });
  const deps: AdminDeps = {
    state,
    config,
    certificates: { identityStates: () => [] },
    pods: () => [],
    workers: { count: 0, ask: async () => [] },
    staticMesh: async () => undefined,
    xds: () => ({ connected: true }),
    version: '1',
    log: testLog(),
    life: () => ({ state: 'serving', sinceMs: 0, pending: [] }),
    quit: () => undefined,
    now: () => 90_000,
    more: new Map(),
    ...more,
  };
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

test('what a browser was told to ask by another site is refused, also with a right Host', async () => {
  let quits = 0;
  const { port } = await start({}, 3, { quit: () => quits++ });
  const elsewhere = [
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: `http://127.0.0.1:${port + 1}` },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ];
  for (const headers of elsewhere) {
    assert.equal((await ask(port, '/quitquitquit', { method: 'POST', headers })).status, 403, JSON.stringify(headers));
  }
  assert.equal(quits, 0);
  const own = { origin: `http://127.0.0.1:${port}`, host: `127.0.0.1:${port}`, 'sec-fetch-site': 'same-origin' };
  const { status, body } = await ask(port, '/quitquitquit', { method: 'POST', headers: own });
  assert.deepEqual([status, body, quits], [200, 'shutdown now\n', 1]);
  const { status: read, allow } = await ask(port, '/quitquitquit');
  assert.deepEqual([read, allow, quits], [405, 'POST', 1]);
});

test('log levels are shown, changed and set back, for loggers that exist already', async () => {
  const log = testLog();
  const access = log.scope('access');
  const { port } = await start({}, 3, { log });
  const post = async (query: string): Promise<string> => {
    const { status, body } = await ask(port, `/logging${query}`, { method: 'POST' });
    return `${status} ${body.split('\n')[0]}`;
  };
  assert.equal(await post(''), '200 current log level is access=warn,info');
  assert.equal(await post('?level='), '200 current log level is access=warn,info');
  assert.equal(access.isEnabled('info'), false);
  assert.equal(
    await post('?level=access=debug,ztunnel::xds:trace'),
    '200 current log level is ztunnel::xds=trace,access=debug,info',
  );
  assert.equal(access.isEnabled('debug'), true);
  assert.equal(await post('?level=error'), '200 current log level is ztunnel::xds=trace,access=debug,error');
  assert.equal(await post('?reset&level=access:off'), '200 current log level is access=off,info');
  assert.equal(access.isEnabled('error'), false);
  assert.equal(await post('?reset'), '200 current log level is access=warn,info');
  for (const bad of ['loud', 'access', 'access=loud', 'a=b=c', 'info,,x', `${'a'.repeat(3000)}=info`]) {
    assert.match(await post(`?level=${bad}`), /^400 Invalid level provided: /, bad);
  }
  assert.equal(log.filter.toString(), 'access=warn,info');
  const wrong = await ask(port, '/logging?level=debug');
  assert.deepEqual([wrong.status, wrong.allow], [405, 'POST']);
  assert.match(wrong.body, /^Invalid HTTP method\n/);
});

test('certificates come with the earliest end first, the state with what is waited for', async () => {
  const report = (identity: string, notAfterMs: number | undefined): IdentityReport => ({
    identity,
    state: notAfterMs === undefined ? 'unavailable' : 'available',
    priority: 'Background',
    certChainPem: '',
    rootsPem: '',
    notBeforeMs: notAfterMs === undefined ? undefined : 0,
    notAfterMs,
    nextRenewalMs: 60_000,
    lastError: notAfterMs === undefined ? { message: '<away>', code: 'ca.unreachable', atMs: 1000 } : undefined,
  });
  const reports = [report('spiffe://b', 390_000), report('spiffe://a', 120_500), report('spiffe://c', undefined)];
  const { port } = await start({}, 3, {
    certificates: { identityStates: () => reports },
    life: () => ({ state: 'draining', sinceMs: 30_000, cause: 'SIGTERM', pending: ['proxy'] }),
  });
  const { certificates } = JSON.parse((await ask(port, '/certs')).body) as { certificates: Record<string, unknown>[] };
  assert.deepEqual(
    certificates.map(({ identity, expiresInSeconds }) => [identity, expiresInSeconds]),
    [
      ['spiffe://c', null],
      ['spiffe://a', 30],
      ['spiffe://b', 300],
    ],
  );
  const state = JSON.parse((await ask(port, '/state')).body) as Record<string, unknown>;
  assert.deepEqual(state, {
    state: 'draining',
    since: '1970-01-01T00:00:30.000Z',
    cause: 'SIGTERM',
    pending: ['proxy'],
    pods: 0,
    workers: 0,
  });
  const page = (await ask(port, '/')).body;
  assert.match(page, /<strong class="bad">draining<\/strong> for 1 min · SIGTERM · not ready, pending: proxy/);
  assert.match(page, /good for 5 min/);
  assert.ok(page.includes('&#60;away&#62;') && !page.includes('<away>'));
});

test('more connections than the bound are closed at once, and the others are served', async () => {
  const server = await start();
  const idle = await Promise.all(
    Array.from({ length: 80 }, async () => {
      const socket = connect(server.port, '127.0.0.1').on('error', () => undefined);
      await once(socket, 'connect');
      return socket;
    }),
  );
  try {
    const closed = idle.slice(0, 16).length;
    let gone = 0;
    await new Promise<void>(resolve => {
      for (const socket of idle) socket.once('close', () => ++gone >= closed && resolve());
      for (const socket of idle) socket.resume();
    });
    assert.ok(idle.some(socket => !socket.destroyed));
  } finally {
    for (const socket of idle) socket.destroy();
  }
  await server.close();
});

test("profiles refuse what they cannot do, in upstream's words", async () => {
  const { port } = await start();
  for (const [query, body] of [
    ['seconds=0', 'invalid seconds value; expected 1-300\n'],
    ['seconds=301', 'invalid seconds value; expected 1-300\n'],
    ['seconds=1.5', 'invalid seconds value; expected 1-300\n'],
    ['frequency=1001', 'invalid frequency value; expected 1-1000\n'],
    ['frequency=x', 'invalid frequency value; expected 1-1000\n'],
  ]) {
    assert.deepEqual(await ask(port, `/debug/pprof/profile?${query}`), { status: 400, body, allow: undefined }, query);
  }
  assert.equal((await ask(port, '/debug/pprof/heap')).status, 500);
  const toggle = async (query: string): Promise<string> =>
    (await ask(port, `/debug/pprof/heap/profiling${query}`)).body;
  assert.equal(await toggle(''), 'heap profiling active: false\n');
  assert.equal(await toggle('?activate=true'), 'heap profiling active: true\n');
  assert.equal((await ask(port, '/debug/pprof/heap')).status, 200);
  assert.equal(await toggle('?activate=maybe'), 'invalid activate value; expected true or false\n');
  assert.equal(await toggle('?activate=false'), 'heap profiling active: false\n');
});

test('what is too long is refused before it is looked at, and a body that nobody asked for changes nothing', async () => {
  const server = await start();
  const long = await ask(server.port, `/logging?level=${'x'.repeat(9000)}`, { method: 'POST' });
  assert.equal(long.status, 431);
  assert.equal((await ask(server.port, `/logging?level=${'a:info,'.repeat(500)}`, { method: 'POST' })).status, 400);
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write('POST /logging HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\nConnection: close\r\n\r\n');
  socket.write(Buffer.alloc(1 << 20, 'a'));
  const [said] = (await once(socket, 'data')) as [Buffer];
  assert.match(said.toString(), /200 OK[^]*current log level is access=warn,info/);
  socket.destroy();
});
