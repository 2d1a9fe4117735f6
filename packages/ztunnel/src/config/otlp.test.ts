import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { EnvReader, type Environment } from './env-reader.ts';
import { parseOtlp } from './otlp.ts';

const parse = (env: Environment) => parseOtlp(new EnvReader(env), { nodeName: 'n1', clusterId: 'c1' }).otlp;
const signals = (env: Environment): string[] =>
  (parse(env)?.signals ?? []).map(({ signal, protocol }) => `${signal} ${protocol}`);

test('nothing is sent without an endpoint, or when it is turned off', () => {
  assert.equal(parse({}), undefined);
  assert.equal(parse({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }), undefined);
  assert.equal(parse({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', OTEL_SDK_DISABLED: 'TRUE' }), undefined);
});

test('each signal has its own switch, endpoint and protocol', () => {
  const common = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' };
  assert.deepEqual(signals(common), ['metrics http/protobuf', 'logs http/protobuf', 'traces http/protobuf']);
  assert.deepEqual(signals({ ...common, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_LOGS_EXPORTER: 'none' }), [
    'metrics grpc',
    'traces grpc',
  ]);
  assert.deepEqual(
    signals({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://t:4317', OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc' }),
    ['traces grpc'],
  );
});

test('the resource says who sends, by the semantic conventions, and the operator has the last word', () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c', POD_NAME: 'ztunnel-x', POD_NAMESPACE: 'istio-system' };
  assert.deepEqual(parse(env)?.resource, {
    'service.name': 'ztunnel',
    'service.instance.id': 'ztunnel-x',
    'host.name': hostname(),
    'k8s.node.name': 'n1',
    'k8s.cluster.name': 'c1',
    'k8s.pod.name': 'ztunnel-x',
    'k8s.namespace.name': 'istio-system',
  });
  const told = parse({
    ...env,
    OTEL_RESOURCE_ATTRIBUTES: 'service.name=x, host.name = h%2C1 ,team=net',
    OTEL_SERVICE_NAME: 'mine',
  });
  assert.deepEqual(
    ['service.name', 'host.name', 'team'].map(name => told?.resource[name]),
    ['mine', 'h,1', 'net'],
  );
});

test('what cannot be meant ends the start and says why', () => {
  const rows: readonly (readonly [name: string, value: string, why: RegExp])[] = [
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318', /expected a URL such as/],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'http/json', /expected grpc or http\/protobuf/],
    ['OTEL_METRICS_EXPORTER', 'prometheus', /expected otlp or none/],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '10s', /expected a whole number/],
    ['OTEL_METRIC_EXPORT_INTERVAL', '10', /at least 1000 milliseconds/],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a', /expected key=value/],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a=%', /percent-encoded/],
    ['OTEL_RESOURCE_ATTRIBUTES', Array.from({ length: 65 }, (_, i) => `a${i}=b`).join(','), /more than 64/],
  ];
  for (const [name, value, why] of rows) assert.throws(() => parse({ [name]: value }), why, `${name}=${value}`);
});
