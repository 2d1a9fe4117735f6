// Everything that folds over what workers tell: metrics, access log, record stream, edges and findings, OpenTelemetry. One
// place where a record is completed and handed to each of them, and where what they want to hear is put together. It decides
// nothing about connections, and whatever fails in it costs telemetry alone.
import type { MeshView } from '@ambit/mesh';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';
import { AccessLog } from '../access-log-writer.ts';
import type { Clock } from '../clock.ts';
import type { Config, Environment } from '../config.ts';
import type { DnsPodCounts, DnsRecord } from '../dns/dns-messages.ts';
import { logQueries } from '../dns/query-log.ts';
import type { IdentityReport } from '../identity/certificate-state.ts';
import { certificateFacts } from '../insight/certificate-facts.ts';
import { addFindingMetrics } from '../insight/finding-metrics.ts';
import { InsightDesk, type Interest } from '../insight/insight-desk.ts';
import type { Log, Logger } from '../log.ts';
import type { MetricRegistry } from '../metrics/metric-registry.ts';
import type { NodeReadings } from '../metrics/node-metrics.ts';
import { ZtunnelMetrics } from '../metrics/ztunnel-metrics.ts';
import type { OtlpSender } from '../otlp/otlp-sender.ts';
import { addAccessLogMetrics, addOtlpMetrics } from '../otlp/self-metrics.ts';
import { RecordStream } from '../record-stream.ts';
import type { Supervisor } from '../supervisor.ts';
import type { RecordReaders } from '../worker-settings.ts';
import { withRequestSource, withSource } from './record-enrichment.ts';

/** How long somebody who asks waits for workers to tell what they know. */
const FLUSH_MS = 200;
/** For what is still to be sent when the proxy ends. */
const OTLP_FLUSH_MS = 1000;

/** What workers are asked and told for it. */
export type Workers = Pick<
  Supervisor,
  'setReaders' | 'setRequestReaders' | 'refreshStats' | 'flushRecords' | 'workerStats' | 'podInfo'
>;

export interface TelemetryDeps {
  readonly config: Config;
  readonly log: Log;
  readonly clock: Clock;
  readonly view: MeshView;
  readonly env: Environment;
  readonly version: string;
  /** Asked when telemetry is read, which is after everything has been made. */
  readonly workers: () => Workers;
  readonly identities: () => readonly IdentityReport[];
  readonly readings: Omit<NodeReadings, 'streamedRecordsDropped'>;
}

export class Telemetry {
  readonly insight: InsightDesk;
  readonly #deps: TelemetryDeps;
  readonly #metrics: ZtunnelMetrics;
  readonly #access: AccessLog;
  readonly #records: RecordStream | undefined;
  readonly #queries: Logger;
  #interest: Interest = { connections: false, requests: false };
  #otlp: OtlpSender | undefined;

  /** @throws config.invalid when the record stream cannot be opened */
  constructor(deps: TelemetryDeps) {
    const { config, log, clock, workers } = deps;
    this.#deps = deps;
    this.#queries = log.scope('dns');
    this.#records = config.recordsPath === undefined ? undefined : RecordStream.open(config.recordsPath);
    this.#access = new AccessLog(
      {
        connections: log.scope('access'),
        requests: log.scope('access.l7'),
        log: log.scope('ztunnel::access'),
        clock,
        onLine: (scope, line, traceId) => this.#otlp?.line(scope, line, traceId),
      },
      config.accessLog,
    );
    this.#metrics = new ZtunnelMetrics(
      {
        clock,
        workerStats: () => workers().workerStats,
        readings: { ...deps.readings, streamedRecordsDropped: () => this.#records?.dropped ?? 0 },
      },
      { maxSeries: config.metricsMaxSeries, idleMs: config.metricsIdleMs },
    );
    addAccessLogMetrics(this.registry, () => this.#access.stats);
    this.insight = new InsightDesk({
      clock,
      node: config.nodeName,
      certificates: () => certificateFacts(deps.identities()),
      onInterest: interest => {
        this.#interest = interest;
        this.tellReaders();
      },
      log: log.scope('ztunnel::insight'),
    });
    addFindingMetrics(this.registry, () => this.insight.findings().findings);
    log.follow(() => this.tellReaders());
  }

  get registry(): MetricRegistry {
    return this.#metrics.registry;
  }

  /** What workers tell beyond the records that metrics are made of. Follows the log's levels and who watches. */
  get readers(): RecordReaders {
    const { log } = this.#deps;
    return {
      opens: this.#records !== undefined || this.#interest.connections || log.scope('access').isEnabled('debug'),
      queries: this.#queries.isEnabled('debug'),
    };
  }

  onRecords(records: readonly ConnectionRecord[]): void {
    const { view, config } = this.#deps;
    const complete = records.map(record => withSource(record, view, config.network));
    for (const record of complete) {
      this.#metrics.fold(record);
      this.#access.connection(record);
      this.#records?.write(record);
    }
    this.insight.onRecords(complete);
  }

  onWorkerGone(index: number): void {
    this.#metrics.forgetWorker(index);
  }

  onRequests(requests: readonly RequestRecord[]): void {
    const { view, config } = this.#deps;
    const complete = requests.map(told => withRequestSource(told, view, config.network));
    for (const told of complete) {
      this.#access.request(told);
      this.#otlp?.request(told);
    }
    this.insight.onRequests(complete);
  }

  onDnsCounts(counts: readonly DnsPodCounts[]): void {
    this.#metrics.foldDns(counts);
  }

  onDnsRecords(records: readonly DnsRecord[]): void {
    logQueries(this.#queries, records, uid => this.#deps.workers().podInfo(uid));
  }

  /** Has workers tell what is wanted now; again whenever that changes. */
  tellReaders(): void {
    const { log, workers } = this.#deps;
    workers().setReaders(this.readers);
    const wantsAll = this.#interest.requests || log.scope('access.l7').isEnabled('error');
    const wantsTraced = this.#otlp?.wantsRequests === true;
    workers().setRequestReaders(wantsAll ? 'all' : wantsTraced ? 'traced' : 'none');
  }

  /** Has workers tell all they know, so that what is read next is the present. */
  async refresh(): Promise<void> {
    const workers = this.#deps.workers();
    workers.refreshStats();
    await workers.flushRecords(FLUSH_MS);
  }

  /** Starts the process that sends to a collector. Who has none does not pay for it. */
  async startOtlp(): Promise<void> {
    const { config, clock, log, env, version } = this.#deps;
    if (config.otlp === undefined) return;
    const { OtlpSender: Sender } = await import('../otlp/otlp-sender.ts');
    this.#otlp = new Sender(
      {
        clock,
        random: Math.random,
        log: log.scope('ztunnel::otlp'),
        registry: this.registry,
        refresh: () => this.refresh(),
        env: { ...env },
        version,
      },
      config.otlp,
    );
    addOtlpMetrics(this.registry, this.#otlp);
    this.#otlp.start();
  }

  /** After the last record. Waits a moment for what is on its way. */
  async close(): Promise<void> {
    this.#access.close();
    await this.#otlp?.close(OTLP_FLUSH_MS);
    await this.#records?.close();
    this.#metrics.close();
    this.insight.close();
  }
}
