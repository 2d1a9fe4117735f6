// What the telemetry tells of itself: access-log lines written and left out, and what became of what was sent to a collector.
import type { AccessLogStats } from '../access-log-writer.ts';
import type { MetricRegistry } from '../metrics/metric-registry.ts';
import type { OtlpSender } from './otlp-sender.ts';

const OUTCOMES = ['exported', 'failed', 'dropped'] as const;
const LINES = ['written', 'filtered', 'sampledOut', 'dropped'] as const satisfies readonly (keyof AccessLogStats)[];
const LINE_LABELS = {
  written: 'written',
  filtered: 'filtered',
  sampledOut: 'sampled_out',
  dropped: 'dropped',
} as const;

export function addAccessLogMetrics(registry: MetricRegistry, stats: () => AccessLogStats): void {
  const lines = registry.lasting({
    labels: ['outcome'],
    metrics: [
      {
        name: 'ambit_access_log_lines',
        help: 'Access-log lines by what became of them; dropped: over AMBIT_ACCESS_LOG_RATE.',
        type: 'counter',
      },
    ],
  });
  registry.onRead(() => {
    const now = stats();
    for (const outcome of LINES) lines.set(lines.row([LINE_LABELS[outcome]]), 0, now[outcome]);
  });
}

export function addOtlpMetrics(registry: MetricRegistry, sender: Pick<OtlpSender, 'stats' | 'processDeaths'>): void {
  const items = registry.lasting({
    labels: ['signal', 'outcome'],
    metrics: [
      {
        name: 'ambit_otlp_items',
        help: 'Log records, spans and series for the collector; failed: it did not take them, dropped: no room to wait.',
        type: 'counter',
      },
    ],
  });
  const queues = registry.lasting({
    labels: ['signal'],
    metrics: [{ name: 'ambit_otlp_queue', help: 'Log records and spans that wait to be sent.', type: 'gauge' }],
  });
  const deaths = registry.lasting({
    labels: [],
    metrics: [{ name: 'ambit_otlp_process_deaths', help: 'Times the export process died.', type: 'counter' }],
  });
  registry.onRead(() => {
    for (const [signal, stats] of Object.entries(sender.stats)) {
      for (const outcome of OUTCOMES) items.set(items.row([signal, outcome]), 0, stats[outcome]);
      queues.set(queues.row([signal]), 0, stats.queued);
    }
    deaths.set(deaths.row([]), 0, sender.processDeaths);
  });
}
