// Traffic through two node proxies: who reaches whom, by which address, with which identity, and that no byte is lost.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createMatch } from '@ambit/mesh';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { awaitLine, type LogLine, makeMesh, type Mesh, startOurs, usePolicies } from './e2e-mesh.ts';
import { echo, endingOf, Net, readBytes, tryEcho } from './e2e-net.ts';

const ECHO = 7000;
const WEB = 8080;
const BULK_BYTES = 100 << 20;
const CLUSTER = 'cluster.local';

describe('traffic through the mesh', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let near: Pod;
  let cart: Pod;
  let cart2: Pod;
  let outside: Pod;
  const accepted = new Map<Pod, Socket[]>();

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    near = await bed.addPod({ node: 'n1', name: 'near', namespace: 'shop', serviceAccount: 'near' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    cart2 = await bed.addPod({ node: 'n1', name: 'cart-2', namespace: 'shop', serviceAccount: 'cart', app: 'cart' });
    outside = await bed.addPod({ node: 'n2', name: 'outside', namespace: 'plain', enrolled: false });
    await bed.addService({ name: 'one', namespace: 'shop', ports: { 80: ECHO }, pods: [cart] });
    await bed.addService({ name: 'both', namespace: 'shop', ports: { 80: ECHO }, pods: [cart, cart2] });
    for (const pod of [web, near, cart, cart2, outside]) {
      const sockets: Socket[] = [];
      accepted.set(pod, sockets);
      peers.serve(pod, ECHO, socket => {
        sockets.push(socket);
        socket.pipe(socket);
      });
    }
    [onN1, onN2] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  /** Both ends' access-log lines of the connection that has just ended. */
  async function access(ztunnel: ZtunnelProcess, direction: string, authority: string): Promise<LogLine> {
    return awaitLine(
      ztunnel,
      l => l.scope === 'access' && l.direction === direction && l['dst.hbone_addr'] === authority,
    );
  }

  test('a pod on another node is reached by both addresses and sees the real client', async () => {
    for (const [ip, own] of [
      [cart.ip4, web.ip4],
      [cart.ip6, web.ip6],
    ] as const) {
      const socket = await peers.connect(web, ip, ECHO);
      await echo(socket, 'hello');
      assert.equal(lastOf(accepted, cart).remoteAddress?.replace('::ffff:', ''), own);
      socket.end();
      assert.equal(await endingOf(socket), 'end');
    }
  });

  test('a pod on the same node is reached by both addresses and sees the real client', async () => {
    for (const [ip, own] of [
      [near.ip4, web.ip4],
      [near.ip6, web.ip6],
    ] as const) {
      const socket = await peers.connect(web, ip, ECHO);
      await echo(socket, 'hello');
      assert.equal(lastOf(accepted, near).remoteAddress?.replace('::ffff:', ''), own);
      socket.end();
      assert.equal(await endingOf(socket), 'end');
    }
  });

  test('a pod reaches itself by its own address and its own service', async () => {
    assert.equal(await tryEcho(peers, cart, cart.ip4, ECHO), 'ok');
    assert.equal(await tryEcho(peers, cart, vipsOf(mesh, 'one')[0], 80), 'ok');
  });

  test('a service is reached by both virtual addresses', async () => {
    for (const vip of vipsOf(mesh, 'one')) {
      const socket = await peers.connect(web, vip, 80);
      await echo(socket, 'hello');
      const seen = lastOf(accepted, cart);
      assert.equal(seen.localPort, ECHO);
      assert.ok([web.ip4, web.ip6].includes(seen.remoteAddress?.replace('::ffff:', '') ?? ''), seen.remoteAddress);
      socket.destroy();
    }
  });

  test('both ends log the connection with the identities that certificates proved', async () => {
    const socket = await peers.connect(web, cart.ip4, ECHO);
    await echo(socket, 'eleven byte');
    socket.end();
    assert.equal(await endingOf(socket), 'end');
    const authority = `${cart.ip4}:${ECHO}`;
    const eleven = (l: LogLine) => l['dst.hbone_addr'] === authority && l['bytes_sent'] === 11;
    const out = await awaitLine(onN1, l => eleven(l) && l.direction === 'outbound');
    const inn = await awaitLine(onN2, l => eleven(l) && l.direction === 'inbound');
    for (const line of [out, inn]) {
      assert.equal(line.message, 'connection complete');
      assert.equal(line.level, 'info');
      assert.equal(line['src.identity'], `spiffe://${CLUSTER}/ns/shop/sa/web`);
      assert.equal(line['dst.identity'], `spiffe://${CLUSTER}/ns/shop/sa/cart`);
      assert.equal(line['dst.addr'], `${cart.ip4}:15008`);
      assert.equal(line['src.namespace'], 'shop');
      assert.equal(line['src.workload'], 'web');
      assert.equal(line['dst.workload'], 'cart');
      assert.equal(line['bytes_recv'], 11);
      assert.equal(line.error, undefined);
    }
    // At the client's side the address is the application's, which the server's side cannot know the port of.
    assert.match(String(out['src.addr']), new RegExp(`^${web.ip4.replaceAll('.', '\\.')}:\\d+$`));
  });

  test('a port that nobody serves closes the connection, and both logs say why', async () => {
    assert.match(await tryEcho(peers, web, cart.ip4, 7999), /ECONNRESET|ended before/);
    const authority = `${cart.ip4}:7999`;
    assert.equal((await access(onN1, 'outbound', authority)).error, 'http status: 503 Service Unavailable');
    assert.equal(
      (await access(onN2, 'inbound', authority)).error,
      'connection failed: Connection refused (os error 111)',
    );
  });

  test('a peer outside the mesh reaches an enrolled pod plainly, as itself, unless a policy asks for an identity', async () => {
    for (const [ip, own] of [
      [cart.ip4, outside.ip4],
      [cart.ip6, outside.ip6],
    ] as const) {
      const socket = await peers.connect(outside, ip, ECHO);
      await echo(socket, 'plain');
      assert.equal(lastOf(accepted, cart).remoteAddress?.replace('::ffff:', ''), own);
      socket.destroy();
    }
    const principals = [{ kind: 'exact' as const, value: `${CLUSTER}/ns/shop/sa/web` }];
    await usePolicies(
      mesh.bed,
      [onN1, onN2],
      [{ name: 'web-only', namespace: 'shop', app: 'cart', rules: [[[createMatch({ principals })]]] }],
    );
    const connected = accepted.get(cart)?.length;
    assert.notEqual(await tryEcho(peers, outside, cart.ip4, ECHO), 'ok');
    assert.equal(accepted.get(cart)?.length, connected, 'the application was not even connected to');
    assert.equal(await tryEcho(peers, web, cart.ip4, ECHO), 'ok');
    const denied = await awaitLine(
      onN2,
      l => l.direction === 'inbound' && String(l['src.addr']).startsWith(`${outside.ip4}:`) && l.error !== undefined,
    );
    assert.match(String(denied.error), /^connection closed due to policy rejection: allow policies exist/);
    await usePolicies(mesh.bed, [onN1, onN2], []);
  });

  test('what lies outside the mesh is reached plainly, as the pod itself', async () => {
    for (const [ip, own] of [
      [outside.ip4, web.ip4],
      [outside.ip6, web.ip6],
    ] as const) {
      const socket = await peers.connect(web, ip, ECHO);
      await echo(socket, 'out');
      assert.equal(lastOf(accepted, outside).remoteAddress?.replace('::ffff:', ''), own);
      socket.end();
      assert.equal(await endingOf(socket), 'end');
    }
  });

  test('either side may end first and still receives what the other says', async () => {
    const client = Promise.withResolvers<void>();
    const server = peers.serve(cart, 7001, socket => {
      let got = '';
      socket.on('data', chunk => (got += String(chunk)));
      socket.once('end', () => socket.end(`got ${got}`));
    });
    const first = await peers.connect(web, cart.ip4, 7001);
    first.end('all of it');
    assert.equal((await readBytes(first, 13)).toString(), 'got all of it');
    assert.equal(await endingOf(first), 'end');
    server.close();

    let heard = '';
    peers.serve(cart, 7002, socket => {
      socket.end('bye');
      socket.on('data', chunk => (heard += String(chunk)));
      socket.once('end', () => client.resolve());
    });
    const second = await peers.connect(web, cart.ip4, 7002);
    assert.equal((await readBytes(second, 3)).toString(), 'bye');
    assert.equal(await endingOf(second), 'end');
    second.end('last words');
    await client.promise;
    assert.equal(heard, 'last words');
  });

  test('a reset of the application arrives as an abnormal end', async () => {
    peers.serve(cart, 7003, socket => socket.once('data', () => socket.resetAndDestroy()));
    const socket = await peers.connect(web, cart.ip4, 7003);
    socket.write('x');
    assert.equal(await endingOf(socket), 'ECONNRESET');
  });

  test('100 MB arrive unchanged in both directions', async () => {
    const path = join(mesh.bed.workDir, 'bulk');
    const bytes = randomBytes(BULK_BYTES);
    await writeFile(path, bytes);
    const expected = createHash('sha256').update(bytes).digest('hex');
    const received = Promise.withResolvers<string>();
    peers.listen(
      cart,
      WEB,
      http.createServer((request, response) => {
        if (request.method === 'GET') return void createReadStream(path).pipe(response);
        const hash = createHash('sha256');
        request.on('data', (chunk: Buffer) => hash.update(chunk));
        request.on('end', () => {
          received.resolve(hash.digest('hex'));
          response.end('thanks');
        });
      }),
    );
    const url = `http://${cart.ip4}:${WEB}/`;
    const down = await web.run('sh', ['-c', `curl -sSf ${url} | sha256sum`], { timeoutMs: 30_000 });
    assert.equal(down.stdout.split(' ')[0], expected, down.stderr);
    const up = await web.run('curl', ['-sSf', '-H', 'Expect:', '-T', path, url], { timeoutMs: 30_000 });
    assert.equal(up.stdout, 'thanks', up.stderr);
    assert.equal(await received.promise, expected);
  });

  test('connections to a service are spread over its endpoints, one backend each', async () => {
    const [vip] = vipsOf(mesh, 'both');
    const count = () => [cart, cart2].map(pod => accepted.get(pod)?.length ?? 0);
    const atStart = count();
    assert.equal(await tryEcho(peers, web, vip, 80), 'ok');
    assert.equal(sum(count()) - sum(atStart), 1);
    for (let i = 0; i < 50; i++) assert.equal(await tryEcho(peers, web, vip, 80), 'ok');
    const atEnd = count();
    assert.equal(sum(atEnd) - sum(atStart), 51);
    for (const [i, n] of atEnd.entries()) assert.ok(n > (atStart[i] ?? 0), `backend ${i} got nothing`);
  });
});

function lastOf(accepted: ReadonlyMap<Pod, readonly Socket[]>, pod: Pod): Socket {
  const socket = accepted.get(pod)?.at(-1);
  if (socket === undefined) throw new Error(`${pod.name} was not connected to`);
  return socket;
}

function vipsOf(mesh: Mesh, name: string): readonly [string, ...string[]] {
  const [first, ...rest] = mesh.bed.services.find(service => service.name === name)?.vips ?? [];
  if (first === undefined) throw new Error(`no service ${name}`);
  return [first.ip, ...rest.map(vip => vip.ip)];
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
