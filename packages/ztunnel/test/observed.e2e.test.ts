// What an operator and a collector get to see of real traffic: live connections in config_dump, requests in the access log
// once they are asked for, profiles of working threads, and spans of both ends in the application's own trace.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Pod, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { awaitLine, makeMesh, type Mesh, startOurs } from './e2e-mesh.ts';
import { Net, readBytes } from './e2e-net.ts';
import { Collector, type Item } from './otlp-collector.ts';

/** The bed's router, where this test runs. */
const FABRIC = '10.61.0.1';
const HTTP = 8080;
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const REQUEST = `GET /items?secret=1 HTTP/1.1\r\nhost: cart\r\ntraceparent: 00-${TRACE}-${PARENT}-01\r\n\r\n`;
const RESPONSE = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

interface Connections {
  readonly inbound: readonly Record<string, unknown>[];
  readonly outbound: readonly Record<string, unknown>[];
}

describe('observed traffic', { skip: sandboxSkip() }, () => {
  let mesh: Mesh;
  let peers: Net;
  let collector: Collector;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;

  before(async () => {
    mesh = await makeMesh();
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    peers.serve(cart, HTTP, socket => {
      socket.on('data', () => socket.write(RESPONSE)).on('end', () => socket.end());
    });
    collector = await Collector.start(FABRIC);
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.httpUrl, OTEL_METRIC_EXPORT_INTERVAL: '2000' };
    [onN1, onN2] = await Promise.all([startOurs(bed, 'n1', { env }), startOurs(bed, 'n2', { env })]);
  });

  after(async () => {
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
    collector.close();
  });

  async function ask(ztunnel: ZtunnelProcess, ...args: readonly string[]): Promise<string> {
    const { stdout } = await mesh.bed.node(ztunnel.node.name).processes.run('curl', ['-sS', ...args]);
    return stdout;
  }

  async function connectionsOf(ztunnel: ZtunnelProcess): Promise<Connections> {
    const dump = JSON.parse(await ask(ztunnel, 'localhost:15000/config_dump')) as {
      workloadState: Record<string, { connections: Connections; info: { name: string }; state: string }>;
    };
    const [pod] = Object.values(dump.workloadState);
    assert.equal(pod?.state, 'Up');
    return pod.connections;
  }

  test('a request is seen by the collector at both ends, in the trace of its application', async () => {
    const socket = await peers.connect(web, cart.ip4, HTTP);
    socket.write(REQUEST);
    assert.equal((await readBytes(socket, RESPONSE.length)).toString(), RESPONSE);
    await collector.until(() => collector.items.traces.length >= 2);
    const hex = (value: unknown): string => Buffer.from(String(value), 'base64').toString('hex');
    const summary = ({ name, kind, traceId, parentSpanId, attributes }: Item): unknown => {
      const all = attributes as Record<string, unknown>;
      return [name, kind, hex(traceId), hex(parentSpanId), all['url.path'], all['http.response.status_code']];
    };
    const spans = collector.items.traces.toSorted((a, b) => Number(a.kind) - Number(b.kind));
    assert.deepEqual(spans.map(summary), [
      ['GET', 2, TRACE, PARENT, '/items', '200'],
      ['GET', 3, TRACE, PARENT, '/items', '200'],
    ]);
    socket.end();
    await collector.until(() => collector.items.logs.some(({ body }) => JSON.stringify(body).includes('complete')));
    await collector.until(() => collector.items.metrics.some(({ name }) => name === 'istio_tcp_connections_opened'));
  });

  test('config_dump shows the connection while it lives, as each end sees it', async () => {
    const socket = await peers.connect(web, cart.ip4, HTTP);
    socket.write(REQUEST);
    await readBytes(socket, RESPONSE.length);
    const [out] = (await connectionsOf(onN1)).outbound;
    assert.deepEqual(
      [out?.actualDst, out?.originalDst, out?.protocol],
      [`${cart.ip4}:15008`, `${cart.ip4}:${HTTP}`, 'HBONE'],
    );
    const { inbound, outbound } = await connectionsOf(onN2);
    assert.deepEqual([inbound[0]?.actualDst, inbound[0]?.protocol, outbound], [`${cart.ip4}:${HTTP}`, 'HBONE', []]);
    assert.ok(String(inbound[0]?.src).startsWith(`${web.ip4}:`));
    socket.destroy();
  });

  test('requests are logged from the moment they are asked for, without their query', async () => {
    const said = await ask(onN2, '-X', 'POST', 'localhost:15000/logging?level=access.l7:info');
    assert.match(said, /^current log level is access\.l7=info,/);
    const socket = await peers.connect(web, cart.ip4, HTTP);
    socket.write(REQUEST);
    await readBytes(socket, RESPONSE.length);
    const line = await awaitLine(onN2, ({ scope }) => scope === 'access.l7');
    assert.deepEqual(
      [line.message, line.request_method, line.request_path, line.response_code, line.trace_id, line['src.identity']],
      ['request complete', 'GET', '/items', 200, TRACE, 'spiffe://cluster.local/ns/shop/sa/web'],
    );
    socket.destroy();
  });

  test('workers are profiled while they carry traffic, and carry it', async () => {
    const profiled = ask(onN1, 'localhost:15000/debug/pprof/profile?seconds=2&frequency=500', '-o', '-');
    const socket = await peers.connect(web, cart.ip4, HTTP);
    for (let i = 0; i < 200; i++) {
      socket.write(REQUEST);
      await readBytes(socket, RESPONSE.length);
    }
    socket.destroy();
    assert.match(await profiled, /worker-0/);
  });
});
