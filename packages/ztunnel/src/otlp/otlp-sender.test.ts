import assert from 'node:assert/strict';
import { kill } from 'node:process';
import { afterEach, test } from 'node:test';
import { parseSocketAddress } from '@ambit/mesh';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';
import { Collector } from '../../test/otlp-collector.ts';
import { accessLine } from '../access-log.ts';
import { systemClock } from '../clock.ts';
import { EnvReader } from '../config/env-reader.ts';
import { parseOtlp } from '../config/otlp.ts';
import { Log, LogFilter } from '../log.ts';
import { MetricRegistry } from '../metrics/metric-registry.ts';
import { OtlpSender } from './otlp-sender.ts';
import { addOtlpMetrics } from './self-metrics.ts';

interface World {
  readonly collector: Collector;
  readonly sender: OtlpSender;
  readonly registry: MetricRegistry;
  readonly lines: string[];
}

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

async function world(more: Record<string, string> = {}): Promise<World> {
  const collector = await Collector.start();
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.httpUrl,
    OTEL_METRIC_EXPORT_INTERVAL: '3600000',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test%20bed',
    NODE_NAME: 'n1',
    ...more,
  };
  for (const [name, value] of Object.entries(env))
    if (value === 'GRPC') Object.assign(env, { [name]: collector.grpcUrl });
  const { otlp } = parseOtlp(new EnvReader(env), { nodeName: 'n1', clusterId: 'Kubernetes' });
  assert.ok(otlp !== undefined);
  const lines: string[] = [];
  const filter = LogFilter.parse('info');
  assert.ok(filter !== undefined);
  const log = new Log({ write: line => lines.push(line), now: () => 0 }, { format: 'plain', filter });
  const registry = new MetricRegistry({ maxSeries: 10_000, idleMs: 3_600_000, now: () => systemClock.now() });
  const sender = new OtlpSender(
    {
      clock: systemClock,
      random: () => 0.5,
      log: log.scope('ztunnel::otlp'),
      registry,
      refresh: async () => undefined,
      env,
      version: '1.2.3',
    },
    otlp,
  );
  open.push(async () => {
    await sender.close(0);
    collector.close();
  });
  return { collector, sender, registry, lines };
}

function at(text: string): NonNullable<ReturnType<typeof parseSocketAddress>> {
  const address = parseSocketAddress(text);
  assert.ok(address !== undefined);
  return address;
}

const TRACE = '0123456789abcdef0123456789abcdef';
const STARTED = Date.UTC(2026, 10, 24, 10, 0, 0, 250);

const RECORD: ConnectionRecord = {
  event: 'close',
  id: '0-1',
  pod: 'p',
  direction: 'outbound',
  protocol: 'HBONE',
  startedAtMs: STARTED,
  source: { address: at('10.0.0.1:4000'), identity: 'spiffe://td/ns/shop/sa/web' },
  destination: { address: at('10.0.0.2:15008'), identity: 'spiffe://td/ns/shop/sa/cart' },
  service: { namespace: 'shop', name: 'cart', hostname: 'cart.shop.svc' },
  traceId: TRACE,
  bytesToServer: 78,
  bytesToClient: 149,
  durationMs: 12.5,
  fresh: { opened: true, bytesToServer: 78, bytesToClient: 149, retransmits: 0, untalliedRequests: 0 },
};

const REQUEST: RequestRecord = {
  connection: RECORD,
  startedAtMs: STARTED,
  request: {
    protocol: 'http',
    startMs: 1,
    durationMs: 3.5,
    requestBytes: 100,
    responseBytes: 200,
    status: 200,
    requestMessages: 0,
    responseMessages: 0,
    method: 'GET',
    path: '/items',
    authority: 'cart:80',
    traceparent: `00-${TRACE}-00f067aa0ba902b7-01`,
  },
};

const hex = (base64: unknown): string => Buffer.from(String(base64), 'base64').toString('hex');

for (const protocol of ['http/protobuf', 'grpc'] as const) {
  const transport: Record<string, string> =
    protocol === 'grpc' ? { OTEL_EXPORTER_OTLP_ENDPOINT: 'GRPC', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' } : {};

  test(`${protocol}: a collector gets log lines, spans and metrics with the resource`, async () => {
    const { collector, sender, registry } = await world({
      ...transport,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=of%20mine',
    });
    const line = accessLine(RECORD);
    sender.line('access', line, TRACE);
    sender.request(REQUEST);
    const { request } = REQUEST;
    sender.request({ ...REQUEST, request: { ...request, traceparent: `00-${TRACE}-00f067aa0ba902b7-00` } });
    sender.request({ ...REQUEST, request: { ...request, traceparent: undefined } });
    const table = registry.table({
      labels: ['reporter', 'path'],
      metrics: [
        { name: 'istio_tcp_sent_bytes', help: 'Bytes.', unit: 'bytes', type: 'counter' },
        { name: 'open_things', help: 'Things.', type: 'gauge' },
        { name: 'took_seconds', help: 'Time.', unit: 'seconds', type: 'histogram', bounds: [0.1, 1] },
      ],
    });
    const row = table.row(['source', 'a"b\\c\nd']);
    table.add(row, 0, 5_000_000_000);
    table.set(row, 1, 2.5);
    for (const value of [0.05, 0.5, 7]) table.observe(row, 2, value);
    sender.start();
    // The close sends what is left, the metrics too.
    await Promise.all([
      sender.close(60_000),
      collector.until(() => Object.values(collector.items).every(items => items.length > 0)),
    ]);

    const [log, ...otherLogs] = collector.items.logs;
    assert.deepEqual(otherLogs, []);
    const [seconds, nanos] = ['1795514400', '262500000'];
    assert.deepEqual(
      [log?.scope, log?.severityNumber, log?.severityText, log?.body, log?.timeUnixNano, hex(log?.traceId)],
      ['access', 9, 'INFO', { stringValue: 'connection complete' }, `${seconds}${nanos}`, TRACE],
    );
    assert.deepEqual(log?.attributes, {
      'src.addr': '10.0.0.1:4000',
      'src.identity': 'spiffe://td/ns/shop/sa/web',
      'dst.addr': '10.0.0.2:15008',
      'dst.service': 'cart.shop.svc',
      'dst.identity': 'spiffe://td/ns/shop/sa/cart',
      direction: 'outbound',
      bytes_sent: '78',
      bytes_recv: '149',
      duration: '12ms',
    });

    const [span, ...otherSpans] = collector.items.traces;
    assert.deepEqual(otherSpans, []);
    assert.deepEqual(
      [span?.name, span?.kind, hex(span?.traceId), hex(span?.parentSpanId), hex(span?.spanId).length],
      ['GET', 3, TRACE, '00f067aa0ba902b7', 16],
    );
    assert.deepEqual([span?.startTimeUnixNano, span?.endTimeUnixNano], [`${seconds}250000000`, `${seconds}253500000`]);
    assert.ok(typeof span?.attributes === 'object' && span.attributes !== null && 'url.path' in span.attributes);
    assert.equal(span.attributes['url.path'], '/items');

    const metric = (name: string): Record<string, unknown> =>
      collector.items.metrics.find(item => item.name === name) ?? {};
    const point = (data: unknown): Record<string, unknown> =>
      (data as { dataPoints: Record<string, unknown>[] }).dataPoints[0] ?? {};
    const sum = metric('istio_tcp_sent_bytes');
    assert.deepEqual([sum.unit, sum.description], ['By', 'Bytes.']);
    assert.deepEqual(
      [
        (sum.sum as { isMonotonic: boolean }).isMonotonic,
        (sum.sum as { aggregationTemporality: number }).aggregationTemporality,
      ],
      [true, 2],
    );
    assert.equal(point(sum.sum).asDouble ?? Number(point(sum.sum).asInt), 5_000_000_000);
    assert.deepEqual(point(sum.sum).attributes, { reporter: 'source', path: 'a"b\\c\nd' });
    assert.equal(point(metric('open_things').gauge).asDouble, 2.5);
    const histogram = point(metric('took_seconds').histogram);
    assert.deepEqual(
      [histogram.count, histogram.sum, histogram.bucketCounts, histogram.explicitBounds],
      ['3', 7.55, ['1', '1', '1'], [0.1, 1]],
    );

    for (const resource of collector.resources) {
      assert.equal(resource['service.name'], 'ztunnel');
      assert.equal(resource['service.version'], '1.2.3');
      assert.equal(resource['k8s.node.name'], 'n1');
      assert.equal(resource['deployment.environment.name'], 'test bed');
    }
    assert.ok(collector.headers.every(headers => headers['x-key'] === 'of mine'));
    assert.deepEqual(
      [sender.stats.logs?.exported, sender.stats.traces?.exported, sender.stats.metrics?.exported],
      [1, 1, 3],
    );
  });

  test(`${protocol}: a collector that refuses costs what it refused, said once, and is used again`, async () => {
    const { collector, sender, registry, lines } = await world(transport);
    addOtlpMetrics(registry, sender);
    collector.manner = 'refuse';
    sender.line('access', accessLine(RECORD), undefined);
    await collector.until(() => collector.requests === 1);
    while (sender.stats.logs?.failed !== 1) await new Promise(resolve => setImmediate(resolve));
    collector.manner = 'answer';
    sender.line('access', accessLine(RECORD), undefined);
    await collector.until(() => collector.items.logs.length === 1);
    while (sender.stats.logs?.exported !== 1) await new Promise(resolve => setImmediate(resolve));
    assert.equal(lines.filter(line => line.includes('Telemetry cannot be sent')).length, 1);
    assert.equal(lines.filter(line => line.includes('takes telemetry again')).length, 1);
    assert.equal(
      registry.read().reduce((sum, table) => sum + table.size, 0),
      3 * 3 + 3 + 1,
    );
  });
}

test('a collector that hangs costs the lines past the bound, at once and without waiting', async () => {
  const { collector, sender } = await world({ OTEL_METRICS_EXPORTER: 'none', OTEL_TRACES_EXPORTER: 'none' });
  collector.manner = 'hang';
  const line = accessLine(RECORD);
  sender.line('access', line, undefined);
  await collector.until(() => collector.requests === 1);
  for (let i = 0; i < 10_000; i++) sender.line('access', line, undefined);
  assert.deepEqual(sender.stats, { logs: { exported: 0, failed: 0, dropped: 10_000 - 4096, queued: 4096 } });
});

test('an export process that dies fails what it held and is started again', async () => {
  const { collector, sender } = await world({ OTEL_METRICS_EXPORTER: 'none', OTEL_TRACES_EXPORTER: 'none' });
  collector.manner = 'hang';
  sender.line('access', accessLine(RECORD), undefined);
  await collector.until(() => collector.requests === 1);
  assert.ok(sender.processId !== undefined);
  kill(sender.processId, 'SIGKILL');
  while (sender.stats.logs?.failed !== 1) await new Promise(resolve => setImmediate(resolve));
  assert.equal(sender.processDeaths, 1);
  collector.manner = 'answer';
  sender.line('access', accessLine(RECORD), undefined);
  await collector.until(() => collector.items.logs.length === 1);
});
