// Batches as OpenTelemetry's exporters want them. Only for the export process: the libraries are 30 MB. What an exporter needs
// is plain data, so neither its SDK's providers nor its processors are here; batching and bounds are the proxy's.
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { OtlpProtocol } from '../config/otlp.ts';
import { labelPairs } from '../metrics/label-text.ts';
import type { MetricShape } from '../metrics/metric-table.ts';
import type { LogItem, MetricItem, SpanItem, ToExporter } from './otlp-messages.ts';

type Start = Extract<ToExporter, { kind: 'start' }>;
type LogsBatch = Extract<ToExporter, { kind: 'logs' }>;
type TracesBatch = Extract<ToExporter, { kind: 'traces' }>;
type MetricsBatch = Extract<ToExporter, { kind: 'metrics' }>;

/** Resolves when the collector has taken the batch. */
export type ExportFunction<Batch> = (batch: Batch) => Promise<void>;

export interface SignalExporters {
  logs?: ExportFunction<LogsBatch>;
  traces?: ExportFunction<TracesBatch>;
  metrics?: ExportFunction<MetricsBatch>;
}

interface Exporter<Items> {
  export(items: Items, done: (result: { readonly code: number; readonly error?: Error }) => void): void;
}

type Resource = ReturnType<typeof resourceFromAttributes>;
type HrTime = [seconds: number, nanos: number];

const SCOPE = 'ambit/ztunnel';
const UNITS: Readonly<Record<string, string>> = { seconds: 's', bytes: 'By', milliseconds: 'ms' };
const NO_SPAN = '';

/** Loads what the wanted signals need. @throws when an exporter cannot be made */
export async function openExporters({ settings, startedAtMs, version }: Start): Promise<SignalExporters> {
  const resource = resourceFromAttributes(settings.resource);
  const open: SignalExporters = {};
  for (const { signal, protocol } of settings.signals) {
    switch (signal) {
      case 'logs': {
        const exporter = await openLogs(protocol);
        open.logs = batch =>
          run(
            exporter,
            batch.items.map(item => logRecord(item, resource, version)),
          );
        break;
      }
      case 'traces': {
        const exporter = await openTraces(protocol);
        open.traces = batch =>
          run(
            exporter,
            batch.items.map(item => span(item, resource, version)),
          );
        break;
      }
      case 'metrics': {
        const exporter = await openMetrics(protocol);
        const from = hrTime(startedAtMs);
        open.metrics = batch =>
          run(exporter, {
            resource,
            scopeMetrics: [
              {
                scope: { name: SCOPE, version },
                metrics: batch.items.flatMap(item => metrics(item, from, hrTime(batch.timeMs))),
              },
            ],
          });
      }
    }
  }
  return open;
}

async function openLogs(protocol: OtlpProtocol) {
  const { OTLPLogExporter } =
    protocol === 'grpc'
      ? await import('@opentelemetry/exporter-logs-otlp-grpc')
      : await import('@opentelemetry/exporter-logs-otlp-proto');
  return new OTLPLogExporter();
}

async function openTraces(protocol: OtlpProtocol) {
  const { OTLPTraceExporter } =
    protocol === 'grpc'
      ? await import('@opentelemetry/exporter-trace-otlp-grpc')
      : await import('@opentelemetry/exporter-trace-otlp-proto');
  return new OTLPTraceExporter();
}

async function openMetrics(protocol: OtlpProtocol) {
  const { OTLPMetricExporter } =
    protocol === 'grpc'
      ? await import('@opentelemetry/exporter-metrics-otlp-grpc')
      : await import('@opentelemetry/exporter-metrics-otlp-proto');
  return new OTLPMetricExporter();
}

type LogRecord = Parameters<Awaited<ReturnType<typeof openLogs>>['export']>[0][number];
type Span = Parameters<Awaited<ReturnType<typeof openTraces>>['export']>[0][number];
type ResourceMetrics = Parameters<Awaited<ReturnType<typeof openMetrics>>['export']>[0];
type MetricData = ResourceMetrics['scopeMetrics'][number]['metrics'][number];

type SumData = Extract<MetricData, { isMonotonic: boolean }>;
type HistogramData = Extract<MetricData, { dataPoints: { value: { buckets: { boundaries: number[] } } }[] }>;
type GaugeData = Exclude<Extract<MetricData, { dataPoints: { value: number }[] }>, SumData>;
type Severity = NonNullable<LogRecord['severityNumber']>;

// The numbers of OpenTelemetry's enums: their packages are the exporters' dependencies and not ours.
/* oxlint-disable typescript/no-unsafe-enum-assignment -- see above */
const SEVERITIES: Readonly<Record<LogItem['level'], Severity>> = {
  trace: 1,
  debug: 5,
  info: 9,
  warn: 13,
  error: 17,
};
const SPAN_KINDS = { server: 1 as Span['kind'], client: 2 as Span['kind'] };
const STATUS = { unset: 0 as Span['status']['code'], error: 2 as Span['status']['code'] };
const CUMULATIVE = 1 as MetricData['aggregationTemporality'];
const DOUBLE = 1 as MetricData['descriptor']['valueType'];
const HISTOGRAM = 0 as HistogramData['dataPointType'];
const GAUGE = 2 as GaugeData['dataPointType'];
const SUM = 3 as SumData['dataPointType'];
/* oxlint-enable typescript/no-unsafe-enum-assignment */

function run<Items>(exporter: Exporter<Items>, items: Items): Promise<void> {
  return new Promise((resolve, reject) => {
    exporter.export(items, ({ code, error }) => {
      if (code === 0) resolve();
      else reject(error ?? new Error('the export failed'));
    });
  });
}

function logRecord(item: LogItem, resource: Resource, version: string): LogRecord {
  const time = hrTime(item.timeMs);
  return {
    hrTime: time,
    hrTimeObserved: time,
    severityNumber: SEVERITIES[item.level],
    severityText: item.level.toUpperCase(),
    body: item.message,
    attributes: item.attributes,
    droppedAttributesCount: 0,
    resource,
    instrumentationScope: { name: item.scope, version },
    ...(item.traceId === undefined ? {} : { spanContext: { traceId: item.traceId, spanId: NO_SPAN, traceFlags: 0 } }),
  };
}

function span(item: SpanItem, resource: Resource, version: string): Span {
  const { traceId, traceFlags } = item;
  return {
    name: item.name,
    kind: SPAN_KINDS[item.kind],
    spanContext: () => ({ traceId, spanId: item.spanId, traceFlags }),
    parentSpanContext: { traceId, spanId: item.parentSpanId, traceFlags, isRemote: true },
    startTime: hrTime(item.startMs),
    endTime: hrTime(item.endMs),
    duration: hrTime(item.endMs - item.startMs),
    status: { code: item.isError ? STATUS.error : STATUS.unset },
    attributes: item.attributes,
    links: [],
    events: [],
    ended: true,
    resource,
    instrumentationScope: { name: SCOPE, version },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function metrics({ labels, columns }: MetricItem, startTime: HrTime, endTime: HrTime): MetricData[] {
  const points = labels.map(text => ({ startTime, endTime, attributes: Object.fromEntries(labelPairs(text)) }));
  return columns.flatMap(({ shape, values }) => {
    const present = points.flatMap((point, index) => {
      const numbers = values[index];
      return numbers === undefined ? [] : [{ ...point, values: numbers }];
    });
    return present.length === 0 ? [] : [metric(shape, present)];
  });
}

interface Point {
  readonly startTime: HrTime;
  readonly endTime: HrTime;
  readonly attributes: Readonly<Record<string, string>>;
  readonly values: readonly number[];
}

/** Names are Prometheus' without `_total`, which collectors add to counters by themselves. */
function metric(shape: MetricShape, points: readonly Point[]): MetricData {
  const descriptor = {
    name: shape.name,
    description: shape.help,
    unit: UNITS[shape.unit ?? ''] ?? '',
    valueType: DOUBLE,
  };
  switch (shape.type) {
    case 'counter':
      return {
        descriptor,
        aggregationTemporality: CUMULATIVE,
        dataPointType: SUM,
        isMonotonic: true,
        dataPoints: points.map(({ values, ...point }) => ({ ...point, value: values[0] ?? 0 })),
      };
    case 'gauge':
      return {
        descriptor,
        aggregationTemporality: CUMULATIVE,
        dataPointType: GAUGE,
        dataPoints: points.map(({ values, ...point }) => ({ ...point, value: values[0] ?? 0 })),
      };
    case 'histogram': {
      const buckets = shape.bounds.length + 1;
      return {
        descriptor,
        aggregationTemporality: CUMULATIVE,
        dataPointType: HISTOGRAM,
        dataPoints: points.map(({ values, ...point }) => {
          const counts = values.slice(0, buckets);
          const count = counts.reduce((sum, each) => sum + each, 0);
          return {
            ...point,
            value: { buckets: { boundaries: [...shape.bounds], counts }, count, sum: values[buckets] ?? 0 },
          };
        }),
      };
    }
  }
}

function hrTime(ms: number): HrTime {
  const micros = Math.round(ms * 1000);
  const seconds = Math.floor(micros / 1e6);
  return [seconds, (micros - seconds * 1e6) * 1000];
}
