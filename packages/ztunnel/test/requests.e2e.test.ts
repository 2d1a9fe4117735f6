// Requests as ztunnel reads them, counted beside the programs that made them: nothing in the pods knows of it.
import assert from 'node:assert/strict';
import http from 'node:http';
import http2 from 'node:http2';
import { after, before, describe, test } from 'node:test';
import type { EdgeReport } from '@ambit/insight';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { Net } from './e2e-net.ts';

const WEB = 8080;
const H2 = 8081;
const COUNT = 10_000;

describe('requests read on the way', { skip: sandboxSkip() }, () => {
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
    peers.listen(
      cart,
      WEB,
      http.createServer((request, response) => {
        served++;
        request.resume();
        response.statusCode = request.url?.startsWith('/fail') === true ? 503 : 200;
        response.end('hello\n');
      }),
    );
    const h2 = http2.createServer((_request, response) => {
      served++;
      response.end('hello\n');
    });
    peers.listen(cart, H2, h2 as unknown as http.Server);
    ztunnels = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  async function ask(ztunnel: ZtunnelProcess, url: string): Promise<string> {
    const { stdout } = await mesh.bed.node(ztunnel.node.name).processes.run('curl', ['-sS', `localhost:${url}`]);
    return stdout;
  }

  /** Requests by status as each end's metrics have them. */
  async function counted(port: number): Promise<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const ztunnel of ztunnels) {
      const { edges } = JSON.parse(await ask(ztunnel, '15000/edges')) as EdgeReport;
      for (const edge of edges) {
        if (edge.port !== port) continue;
        const key = (what: string) => `${edge.reporter} ${what}`;
        sums[key('requests')] = (sums[key('requests')] ?? 0) + edge.totals.requests;
        sums[key('errors')] = (sums[key('errors')] ?? 0) + edge.totals.requestErrors;
      }
    }
    return sums;
  }

  async function metric(ztunnel: ZtunnelProcess, name: string, labels: readonly string[]): Promise<number> {
    const text = await ask(ztunnel, '15020/metrics');
    return text
      .split('\n')
      .filter(line => line.startsWith(`${name}{`) && labels.every(label => line.includes(label)))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  test('every request of wrk is counted at both ends, whatever its connections do', async () => {
    served = 0;
    const { stdout } = await web.run('wrk', ['-t1', '-c16', '-d2s', `http://${cart.ip4}:${WEB}/`]);
    const [, said] = /(\d+) requests in/.exec(stdout) ?? [];
    assert.ok(Number(said) > 100, stdout);
    // At the end wrk leaves with requests under way: the server saw them, and so did the proxies.
    const sums = await counted(WEB);
    assert.equal(sums['source requests'], served);
    assert.equal(sums['destination requests'], served);
    for (const [i, reporter] of ['source', 'destination'].entries()) {
      const ztunnel = ztunnels[i];
      assert.ok(ztunnel);
      const labels = [`reporter="${reporter}"`, 'request_protocol="http"', 'destination_workload="cart"'];
      assert.equal(await metric(ztunnel, 'istio_requests_total', labels), served);
    }
  });

  test('requests over HTTP/2 are counted as h2load counts them', async () => {
    served = 0;
    const url = `http://${cart.ip4}:${H2}/`;
    const { stdout } = await web.run('h2load', ['-p', 'h2c', '-n', String(COUNT), '-c', '8', '-m', '10', url]);
    assert.match(stdout, new RegExp(`${COUNT} succeeded`));
    assert.equal(served, COUNT);
    const sums = await counted(H2);
    assert.deepEqual([sums['source requests'], sums['destination requests']], [COUNT, COUNT]);
  });

  test('an answer that says the server failed is an error', async () => {
    const earlier = await counted(WEB);
    await web.run('curl', ['-sS', `http://${cart.ip4}:${WEB}/fail`]);
    const sums = await counted(WEB);
    assert.equal((sums['source errors'] ?? 0) - (earlier['source errors'] ?? 0), 1);
    const [n1] = ztunnels;
    assert.ok(n1);
    assert.equal(await metric(n1, 'istio_requests_total', ['response_code="503"', 'reporter="source"']), 1);
  });
});
