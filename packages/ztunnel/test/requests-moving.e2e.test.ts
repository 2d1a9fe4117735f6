// Requests of connections whose tunnels move between data workers all the time: each is counted once, at both ends.
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { EdgeReport } from '@ambit/insight';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { makeMesh, type Mesh, startOurs, ZTUNNEL } from './e2e-mesh.ts';
import { Net } from './e2e-net.ts';

const WEB = 8080;
const H2 = 8081;
const FORCE_MOVES = fileURLToPath(new URL('./force-moves.ts', import.meta.url));
/** Moves are two seconds apart, and every second one finds the worker without tunnels. */
const MOST_ROUNDS = 60;

describe('requests read while their tunnels move', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let web: Pod;
  let cart: Pod;
  let ztunnels: ZtunnelProcess[];
  let served = 0;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    const answer = (_request: unknown, response: { end(text: string): unknown }): void => {
      served++;
      response.end('hello\n');
    };
    peers.listen(cart, WEB, http.createServer(answer));
    peers.listen(cart, H2, http2.createServer(answer) as unknown as http.Server);
    const [node = process.execPath, ...program] = ZTUNNEL;
    const command = [node, '--import', FORCE_MOVES, ...program];
    const options = { command, env: { ZTUNNEL_WORKER_THREADS: '2' } };
    ztunnels = await Promise.all([startOurs(bed, 'n1', options), startOurs(bed, 'n2', options)]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  async function ask(ztunnel: ZtunnelProcess, url: string): Promise<string> {
    const { stdout } = await mesh.bed.node(ztunnel.node.name).processes.run('curl', ['-sS', `localhost:${url}`]);
    return stdout;
  }

  /** Requests that each end has counted. */
  async function counted(port: number): Promise<Record<string, number>> {
    const sums = { source: 0, destination: 0 };
    for (const ztunnel of ztunnels) {
      const { edges } = JSON.parse(await ask(ztunnel, '15000/edges')) as EdgeReport;
      for (const edge of edges) if (edge.port === port) sums[edge.reporter] += edge.totals.requests;
    }
    return sums;
  }

  /** Of both ztunnels, of all rows. */
  async function metric(name: string, label = ''): Promise<number> {
    const texts = await Promise.all(ztunnels.map(async ztunnel => ask(ztunnel, '15020/metrics')));
    return texts
      .flatMap(text => text.split('\n'))
      .filter(line => new RegExp(`^${name}[{ ]`).test(line) && line.includes(label))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  /** Runs `load` until tunnels of both ends have moved. */
  async function whileMoving(load: () => Promise<void>): Promise<void> {
    const earlier = await metric('ambit_tunnels_moved_total');
    let moved = 0;
    for (let round = 0; round < MOST_ROUNDS && moved < 4; round++) {
      await load();
      moved = (await metric('ambit_tunnels_moved_total')) - earlier;
    }
    assert.ok(moved >= 4, `${moved} tunnels moved`);
    assert.equal(await metric('ambit_l7_given_up_total', 'reason="moved"'), 0);
  }

  test('64 connections of wrk, kept alive for seconds', async () => {
    served = 0;
    await whileMoving(async () => {
      const { stdout } = await web.run('wrk', ['-t1', '-c64', '-d5s', `http://${cart.ip4}:${WEB}/`]);
      assert.match(stdout, /[1-9]\d* requests in/);
    });
    assert.deepEqual(await counted(WEB), { source: served, destination: served });
  });

  test('HTTP/2 with many streams, as h2load counts them', async () => {
    served = 0;
    let asked = 0;
    await whileMoving(async () => {
      const url = `http://${cart.ip4}:${H2}/`;
      const { stdout } = await web.run('h2load', ['-p', 'h2c', '-n', '10000', '-c', '8', '-m', '10', url]);
      assert.match(stdout, /10000 succeeded/);
      asked += 10_000;
    });
    assert.equal(served, asked);
    assert.deepEqual(await counted(H2), { source: asked, destination: asked });
  });
});
