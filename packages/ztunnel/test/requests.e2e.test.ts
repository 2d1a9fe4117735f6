// Requests as ztunnel reads them, counted beside the programs that made them: nothing in the pods knows of it.
// Exact at both ends, in metrics and edges; latencies within a bucket of what the client measured itself.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import http2 from 'node:http2';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Pod, SANDBOX_DIR, sandboxSkip } from '@ambit/testbed';
import { makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { Net } from './e2e-net.ts';
import { missing } from './peer-programs.ts';
import { bucketOf, IS_LONG, percentile, RequestCounts } from './request-counts.ts';

const WEB = 8080;
const PIPELINED = 8081;
const H2 = 8082;
const SLOW = 8083;
const SLOW_H2 = 8084;
const COUNT = IS_LONG ? 100_000 : 20_000;
const TIMEOUT_MS = IS_LONG ? 300_000 : 60_000;
const PACED = 2_000;
/** Most answers take so long, and every thirtieth the longer time: far from the bounds of buckets. */
const USUAL_MS = 65;
const LONG_MS = 700;
const COUNTED = fileURLToPath(new URL('./counted-requests.lua', import.meta.url));

interface Answer {
  end(text: string): unknown;
}

describe('requests read on the way', { skip: sandboxSkip() || missing('wrk', 'h2load') }, () => {
  let mesh: Mesh;
  let peers: Net;
  let web: Pod;
  let cart: Pod;
  let counts: RequestCounts;
  let directory: string;
  /** By port. */
  const served = new Map<number, number>();

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    directory = await mkdtemp(join(SANDBOX_DIR, 'requests-'));
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    const serves =
      (port: number, isPaced: boolean) =>
      (_request: unknown, response: Answer): void => {
        const count = servedAt(port) + 1;
        served.set(port, count);
        if (isPaced) setTimeout(() => response.end('hello\n'), count % 30 === 0 ? LONG_MS : USUAL_MS);
        else response.end('hello\n');
      };
    for (const port of [WEB, PIPELINED, SLOW]) {
      const server = http.createServer((request, response) => {
        if (request.url?.startsWith('/fail') === true) response.statusCode = 503;
        serves(port, port === SLOW)(request, response);
      });
      peers.listen(cart, port, server);
    }
    for (const port of [H2, SLOW_H2]) {
      peers.listen(cart, port, http2.createServer(serves(port, port === SLOW_H2)) as unknown as http.Server);
    }
    const [source, destination] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    counts = new RequestCounts(bed, { source, destination });
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  function servedAt(port: number): number {
    return served.get(port) ?? 0;
  }

  interface WrkLoad {
    readonly port: number;
    readonly requests: number;
    readonly connections: number;
    readonly batch: number;
  }

  /** Exactly so many requests (in whole batches); what wrk says at its end. */
  async function wrk({ port, requests, connections, batch }: WrkLoad): Promise<string> {
    const args = ['-t1', `-c${connections}`, '-d290s', '--timeout', '60', '--latency', '-s', COUNTED];
    const url = `http://${cart.ip4}:${port}/`;
    const words = ['--', String(requests), String(batch)];
    const { stdout, stderr } = await web.run('wrk', [...args, url, ...words], { timeoutMs: TIMEOUT_MS });
    assert.match(stdout, /requests in/, stderr);
    return stdout;
  }

  async function h2load(port: number, requests: number, log: string): Promise<void> {
    const args = ['-p', 'h2c', '-n', String(requests), '-c', '8', '-m', '10', `--log-file=${log}`];
    const { stdout } = await web.run('h2load', [...args, `http://${cart.ip4}:${port}/`], { timeoutMs: TIMEOUT_MS });
    assert.match(stdout, new RegExp(`${requests} succeeded`));
  }

  /** All of a port's requests: what the client says, the server, both proxies' metrics and edges. */
  async function agree(port: number, labels: Readonly<Record<string, string>>, said: number): Promise<void> {
    assert.equal(servedAt(port), said);
    const where = { destination_workload: 'cart', ...labels };
    await counts.agree('edges', async () => counts.edges(port), said);
    await counts.agree('istio_requests_total', async () => counts.metric('istio_requests_total', where), allOf(labels));
  }

  /** Metrics tell no ports: so many requests were made with a protocol. */
  function allOf({ request_protocol: protocol }: Readonly<Record<string, string>>): number {
    assert.equal(protocol, 'http');
    return [...served.values()].reduce((sum, count) => sum + count, 0);
  }

  function requestsIn(stdout: string): number {
    return Number(/(\d+) requests in/.exec(stdout)?.[1]);
  }

  test('wrk, 64 connections kept alive: every request is counted at both ends', { timeout: TIMEOUT_MS }, async t => {
    const stdout = await wrk({ port: WEB, requests: COUNT, connections: 64, batch: 1 });
    assert.ok(requestsIn(stdout) >= COUNT, stdout);
    await agree(WEB, { request_protocol: 'http' }, requestsIn(stdout));
    t.diagnostic(`${requestsIn(stdout)} requests of wrk, all counted`);
  });

  test('wrk, eight requests in each write: every one is counted', { timeout: TIMEOUT_MS }, async t => {
    const stdout = await wrk({ port: PIPELINED, requests: COUNT, connections: 16, batch: 8 });
    assert.ok(requestsIn(stdout) >= COUNT, stdout);
    await agree(PIPELINED, { request_protocol: 'http' }, requestsIn(stdout));
    t.diagnostic(`${requestsIn(stdout)} pipelined requests of wrk, all counted`);
  });

  test('h2load, ten streams at a time: every request is counted', { timeout: TIMEOUT_MS }, async t => {
    await h2load(H2, COUNT, '/dev/null');
    await agree(H2, { request_protocol: 'http' }, COUNT);
    t.diagnostic(`${COUNT} requests of h2load, all counted`);
  });

  test('an answer that says the server failed has its code', async () => {
    await web.run('curl', ['-sS', `http://${cart.ip4}:${WEB}/fail`]);
    const failed = { response_code: '503', request_protocol: 'http' };
    await counts.agree('failures', async () => counts.metric('istio_requests_total', failed), 1);
  });

  describe('latencies are within a bucket of the client’s own', () => {
    /** Bucket by bucket, before and after: only this load's share of the histograms. */
    async function compare(load: () => Promise<{ readonly p50: number; readonly p99: number }>, port: number) {
      const earlier = await counts.latencies();
      const own = await load();
      await counts.agree('edges', async () => counts.edges(port), servedAt(port));
      const now = await counts.latencies();
      for (const [share, ms] of [[0.5, own.p50] as const, [0.99, own.p99] as const]) {
        for (const end of ['source', 'destination'] as const) {
          const ours = now[end].bucketOf(share, earlier[end]);
          assert.ok(Math.abs(ours - bucketOf(ms)) <= 1, `${end} p${share * 100}: bucket ${ours}, client ${ms} ms`);
        }
      }
    }

    test('of wrk', { timeout: TIMEOUT_MS }, async () => {
      await compare(async () => {
        const stdout = await wrk({ port: SLOW, requests: PACED, connections: 16, batch: 1 });
        const of = (share: string): number => milliseconds(new RegExp(`^ +${share}% +(\\S+)`, 'm').exec(stdout)?.[1]);
        return { p50: of('50'), p99: of('99') };
      }, SLOW);
    });

    test('of h2load', { timeout: TIMEOUT_MS }, async () => {
      await compare(async () => {
        const log = join(directory, 'h2load.tsv');
        await h2load(SLOW_H2, PACED, log);
        const lines = (await readFile(log, 'utf8')).trim().split('\n');
        const took = lines.map(line => Number(line.split('\t')[2]) / 1_000);
        assert.equal(took.length, PACED);
        return { p50: percentile(took, 0.5), p99: percentile(took, 0.99) };
      }, SLOW_H2);
    });
  });
});

function milliseconds(text: string | undefined): number {
  const [, value = 'NaN', unit = ''] = /^([\d.]+)(us|ms|s)$/.exec(text ?? '') ?? [];
  return Number(value) * ({ us: 0.001, ms: 1, s: 1_000 }[unit] ?? Number.NaN);
}
