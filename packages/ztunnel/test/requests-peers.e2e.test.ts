// Calls of grpc-js and commands of pgbench and redis-benchmark through the mesh: both proxies count what client or server did,
// message by message and command by command.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { mustRun, type Pod, SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import { findProgram } from '../../proxy/test/foreign-server.ts';
import { makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { IS_LONG, RequestCounts } from './request-counts.ts';
import { missing } from './peer-programs.ts';

const GRPC = 9090;
const POSTGRES = 5432;
const REDIS = 6379;
const GRPC_PEER = fileURLToPath(new URL('./grpc-peer.ts', import.meta.url));
const POSTGRES_PROGRAM = findProgram('/usr/lib/postgresql/*/bin/postgres');
const PROGRAMS = dirname(POSTGRES_PROGRAM ?? '/');
const COUNT = IS_LONG ? 100_000 : 20_000;
const CALLS = IS_LONG ? 100_000 : 5_000;
const STREAMS = IS_LONG ? 200 : 20;
const CLIENTS = 4;
const MODES = ['simple', 'extended', 'prepared'] as const;
/** Three statements in each. */
const TRANSACTIONS = Math.floor(COUNT / 3 / MODES.length / CLIENTS) * CLIENTS;
const TIMEOUT_MS = IS_LONG ? 300_000 : 90_000;
const SCRIPT = '\\set id random(1, 100)\nBEGIN;\nSELECT :id;\nEND;\n';

describe('requests of other protocols', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let web: Pod;
  let cart: Pod;
  let counts: RequestCounts;
  let directory: string;

  before(async () => {
    mesh = await makeMesh();
    directory = await mkdtemp(join(SANDBOX_DIR, 'peers-'));
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    const [source, destination] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    counts = new RequestCounts(bed, { source, destination });
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  async function commands(protocol: string, command: string, expected: number): Promise<void> {
    const labels = { protocol, command, error: '' };
    await counts.agree(command, async () => counts.metric('ambit_db_requests_total', labels), expected);
  }

  test('grpc-js: calls by status, and every message of streams', { timeout: TIMEOUT_MS }, async t => {
    const server = cart.exec(process.execPath, [GRPC_PEER, 'serve', String(GRPC)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(createInterface({ input: server.stdout as Readable }), 'line');
    const args = [GRPC_PEER, 'call', cart.ip4, String(GRPC), String(CALLS), String(STREAMS)];
    const { stdout, stderr } = await web.run(process.execPath, args, { timeoutMs: TIMEOUT_MS });
    const said = JSON.parse(stdout || '{}') as Record<'ok' | 'notFound' | 'others' | 'sent' | 'received', number>;
    assert.deepEqual([said.ok + said.notFound, said.others], [CALLS + STREAMS, 0], stderr);
    const grpc = { request_protocol: 'grpc' };
    const count = async (name: string, labels = {}) => counts.metric(name, { ...grpc, ...labels });
    await counts.agree('OK', async () => count('istio_requests_total', { grpc_response_status: '0' }), said.ok);
    await counts.agree(
      'NOT_FOUND',
      async () => count('istio_requests_total', { grpc_response_status: '5' }),
      said.notFound,
    );
    await counts.agree('messages there', async () => count('istio_request_messages_total'), said.sent);
    await counts.agree('messages back', async () => count('istio_response_messages_total'), said.received);
    await counts.agree('edges', async () => counts.edges(GRPC), CALLS + STREAMS);
    t.diagnostic(`${CALLS + STREAMS} calls of grpc-js and ${said.sent + said.received} messages, all counted`);
  });

  const noPostgres = POSTGRES_PROGRAM === undefined && 'not installed: postgresql';
  test('pgbench, in each of its modes: every statement is counted', {
    skip: noPostgres,
    timeout: TIMEOUT_MS,
  }, async t => {
    await startPostgresql();
    const script = join(directory, 'script.sql');
    await writeFile(script, SCRIPT);
    for (const mode of MODES) {
      const args = ['-n', '-M', mode, '-c', String(CLIENTS), '-t', String(TRANSACTIONS / CLIENTS), '-f', script];
      const target = ['-h', cart.ip4, '-p', String(POSTGRES), '-U', 'postgres', 'postgres'];
      const { stdout, stderr } = await web.run(join(PROGRAMS, 'pgbench'), [...args, ...target], {
        timeoutMs: TIMEOUT_MS,
      });
      assert.match(stdout, new RegExp(`processed: ${TRANSACTIONS}/${TRANSACTIONS}`), stderr);
    }
    const each = TRANSACTIONS * MODES.length;
    for (const command of ['BEGIN', 'SELECT', 'END']) await commands('postgresql', command, each);
    await counts.agree('edges', async () => counts.edges(POSTGRES), each * 3);
    t.diagnostic(`${each * 3} statements of pgbench, all counted`);
  });

  test('redis-benchmark: every command is counted', {
    skip: missing('redis-server', 'redis-benchmark', 'redis-cli'),
    timeout: TIMEOUT_MS,
  }, async t => {
    const args = [
      '--port',
      String(REDIS),
      '--bind',
      '0.0.0.0',
      '--protected-mode',
      'no',
      '--save',
      '',
      '--dir',
      directory,
    ];
    cart.exec('redis-server', args, { stdio: 'ignore' });
    await answering(async () => (await cart.run('redis-cli', ['-p', String(REDIS), 'PING'])).stdout.includes('PONG'));
    await cart.run('redis-cli', ['-p', String(REDIS), 'CONFIG', 'RESETSTAT']);
    const load = [
      '-h',
      cart.ip4,
      '-p',
      String(REDIS),
      '-n',
      String(COUNT / 2),
      '-c',
      '20',
      '-P',
      '16',
      '-t',
      'get,set',
      '-q',
    ];
    const { code, stderr } = await web.run('redis-benchmark', load, { timeoutMs: TIMEOUT_MS });
    assert.equal(code, 0, stderr);
    const { stdout } = await cart.run('redis-cli', ['-p', String(REDIS), 'INFO', 'commandstats']);
    for (const command of ['get', 'set']) {
      const calls = Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stdout)?.[1]);
      assert.ok(calls >= COUNT / 2, stdout);
      await commands('redis', command.toUpperCase(), calls);
      t.diagnostic(`${calls} times ${command} of redis-benchmark, all counted`);
    }
  });

  /** In the pod, as its own user: it does not run as root. */
  async function startPostgresql(): Promise<void> {
    const data = join(directory, 'data');
    await mkdir(data, { mode: 0o700 });
    const ids = await Promise.all(['-u', '-g'].map(async flag => Number(await mustRun('id', [flag, 'postgres']))));
    const [uid = 0, gid = 0] = ids;
    await chown(directory, uid, gid);
    await chown(data, uid, gid);
    const as = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];
    const initial = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync'];
    await mustRun('setpriv', [...as, join(PROGRAMS, 'initdb'), ...initial], {
      timeoutMs: 60_000,
      cwd: directory,
      env: process.env,
    });
    await writeFile(join(data, 'pg_hba.conf'), 'host all all all trust\nlocal all all trust\n');
    const args = ['-D', data, '-h', '0.0.0.0', '-p', String(POSTGRES), '-k', directory, '-c', 'fsync=off'];
    cart.exec('setpriv', [...as, join(PROGRAMS, 'postgres'), ...args], { cwd: directory, stdio: 'ignore' });
    const ask = ['-h', '127.0.0.1', '-p', String(POSTGRES)];
    await answering(async () => (await cart.run(join(PROGRAMS, 'pg_isready'), ask)).code === 0);
  }
});

/** Servers tell of their readiness in as many ways as there are servers: asked until they answer. */
async function answering(ask: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error('the server does not answer');
    await delay(100);
  }
}
