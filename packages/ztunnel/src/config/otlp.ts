// Whether telemetry is sent to an OpenTelemetry collector, and what it says of who sends it. The variables are OpenTelemetry's
// own (https://opentelemetry.io/docs/specs/otel/protocol/exporter): addresses, headers, certificates and limits are read by
// the exporters themselves, in their process; here is only what decides whether there is such a process, and checks that
// a mistake ends the start and not the telemetry.
import { hostname } from 'node:os';
import type { EnvReader } from './env-reader.ts';

export const OTLP_SIGNALS = ['metrics', 'logs', 'traces'] as const;
export type OtlpSignal = (typeof OTLP_SIGNALS)[number];
export type OtlpProtocol = 'grpc' | 'http/protobuf';

export interface OtlpSettings {
  /** Those that have an endpoint and are not turned off. */
  readonly signals: readonly { readonly signal: OtlpSignal; readonly protocol: OtlpProtocol }[];
  /** Attributes of the resource, by the semantic conventions. */
  readonly resource: Readonly<Record<string, string>>;
  readonly metricIntervalMs: number;
}

export interface OtlpConfig {
  /** undefined: nothing is sent. */
  readonly otlp: OtlpSettings | undefined;
}

const PROTOCOLS = ['grpc', 'http/protobuf'] as const;
const EXPORTERS = ['otlp', 'none'] as const;
const PREFIX = 'OTEL_EXPORTER_OTLP';
const MAX_INTERVAL_MS = 86_400_000;
const MAX_TIMEOUT_MS = 600_000;
/** OTEL_RESOURCE_ATTRIBUTES: keys and percent-encoded values; what is beyond goes with every export. */
const MAX_ATTRIBUTES = 64;

/** What else is known of the process. */
export interface OtlpInputs {
  readonly nodeName: string | undefined;
  readonly clusterId: string;
}

/** @throws config.invalid */
export function parseOtlp(read: EnvReader, inputs: OtlpInputs): OtlpConfig {
  if (read.text('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return { otlp: undefined };
  const signals = OTLP_SIGNALS.flatMap(signal => {
    const name = signal.toUpperCase();
    const exporter = read.choice(`OTEL_${name}_EXPORTER`, EXPORTERS, 'otlp');
    const hasOwn = checkEndpoint(read, `${PREFIX}_${name}_ENDPOINT`);
    const hasCommon = checkEndpoint(read, `${PREFIX}_ENDPOINT`);
    const common = read.choice(`${PREFIX}_PROTOCOL`, PROTOCOLS, 'http/protobuf');
    const protocol = read.choice(`${PREFIX}_${name}_PROTOCOL`, PROTOCOLS, common);
    for (const timeout of [`${PREFIX}_TIMEOUT`, `${PREFIX}_${name}_TIMEOUT`]) read.integer(timeout, MAX_TIMEOUT_MS);
    return exporter === 'otlp' && (hasOwn || hasCommon) ? [{ signal, protocol }] : [];
  });
  const metricIntervalMs = read.integerOr('OTEL_METRIC_EXPORT_INTERVAL', MAX_INTERVAL_MS, 60_000);
  if (metricIntervalMs < 1000) {
    throw read.invalid('OTEL_METRIC_EXPORT_INTERVAL', String(metricIntervalMs), 'must be at least 1000 milliseconds');
  }
  const resource = resourceAttributes(read, inputs);
  return { otlp: signals.length === 0 ? undefined : { signals, resource, metricIntervalMs } };
}

function checkEndpoint(read: EnvReader, name: string): boolean {
  const text = read.text(name) ?? '';
  if (text === '') return false;
  const { protocol } = URL.parse(text) ?? {};
  if (protocol === 'http:' || protocol === 'https:') return true;
  throw read.invalid(name, text, 'expected a URL such as http://collector.observability:4318');
}

/** https://opentelemetry.io/docs/specs/semconv/resource; what the operator says wins. */
function resourceAttributes(read: EnvReader, { nodeName, clusterId }: OtlpInputs): Record<string, string> {
  const pod = read.text('POD_NAME') || undefined;
  const host = hostname();
  const own: Record<string, string | undefined> = {
    'service.name': 'ztunnel',
    'service.instance.id': pod ?? `${host}-${process.pid}`,
    'host.name': host,
    'k8s.node.name': nodeName,
    'k8s.cluster.name': clusterId,
    'k8s.pod.name': pod,
    'k8s.namespace.name': read.text('POD_NAMESPACE') || undefined,
  };
  const all = { ...own, ...parseAttributes(read) };
  const service = read.text('OTEL_SERVICE_NAME') || undefined;
  if (service !== undefined) all['service.name'] = service;
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

function parseAttributes(read: EnvReader): Record<string, string> {
  const name = 'OTEL_RESOURCE_ATTRIBUTES';
  const text = read.textOr(name, '');
  const pairs = text.split(',').filter(pair => pair.trim() !== '');
  if (pairs.length > MAX_ATTRIBUTES) throw read.invalid(name, text, `more than ${MAX_ATTRIBUTES} attributes`);
  return Object.fromEntries(
    pairs.map(pair => {
      const at = pair.indexOf('=');
      if (at < 1) throw read.invalid(name, text, 'expected key=value,key=value');
      try {
        return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
      } catch {
        throw read.invalid(name, text, `${pair} is not percent-encoded rightly`);
      }
    }),
  );
}
