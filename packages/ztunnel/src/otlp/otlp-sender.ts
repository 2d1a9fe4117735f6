// Telemetry on its way to an OpenTelemetry collector: access-log lines as logs, traced requests as spans, the registry's numbers
// as metrics. Everything is handed to a process of its own in bounded batches; a collector that hangs, refuses or is slow
// costs telemetry, which is counted, and nothing else.
import { randomBytes } from 'node:crypto';
import type { RequestRecord } from '@ambit/proxy';
import type { AccessLine } from '../access-log.ts';
import type { RequestLine } from '../access-log-request.ts';
import type { Clock } from '../clock.ts';
import type { OtlpSettings, OtlpSignal } from '../config/otlp.ts';
import { Bare, type Fields, type Logger } from '../log.ts';
import type { MetricRegistry } from '../metrics/metric-registry.ts';
import { ExporterLink } from './exporter-link.ts';
import { Lane, type LaneStats } from './lane.ts';
import { MetricPush } from './metric-push.ts';
import type { Attribute, Attributes, LogItem, SpanItem } from './otlp-messages.ts';
import { spanOf } from './span-of.ts';

export interface OtlpDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly registry: MetricRegistry;
  readonly refresh: () => Promise<void>;
  /** Of the proxy; OpenTelemetry's variables in it are the exporters'. */
  readonly env: NodeJS.ProcessEnv;
  readonly version: string;
  /** The export process's program; the real one unless a test says otherwise. */
  readonly entry?: URL;
}

export type OtlpStats = Readonly<Partial<Record<OtlpSignal, LaneStats>>>;

const LANE = { maxItems: 4096, batchItems: 512, gatherMs: 1000 };
/** Over the longest time limit that the exporters may be given. */
const DEADLINE_MS = 660_000;

export class OtlpSender {
  readonly #link: ExporterLink;
  readonly #log: Logger;
  readonly #logs: Lane<LogItem> | undefined;
  readonly #spans: Lane<SpanItem> | undefined;
  readonly #metrics: MetricPush | undefined;

  constructor(deps: OtlpDeps, settings: OtlpSettings) {
    const { clock, random, registry, refresh, version, env } = deps;
    const entry = deps.entry ?? new URL('./exporter-process.ts', import.meta.url);
    const resource = { 'service.version': version, ...settings.resource };
    const start = { kind: 'start', settings: { ...settings, resource }, startedAtMs: clock.now(), version } as const;
    this.#log = deps.log;
    this.#link = new ExporterLink({ clock, random, start, env, entry, deadlineMs: DEADLINE_MS });
    const has = (wanted: OtlpSignal): boolean => settings.signals.some(({ signal }) => signal === wanted);
    const lane = <Item>(
      kind: 'logs' | 'traces',
      send: (items: readonly Item[]) => Promise<void>,
    ): Lane<Item> | undefined =>
      has(kind)
        ? new Lane<Item>({ clock, random, send, onOutcome: error => this.#onOutcome(kind, error) }, LANE)
        : undefined;
    this.#logs = lane<LogItem>('logs', items => this.#link.send({ kind: 'logs', items }));
    this.#spans = lane<SpanItem>('traces', items => this.#link.send({ kind: 'traces', items }));
    this.#metrics = has('metrics')
      ? new MetricPush(
          {
            clock,
            registry,
            refresh,
            send: (items, timeMs) => this.#link.send({ kind: 'metrics', items, timeMs }),
            onOutcome: error => this.#onOutcome('metrics', error),
          },
          settings.metricIntervalMs,
        )
      : undefined;
  }

  /** Whether requests with a traceparent are wanted. */
  get wantsRequests(): boolean {
    return this.#spans !== undefined;
  }

  get stats(): OtlpStats {
    const metrics = this.#metrics?.stats;
    return {
      ...(metrics === undefined ? {} : { metrics: { ...metrics, dropped: 0, queued: 0 } }),
      ...(this.#logs === undefined ? {} : { logs: this.#logs.stats }),
      ...(this.#spans === undefined ? {} : { traces: this.#spans.stats }),
    };
  }

  /** Of the export process, while there is one. */
  get processId(): number | undefined {
    return this.#link.pid;
  }

  /** Times the export process died. */
  get processDeaths(): number {
    return this.#link.deaths;
  }

  start(): void {
    this.#metrics?.start();
  }

  /** Never waits, never throws. */
  line(scope: string, line: AccessLine | RequestLine, traceId: string | undefined): void {
    const { timeMs, level, message, fields } = line;
    this.#logs?.push({ timeMs, level, scope, message, attributes: attributesOf(fields), traceId });
  }

  /** Never waits, never throws. */
  request(told: RequestRecord): void {
    if (this.#spans === undefined) return;
    const span = spanOf(told, randomBytes(8).toString('hex'));
    if (span !== undefined) this.#spans.push(span);
  }

  /** Sends what is left, for at most `deadlineMs`, and ends the process. */
  async close(deadlineMs: number): Promise<void> {
    const sent = Promise.all([this.#metrics?.push(), this.#logs?.flush(), this.#spans?.flush()]);
    const { promise: expired, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, deadlineMs);
    await Promise.race([sent, expired]);
    clearTimeout(timer);
    this.#metrics?.close();
    this.#logs?.close();
    this.#spans?.close();
    this.#link.close();
  }

  #onOutcome(signal: OtlpSignal, error: Error | undefined): void {
    if (error === undefined) {
      this.#log.info('The collector takes telemetry again', [['signal', signal]]);
      return;
    }
    this.#log.warn('Telemetry cannot be sent, it is counted and dropped while that lasts', [
      ['signal', signal],
      ['error', error.message],
      ['err.code', 'telemetry.unsent'],
    ]);
  }
}

function attributesOf(fields: Fields): Attributes {
  const attributes: Record<string, Attribute> = {};
  for (const [key, value] of fields) {
    if (value !== undefined) attributes[key] = value instanceof Bare ? value.text : value;
  }
  return attributes;
}
