import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { connection, makeWorld, NOTHING } from '../metrics/metrics-testing.ts';
import type { MetricRegistry } from '../metrics/metric-registry.ts';
import { TrafficMetrics } from '../metrics/traffic-metrics.ts';
import type { HttpListener } from './http-listener.ts';
import { serveStats, type StatsLimits } from './stats-server.ts';

const OPENMETRICS = 'application/openmetrics-text';

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

async function ask(server: HttpListener, options: http.RequestOptions = {}): Promise<Answer> {
  const request = http.request({ host: '127.0.0.1', port: server.port, path: '/metrics', agent: false, ...options });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  request.end();
  const [response] = await answered;
  const chunks: Uint8Array[] = [];
  for await (const chunk of response) chunks.push(chunk as Uint8Array);
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
}

async function withServer(
  run: (server: HttpListener, registry: MetricRegistry) => Promise<void>,
  options: {
    readonly limits?: Partial<StatsLimits>;
    readonly refresh?: () => Promise<void>;
    readonly series?: number;
  } = {},
): Promise<void> {
  const { registry } = makeWorld(100_000);
  const traffic = new TrafficMetrics(registry);
  for (let index = 0; index < (options.series ?? 1); index++) {
    const { source } = connection();
    const workload = source.workload === undefined ? undefined : { ...source.workload, workloadName: `web-${index}` };
    traffic.fold(connection({ source: { ...source, workload }, fresh: { ...NOTHING, opened: true } }));
  }
  const refresh = options.refresh ?? (async () => undefined);
  const server = await serveStats({ registry, refresh }, { port: 0, ipv6: false }, options.limits);
  try {
    await run(server, registry);
  } finally {
    await server.close();
  }
}

test('both paths and any method are answered, others are not found', async () => {
  await withServer(async server => {
    for (const path of ['/metrics', '/stats/prometheus', '/metrics?a=b']) {
      assert.equal((await ask(server, { path })).status, 200, path);
    }
    assert.equal((await ask(server, { method: 'POST' })).status, 200);
    const head = await ask(server, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.body.length, 0);
    assert.equal((await ask(server, { path: '/' })).status, 404);
  });
});

test('the body is what the content type says', async () => {
  await withServer(async server => {
    const text = await ask(server);
    assert.equal(text.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    assert.doesNotMatch(text.body.toString(), /# EOF/);
    const open = await ask(server, { headers: { accept: OPENMETRICS } });
    assert.equal(open.headers['content-type'], 'application/openmetrics-text;charset=utf-8;version=1.0.0');
    assert.match(open.body.toString(), /\n# EOF\n$/);
  });
});

test('a compressed answer is the same text, over many pieces', async () => {
  await withServer(
    async server => {
      const plain = await ask(server);
      const packed = await ask(server, { headers: { 'accept-encoding': 'gzip' } });
      assert.equal(packed.headers['content-encoding'], 'gzip');
      assert.ok(plain.body.length > 1 << 20);
      assert.ok(packed.body.length < plain.body.length / 4);
      assert.equal(gunzipSync(packed.body).equals(plain.body), true);
    },
    { series: 1000 },
  );
});

test('everything is brought up to date first, once for all who ask meanwhile', async () => {
  let refreshes = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const refresh = (): Promise<void> => {
    refreshes++;
    return promise;
  };
  await withServer(
    async server => {
      const answers = [ask(server), ask(server)];
      // A third that is answered without them: by then both are waiting.
      while (refreshes === 0) await ask(server, { path: '/' });
      resolve();
      for (const answer of await Promise.all(answers)) assert.equal(answer.status, 200);
      assert.ok(refreshes <= 2);
    },
    { refresh },
  );
});

test('scrapers that never read are cut, and keep nobody else out', async () => {
  await withServer(
    async server => {
      const silent = await Promise.all([startAndStop(server), startAndStop(server)]);
      // Their places are taken and this address has no more, until they are cut.
      assert.equal((await ask(server, { method: 'HEAD' })).status, 503);
      await untilServed(server);
      for (const socket of silent) socket.destroy();
    },
    { series: 20_000, limits: { idleMs: 5000, maxScrapesOfOne: 2 } },
  );
});

test('an answer that takes too long is cut, with those that are queued behind it', async () => {
  await withServer(
    async server => {
      const socket = await startAndStop(server, 3);
      assert.equal((await ask(server, { method: 'HEAD' })).status, 503);
      await untilServed(server);
      socket.destroy();
    },
    { series: 20_000, limits: { deadlineMs: 5000, maxScrapesOfOne: 3 } },
  );
});

test('whoever connects and does not ask is gone soon', async () => {
  await withServer(async server => {
    const socket = connect(server.port, '127.0.0.1');
    socket.resume();
    await once(socket, 'close');
  });
});

test('asking again and again asks data workers ten times a second at most, and each answer is of after its question', async () => {
  let refreshes = 0;
  const started = performance.now();
  await withServer(
    async server => {
      for (let asked = 1; asked <= 8; asked++) {
        const before = refreshes;
        await ask(server);
        assert.equal(refreshes, before + 1);
      }
      const elapsed = performance.now() - started;
      assert.ok(refreshes <= elapsed / 100 + 1, `${refreshes} in ${elapsed} ms`);
    },
    { refresh: async () => void refreshes++ },
  );
});

test('questions put behind each other on one connection are answered in order, those beyond the bound are refused', async () => {
  await withServer(
    async server => {
      const socket = connect(server.port, '127.0.0.1');
      const question = 'GET /metrics HTTP/1.1\r\nHost: x\r\n';
      socket.end(`${`${question}\r\n`.repeat(5)}${question}Connection: close\r\n\r\n`);
      let said = '';
      socket.on('data', chunk => (said += String(chunk)));
      await once(socket, 'close');
      assert.deepEqual(
        said.match(/HTTP\/1\.1 \d+/g)?.map(line => line.slice(-3)),
        ['200', '200', '503', '503', '503', '503'],
      );
    },
    { limits: { maxScrapesOfOne: 2 } },
  );
});

test('promtool finds nothing wrong with upstream’s metrics', async t => {
  const child = spawn('promtool', ['check', 'metrics'], { stdio: ['pipe', 'pipe', 'pipe'] });
  const failed = once(child, 'error').then(() => true);
  const started = once(child, 'spawn').then(() => false);
  if (await Promise.race([failed, started])) {
    t.skip('promtool is missing: apt-get install prometheus');
    return;
  }
  await withServer(async server => {
    const { body } = await ask(server);
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (said += String(chunk)));
    child.stdin.end(body);
    await once(child, 'close');
    // Advice on names is upstream's to take; a parse error is ours.
    assert.doesNotMatch(said, /error while linting|parsing/i);
  });
});

async function untilServed(server: HttpListener): Promise<void> {
  while ((await ask(server, { method: 'HEAD' })).status !== 200);
}

/** Asks for the metrics, waits for the first bytes, and reads no more. */
async function startAndStop(server: HttpListener, times = 1): Promise<Socket> {
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(times));
  await once(socket, 'readable');
  return socket;
}
