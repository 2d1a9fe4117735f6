// Programs that others wrote, through the mesh: databases and load generators between pods, and Istio's ztunnel as the
// proxy of the other node (when ZTUNNEL_BIN, ZTUNNEL_ROOT_CERT and ZTUNNEL_ROOT_KEY name one and the root it signs with).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createMatch } from '@ambit/mesh';
import { type Pod, sandboxSkip, Testbed, type ZtunnelProcess } from '@ambit/testbed';
import { awaitLine, makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { endingOf, Net, readBytes, tryEcho } from './e2e-net.ts';
import { missing } from './peer-programs.ts';

describe('programs of others through the mesh', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let web: Pod;
  let cart: Pod;
  let ztunnels: readonly ZtunnelProcess[];

  before(async () => {
    mesh = await makeMesh();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    ztunnels = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
  });

  after(async () => mesh[Symbol.asyncDispose]());

  /** Starts a server in `cart` and calls it from `web` until it answers. */
  async function serveWith(
    command: readonly [string, ...string[]],
    probe: readonly [string, ...string[]],
  ): Promise<void> {
    const [program, ...args] = command;
    const server = cart.exec(program, args, { stdio: 'ignore', env: process.env });
    const [tool, ...toolArgs] = probe;
    for (let tries = 0; (await web.run(tool, toolArgs)).code !== 0; tries++) {
      assert.ok(tries < 100 && server.exitCode === null, `${program} does not answer`);
      await delay(50);
    }
  }

  async function must(program: string, args: readonly string[], timeoutMs = 30_000): Promise<string> {
    const { code, stdout, stderr } = await web.run(program, args, { timeoutMs, env: process.env });
    assert.equal(code, 0, `${program}: ${stderr || stdout}`);
    return stdout;
  }

  test('Redis keeps what it is given and serves pipelines', {
    skip: missing('redis-server', 'redis-cli'),
  }, async () => {
    const dir = join(mesh.bed.workDir, 'redis');
    await mkdir(dir);
    const server = ['redis-server', '--port', '6379', '--protected-mode', 'no', '--save', '', '--dir', dir] as const;
    const cli = ['-h', cart.ip4, '-p', '6379'] as const;
    await serveWith([...server], ['redis-cli', ...cli, 'ping']);
    assert.match(await must('redis-cli', [...cli, 'set', 'a', 'x'.repeat(70_000)]), /OK/);
    assert.equal((await must('redis-cli', [...cli, 'get', 'a'])).trim().length, 70_000);
    if (missing('redis-benchmark') === false) {
      const load = ['-n', '5000', '-c', '20', '-P', '8', '-t', 'set,get', '-q'];
      assert.match(await must('redis-benchmark', [...cli, ...load]), /GET: [\d.]+ requests per second/);
    }
  });

  test('PostgreSQL answers queries and a small benchmark', {
    skip: missing('initdb', 'postgres', 'pgbench') || (process.getuid?.() === 0 && missing('runuser')),
  }, async () => {
    const dir = join(mesh.bed.workDir, 'pg');
    await mkdir(dir, { mode: 0o777 });
    const isRoot = process.getuid?.() === 0;
    const asUser = (...command: [string, ...string[]]): readonly [string, ...string[]] =>
      isRoot ? ['runuser', '-u', 'postgres', '--', ...command] : command;
    if (isRoot) {
      await cart.run('chown', ['postgres', dir]);
      await cart.run('chmod', ['a+x', mesh.bed.workDir]);
    }
    const [initdb, ...initArgs] = asUser('initdb', '-D', join(dir, 'data'), '-U', 'postgres', '-A', 'trust', '-N');
    const made = await cart.run(initdb, initArgs, { timeoutMs: 30_000, env: process.env });
    assert.equal(made.code, 0, made.stderr);
    await writeFile(join(dir, 'data/pg_hba.conf'), 'host all all all trust\n');
    const server = asUser(
      'postgres',
      '-D',
      join(dir, 'data'),
      '-k',
      dir,
      '-c',
      'listen_addresses=*',
      '-c',
      'fsync=off',
    );
    const to = ['-h', cart.ip4, '-U', 'postgres'];
    await serveWith(server, ['psql', ...to, '-c', 'select 1', 'postgres']);
    assert.match(
      await must('psql', [...to, '-Atc', 'select sum(i) from generate_series(1,1000) i', 'postgres']),
      /^500500$/m,
    );
    await must('pgbench', [...to, '-i', '-q', 'postgres']);
    assert.match(await must('pgbench', [...to, '-c', '4', '-t', '50', 'postgres']), /failed transactions: 0/);
  });

  test('iperf3 fills the mesh in both directions', { skip: missing('iperf3') }, async () => {
    cart.exec('iperf3', ['-s', '-p', '5201'], { stdio: 'ignore', env: process.env });
    for (const direction of [[], ['-R']]) {
      const args = ['-c', cart.ip4, '-p', '5201', '-n', '64M', '-P', '2', '-J', ...direction];
      let result = await web.run('iperf3', args, { timeoutMs: 30_000 });
      for (let tries = 0; result.code !== 0 && tries < 20; tries++) {
        await delay(50);
        result = await web.run('iperf3', args, { timeoutMs: 30_000 });
      }
      assert.equal(result.code, 0, result.stdout);
      const { end } = JSON.parse(result.stdout) as { end: { sum_sent: { bytes: number } } };
      assert.ok(end.sum_sent.bytes >= 64 << 20);
    }
  });

  test('nginx answers every request of wrk', { skip: missing('nginx', 'wrk') }, async () => {
    const dir = join(mesh.bed.workDir, 'nginx');
    await mkdir(dir);
    const http = `access_log off; server { listen 8080; location / { return 200 "hello"; } }`;
    const main = `pid ${dir}/pid; error_log ${dir}/error; daemon off; events {}`;
    await writeFile(join(dir, 'conf'), `${main} http { ${http} }\n`);
    const url = `http://${cart.ip4}:8080/`;
    await serveWith(['nginx', '-c', join(dir, 'conf')], ['curl', '-sf', url]);
    const said = await must('wrk', ['-t', '1', '-c', '32', '-d', '2s', url]);
    assert.match(said, /requests in/);
    assert.doesNotMatch(said, /Socket errors|Non-2xx/);
  });

  test('both proxies live', () => {
    for (const ztunnel of ztunnels) assert.equal(ztunnel.isRunning, true);
  });
});

const binary = process.env['ZTUNNEL_BIN'] ?? '';
const certPath = process.env['ZTUNNEL_ROOT_CERT'] ?? '';
const keyPath = process.env['ZTUNNEL_ROOT_KEY'] ?? '';
const noPeer =
  [binary, certPath, keyPath].includes('') && 'no peer: set ZTUNNEL_BIN, ZTUNNEL_ROOT_CERT and ZTUNNEL_ROOT_KEY';

describe("Istio's ztunnel as the other node's proxy", { skip: sandboxSkip() || noPeer }, () => {
  for (const [name, client, server] of [
    ['ours calls theirs', 'ours', 'theirs'],
    ['theirs calls ours', 'theirs', 'ours'],
  ] as const) {
    test(name, async () => {
      await using bed = await Testbed.create({ nodes: ['n1', 'n2'], devCa: { certPath, keyPath } });
      await using peers = new Net();
      const web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
      const cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
      await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: 7000 } });
      await bed.setPolicies([
        { name: 'no-7001', namespace: 'shop', action: 'Deny', rules: [[[createMatch({ destinationPorts: [7001] })]]] },
      ]);
      const start = async (node: string, kind: 'ours' | 'theirs') =>
        kind === 'ours'
          ? startOurs(bed, node)
          : bed.startZtunnel(node, {
              command: [binary],
              env: { FAKE_CA: 'true', RUST_LOG: 'info', LOG_FORMAT: 'json' },
            });
      const sources = new Set<string>();
      for (const port of [7000, 7001]) {
        peers.serve(cart, port, socket => {
          sources.add(String(socket.remoteAddress).replace('::ffff:', ''));
          socket.pipe(socket);
        });
      }
      // Says when it is spoken to no more, and how much there was.
      peers.serve(cart, 7002, socket => {
        let bytes = 0;
        socket.on('data', chunk => (bytes += chunk.length));
        socket.once('end', () => socket.end(`got ${bytes}`));
      });
      const [onN1, onN2] = await Promise.all([start('n1', client), start('n2', server)]);
      for (const ip of [cart.ip4, cart.ip6]) assert.equal(await tryEcho(peers, web, ip, 7000), 'ok');
      for (const vip of bed.services[0]?.vips ?? []) assert.equal(await tryEcho(peers, web, vip.ip, 80), 'ok');
      assert.deepEqual([...sources].toSorted(), [web.ip4, web.ip6].toSorted());
      for (let i = 0; i < 20; i++) {
        const results = await Promise.all(Array.from({ length: 10 }, async () => tryEcho(peers, web, cart.ip4, 7000)));
        assert.deepEqual(new Set(results), new Set(['ok']));
      }

      assert.notEqual(await tryEcho(peers, web, cart.ip4, 7001), 'ok');
      const denied = `${cart.ip4}:7001`;
      const atClient = await awaitLine(onN1, l => l['dst.hbone_addr'] === denied);
      assert.equal(atClient.error, 'http status: 401 Unauthorized');
      const atServer = await awaitLine(onN2, l => l['dst.hbone_addr'] === denied);
      assert.match(String(atServer.error), /policy rejection: explicitly denied by: shop\/no-7001/);
      assert.equal(atServer['src.identity'], 'spiffe://cluster.local/ns/shop/sa/web');

      const socket = await peers.connect(web, cart.ip4, 7002);
      const part = Buffer.alloc(1 << 20, 7);
      for (let i = 0; i < 50; i++) if (!socket.write(part)) await once(socket, 'drain');
      socket.end();
      const expected = `got ${50 << 20}`;
      assert.equal((await readBytes(socket, expected.length)).toString(), expected);
      assert.equal(await endingOf(socket), 'end');
    });
  }
});
