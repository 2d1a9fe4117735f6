// Metrics as an operator sees them: a real Prometheus scrapes both node proxies while pods talk, and the queries of Istio's
// dashboards (ztunnel, mesh, service, workload) have answers, also those about requests and names.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createMatch } from '@ambit/mesh';
import { type Pod, SANDBOX_DIR, sandboxSkip, type ZtunnelProcess } from '@ambit/testbed';
import { makeMesh, type Mesh, startOurs, usePolicies } from './e2e-mesh.ts';
import { Net, tryEcho } from './e2e-net.ts';
import { missing } from './peer-programs.ts';

const ECHO = 7000;
const DENIED = 7001;
const WEB = 8080;
const CART = 'cart.shop.svc.cluster.local';
const PATIENCE_MS = 60_000;
const RANGE = '[30s]';

interface Found {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

describe('metrics', { skip: sandboxSkip() || missing('prometheus', 'promtool', 'dig', 'curl') }, () => {
  let mesh: Mesh;
  let peers: Net;
  let onN1: ZtunnelProcess;
  let onN2: ZtunnelProcess;
  let web: Pod;
  let cart: Pod;
  let directory: string | undefined;
  let prometheus: ChildProcess | undefined;
  let base: string;
  let isTalking = true;
  let talk: Promise<void>;

  before(async () => {
    mesh = await makeMesh('bed', { dnsCapture: true });
    peers = new Net();
    const { bed } = mesh;
    web = await bed.addPod({ node: 'n1', name: 'web', namespace: 'shop', serviceAccount: 'web' });
    cart = await bed.addPod({ node: 'n2', name: 'cart', namespace: 'shop', serviceAccount: 'cart' });
    await bed.addService({ name: 'cart', namespace: 'shop', ports: { 80: ECHO }, pods: [cart] });
    peers.listen(
      cart,
      WEB,
      http.createServer(
        ({ url }, response) => void response.writeHead(url === '/fail' ? 503 : 200).end('this is cart'),
      ),
    );
    for (const port of [ECHO, DENIED]) peers.serve(cart, port, socket => void socket.pipe(socket));
    [onN1, onN2] = await Promise.all([startOurs(bed, 'n1'), startOurs(bed, 'n2')]);
    await usePolicies(
      bed,
      [onN1, onN2],
      [
        {
          namespace: 'shop',
          name: 'no-7001',
          scope: 'Namespace',
          action: 'Deny',
          rules: [[[createMatch({ destinationPorts: [DENIED] })]]],
        },
      ],
    );
    directory = await mkdtemp(join(SANDBOX_DIR, 'prometheus-'));
    const port = await freePort();
    base = `http://127.0.0.1:${port}`;
    prometheus = await startPrometheus(directory, port, [onN1, onN2]);
    talk = talkOn();
  });

  after(async () => {
    isTalking = false;
    await talk;
    if (prometheus?.exitCode === null) {
      prometheus.kill('SIGKILL');
      await once(prometheus, 'exit');
    }
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
    await mesh[Symbol.asyncDispose]();
    await peers[Symbol.asyncDispose]();
  });

  /** Rates need numbers that move. */
  async function talkOn(): Promise<void> {
    while (isTalking) {
      await tryEcho(peers, web, cart.ip4, ECHO);
      await tryEcho(peers, web, cart.ip4, DENIED);
      const urls = ['', 'fail'].map(path => `http://${cart.ip4}:${WEB}/${path}`);
      await web.run('curl', ['-sS', ...urls]);
      await web.run('dig', ['@203.0.113.53', '+short', CART]);
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  }

  async function ask(query: string): Promise<readonly Found[]> {
    const response = await fetch(`${base}/api/v1/query?query=${encodeURIComponent(query)}`);
    const answer = (await response.json()) as { status: string; error?: string; data: { result: readonly Found[] } };
    assert.equal(answer.status, 'success', `${query}: ${answer.error}`);
    return answer.data.result;
  }

  /** The answer, once there is one whose values are all right. */
  async function answerOf(
    query: string,
    isRight: (value: number) => boolean = value => value > 0,
  ): Promise<readonly Found[]> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = await ask(query);
      if (found.length > 0 && found.every(({ value }) => isRight(Number(value[1])))) return found;
      if (performance.now() > deadline) assert.fail(`${query} gave ${JSON.stringify(found)}`);
      await new Promise(resolve => setTimeout(resolve, 250));
    }
  }

  test('Prometheus scrapes both proxies without a complaint', async () => {
    await answerOf('count(up{app="ztunnel"} == 1)', value => value === 2);
    const targets = (await (await fetch(`${base}/api/v1/targets`)).json()) as {
      data: { activeTargets: readonly { lastError: string }[] };
    };
    assert.deepEqual(
      targets.data.activeTargets.map(({ lastError }) => lastError),
      ['', ''],
    );
  });

  test('the ztunnel dashboard has data', async () => {
    const isThere = (): boolean => true;
    const pods = 'pod=~"ztunnel-.*"';
    const moving = [
      `sum by (pod)(rate(istio_tcp_connections_opened_total{${pods}}${RANGE}))`,
      `sum by (pod)(rate(istio_tcp_connections_closed_total{${pods}}${RANGE}))`,
      `sum by (pod)(rate(istio_tcp_sent_bytes_total{${pods}}${RANGE}))`,
      `sum by (pod)(rate(istio_tcp_received_bytes_total{${pods}}${RANGE}))`,
      `sum by (pod)(workload_manager_active_proxy_count{${pods}})`,
      'sum by (pod)(process_open_fds{app="ztunnel"})',
      'sum by (tag)(istio_build{component="ztunnel"})',
    ];
    for (const query of moving) await answerOf(query);
    await answerOf(`sum by (pod)(workload_manager_pending_proxy_count{${pods}})`, isThere);
    await answerOf('sum by (pod)(istio_tcp_sockets_open{app="ztunnel"})', isThere);
  });

  test('the mesh dashboard tells who talks to whom', async () => {
    const where = 'reporter=~"source|waypoint",destination_workload="cart"';
    const by = 'destination_workload,destination_workload_namespace,destination_service';
    for (const name of ['received', 'sent']) {
      const [found] = await answerOf(`sum by (${by})(rate(istio_tcp_${name}_bytes_total{${where}}${RANGE}))`);
      assert.equal(found?.metric['destination_workload_namespace'], 'shop');
    }
    await answerOf('sum by (component,tag)(istio_build)');
  });

  test('the workload dashboard sees mutual TLS at both ends', async () => {
    for (const reporter of ['source', 'destination']) {
      const where = `reporter="${reporter}",connection_security_policy="mutual_tls",destination_workload="cart"`;
      const by = 'source_workload,source_workload_namespace,source_principal,destination_principal';
      const [found] = await answerOf(`sum by (${by})(rate(istio_tcp_received_bytes_total{${where}}${RANGE}))`);
      assert.equal(found?.metric['source_workload'], 'web');
      assert.match(found.metric['source_principal'] ?? '', /^spiffe:\/\/.*\/ns\/shop\/sa\/web$/);
      assert.match(found.metric['destination_principal'] ?? '', /^spiffe:\/\/.*\/ns\/shop\/sa\/cart$/);
    }
  });

  test('a denied connection fails with its flag at the server', async () => {
    await answerOf(
      `sum by (source_workload)(rate(istio_tcp_connections_failed_total{reporter="destination",response_flags="DENY"}${RANGE}))`,
    );
  });

  test('the mesh dashboard’s requests have volume, success and quantiles', async () => {
    const where = 'reporter=~"source|waypoint"';
    await answerOf(`round(sum(rate(istio_requests_total{${where}}${RANGE})),0.01)`);
    const good = `sum(rate(istio_requests_total{${where},response_code!~"5.."}${RANGE}))`;
    const all = `sum(rate(istio_requests_total{${where}}${RANGE}))`;
    await answerOf(`${good} / ${all}`, value => value > 0 && value < 1);
    await answerOf(`sum(rate(istio_requests_total{${where},response_code=~"5.."}${RANGE})) or vector(0)`);
    const by = 'le,destination_workload,destination_workload_namespace';
    for (const quantile of ['0.5', '0.9', '0.99']) {
      const [found] = await answerOf(
        `histogram_quantile(${quantile}, sum by (${by})(rate(istio_request_duration_milliseconds_bucket{${where}}${RANGE})))`,
      );
      assert.equal(found?.metric['destination_workload'], 'cart');
    }
  });

  test('service and workload dashboards see requests with mutual TLS at both ends', async () => {
    for (const reporter of ['source', 'destination']) {
      const where = `connection_security_policy="mutual_tls",reporter="${reporter}",destination_workload=~"cart",destination_workload_namespace=~"shop"`;
      const by = 'source_workload,source_workload_namespace';
      const kinds = `count(sum by (response_code)(rate(istio_requests_total{${where}}${RANGE})) > 0)`;
      await answerOf(kinds, value => value === 2);
      const codes = await answerOf(
        `round(sum by (${by},response_code)(rate(istio_requests_total{${where}}${RANGE})),0.001)`,
      );
      assert.deepEqual(codes.map(({ metric }) => metric['response_code'] ?? '').toSorted(), ['200', '503']);
      assert.ok(codes.every(({ metric }) => metric['source_workload'] === 'web'));
      for (const size of ['request', 'response']) {
        await answerOf(
          `histogram_quantile(0.95, sum by (${by},le)(rate(istio_${size}_bytes_bucket{${where}}${RANGE})))`,
        );
      }
    }
  });

  test('questions for names are counted at the pod that asks', async () => {
    const [found] = await answerOf(
      `sum by (pod,request_query_type,source_canonical_service)(rate(istio_dns_requests_total${RANGE}))`,
    );
    assert.deepEqual(found?.metric, { pod: 'ztunnel-n1', request_query_type: 'a', source_canonical_service: 'web' });
  });

  test('promtool reads what the proxies say', async () => {
    const text = await (await fetch(`http://${onN1.node.ip4}:15020/stats/prometheus`)).text();
    const child = spawn('promtool', ['check', 'metrics'], { stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (said += String(chunk)));
    child.stdin.end(text);
    await once(child, 'close');
    // What it advises about names is about upstream's; ours follow the advice.
    const ofOurs = said.split('\n').filter(line => line.startsWith('ambit_') || /error/i.test(line));
    assert.deepEqual(ofOurs, []);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

async function startPrometheus(
  directory: string,
  port: number,
  ztunnels: readonly ZtunnelProcess[],
): Promise<ChildProcess> {
  const file = join(directory, 'prometheus.yml');
  const targets = ztunnels.map(({ node }) => ({
    targets: [`${node.ip4}:15020`],
    // As the pods' labels make it with Istio's configuration of Prometheus.
    labels: { app: 'ztunnel', pod: `ztunnel-${node.name}`, namespace: 'istio-system' },
  }));
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s' },
    scrape_configs: [{ job_name: 'pods', static_configs: targets }],
  };
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config));
  const args = [`--config.file=${file}`, `--storage.tsdb.path=${join(directory, 'data')}`];
  const child = spawn('prometheus', [...args, `--web.listen-address=127.0.0.1:${port}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', chunk => (said = `${said}${String(chunk)}`.slice(-4000)));
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/-/ready`).catch(() => undefined);
    if (response?.ok === true) return child;
    if (child.exitCode !== null || performance.now() > deadline) assert.fail(`Prometheus is not ready:\n${said}`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}
