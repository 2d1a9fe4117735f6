// All metrics of the node proxy in the order in which they are shown, upstream's first. Takes what happens (`fold`, `foldDns`)
// and lets idle series go; who asks for the text is the stats server's business.
import type { ConnectionRecord } from '@ambit/proxy';
import type { Cancel, Clock } from '../clock.ts';
import type { DnsPodCounts } from '../dns/dns-messages.ts';
import type { WorkerStats } from '../supervisor.ts';
import { DnsMetrics } from './dns-metrics.ts';
import { MetricRegistry } from './metric-registry.ts';
import { addBuildMetric, addNodeMetrics, type NodeReadings } from './node-metrics.ts';
import { addProcessMetrics } from './process-metrics.ts';
import { RequestMetrics } from './request-metrics.ts';
import { TrafficMetrics } from './traffic-metrics.ts';
import { addWorkerMetrics } from './worker-metrics.ts';

export interface ZtunnelMetricsDeps {
  readonly clock: Clock;
  readonly readings: NodeReadings;
  readonly workerStats: () => ReadonlyMap<number, WorkerStats>;
}

export interface ZtunnelMetricsOptions {
  /** See `TableOptions`. */
  readonly maxSeries: number;
  readonly idleMs: number;
}

const SWEEP_MS = 60_000;

export class ZtunnelMetrics {
  readonly registry: MetricRegistry;
  readonly #traffic: TrafficMetrics;
  readonly #requests: RequestMetrics;
  readonly #dns: DnsMetrics;
  readonly #clock: Clock;
  #cancel: Cancel;

  constructor({ clock, readings, workerStats }: ZtunnelMetricsDeps, options: ZtunnelMetricsOptions) {
    this.#clock = clock;
    const registry = new MetricRegistry({ ...options, now: () => clock.now() });
    this.registry = registry;
    addProcessMetrics(registry);
    addBuildMetric(registry, readings);
    this.#traffic = new TrafficMetrics(registry);
    addWorkerMetrics(registry, workerStats);
    this.#requests = new RequestMetrics(registry);
    this.#dns = new DnsMetrics(registry);
    addNodeMetrics(registry, readings);
    this.#cancel = this.#arm();
  }

  /** Adds what the record tells anew. */
  fold(record: ConnectionRecord): void {
    this.#traffic.fold(record);
    this.#requests.fold(record);
  }

  /** A worker ended with all its connections. */
  forgetWorker(index: number): void {
    this.#traffic.forgetWorker(index);
  }

  foldDns(counts: readonly DnsPodCounts[]): void {
    this.#dns.fold(counts);
  }

  /** Nothing expires any more. */
  close(): void {
    this.#cancel();
  }

  #arm(): Cancel {
    return this.#clock.after(SWEEP_MS, () => {
      this.registry.sweep();
      this.#cancel = this.#arm();
    });
  }
}
