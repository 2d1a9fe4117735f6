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
/** Some seconds of them. */
const H2_COUNT = 30_000;
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
  /** Answers to what asks to wait. */
  const held: { readonly sinceMs: number; answer(): void }[] = [];

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    const answer = ({ url }: { url?: string | undefined }, response: { end(text: string): unknown }): void => {
      served++;
      if (url === '/wait') held.push({ sinceMs: performance.now(), answer: () => response.end('at last\n') });
      else response.end('hello\n');
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

  /** Runs `load` until so many tunnels have moved, of both ends together. */
  async function whileMoving(load: () => Promise<void>, least = 4): Promise<void> {
    const earlier = await metric('ambit_tunnels_moved_total');
    let moved = 0;
    for (let round = 0; round < MOST_ROUNDS && moved < least; round++) {
      await load();
      moved = (await metric('ambit_tunnels_moved_total')) - earlier;
    }
    assert.ok(moved >= least, `${moved} tunnels moved`);
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

  test('a request that waits while tunnels move is one, and lasts as long as it does', async () => {
    const durations = 'istio_request_duration_milliseconds_sum';
    const label = 'reporter="source"';
    const [sums, sumMs] = [await counted(WEB), await metric(durations, label)];
    const startMs = performance.now();
    const waiting = web.run('curl', ['-sS', `http://${cart.ip4}:${WEB}/wait`]);
    let asked = 1;
    await whileMoving(async () => {
      await web.run('curl', ['-sS', '--rate', '10/s', `http://${cart.ip4}:${WEB}/?[1-10]`]);
      asked += 10;
      // Both workers of both ends have given away all they had by then.
    }, 8);
    const [{ sinceMs, answer } = assert.fail('it has not arrived')] = held;
    const heldMs = performance.now() - sinceMs;
    answer();
    assert.equal((await waiting).stdout, 'at last\n');
    const { source = 0, destination = 0 } = await counted(WEB);
    assert.deepEqual([source - (sums['source'] ?? 0), destination - (sums['destination'] ?? 0)], [asked, asked]);
    const ms = (await metric(durations, label)) - sumMs;
    // The others came one after the other meanwhile.
    assert.ok(ms > heldMs - 1 && ms < 2 * (performance.now() - startMs), `${ms} ms; held for ${heldMs}`);
  });

  test('HTTP/2 with many streams, as h2load counts them', async () => {
    served = 0;
    let asked = 0;
    await whileMoving(async () => {
      const url = `http://${cart.ip4}:${H2}/`;
      const { stdout } = await web.run('h2load', ['-p', 'h2c', '-n', String(H2_COUNT), '-c', '8', '-m', '10', url]);
      assert.match(stdout, new RegExp(`${H2_COUNT} succeeded`));
      asked += H2_COUNT;
    });
    assert.equal(served, asked);
    assert.deepEqual(await counted(H2), { source: asked, destination: asked });
  });
});
