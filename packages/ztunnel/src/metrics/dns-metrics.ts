// What workers counted of names -> upstream's `istio_dns_*` and `istio_on_demand_dns`, and our own on how the DNS proxy's
// bounds held. Counts arrive as differences, labelled with the pod as it was known when it asked.
import { DURATION_BUCKETS } from '../dns/counters.ts';
import type { DnsPodCounts } from '../dns/dns-messages.ts';
import type { MetricRegistry } from './metric-registry.ts';
import type { MetricTable } from './metric-table.ts';
import { SOURCE_LABELS, sourceLabels, UNKNOWN } from './workload-labels.ts';

const REQUESTS = 0;
const UPSTREAM_REQUESTS = 1;
const UPSTREAM_FAILURES = 2;
const DURATION = 3;

/** Our own, each a number of `DnsPodCounts`. */
const BOUNDS = [
  ['keptAnswers', 'ambit_dns_kept_answers', 'Answers given from what a resolver had said before.'],
  ['garbage', 'ambit_dns_garbage', 'Messages to the DNS proxy that were no query.'],
  ['refused', 'ambit_dns_refused_questions', 'Questions refused because too many were under way.'],
  ['refusedConnections', 'ambit_dns_refused_connections', 'DNS connections refused because there were too many.'],
  ['unsolicited', 'ambit_dns_unsolicited_answers', 'What came to the port of a question and was no answer to it.'],
] as const satisfies readonly (readonly [keyof DnsPodCounts, string, string])[];

export class DnsMetrics {
  readonly #questions: MetricTable;
  readonly #onDemand: MetricTable;
  readonly #bounds: MetricTable;

  constructor(registry: MetricRegistry) {
    this.#onDemand = registry.table({
      labels: [...SOURCE_LABELS, 'hostname'],
      metrics: [
        {
          name: 'istio_on_demand_dns',
          help: 'Look-ups of host names for connections (unstable).',
          type: 'counter',
        },
      ],
    });
    this.#questions = registry.table({
      labels: ['request_query_type', 'request_protocol', 'source_canonical_service', 'source_canonical_revision'],
      bounded: ['request_query_type', 'request_protocol'],
      metrics: [
        { name: 'istio_dns_requests', help: 'DNS questions of pods (unstable).', type: 'counter' },
        { name: 'istio_dns_upstream_requests', help: 'DNS questions forwarded (unstable).', type: 'counter' },
        {
          name: 'istio_dns_upstream_failures',
          help: 'DNS questions forwarded without an answer (unstable).',
          type: 'counter',
        },
        {
          name: 'istio_dns_upstream_request_duration_seconds',
          help: 'How long forwarded DNS questions took (unstable).',
          type: 'histogram',
          unit: 'seconds',
          bounds: DURATION_BUCKETS,
        },
      ],
    });
    this.#bounds = registry.lasting({
      labels: [],
      metrics: BOUNDS.map(([, name, help]) => ({ name, help, type: 'counter' })),
    });
  }

  /** Adds what one worker counted for some pods. */
  fold(counts: readonly DnsPodCounts[]): void {
    for (const pod of counts) {
      this.#foldQuestions(pod);
      this.#foldOnDemand(pod);
      const row = this.#bounds.row([]);
      for (const [metric, [key]] of BOUNDS.entries()) this.#bounds.add(row, metric, pod[key]);
    }
  }

  #foldQuestions({ source, cells }: DnsPodCounts): void {
    const table = this.#questions;
    for (const cell of cells) {
      const row = table.row([
        cell.query.toLowerCase(),
        cell.protocol,
        source?.canonicalName || UNKNOWN,
        source?.canonicalRevision || UNKNOWN,
      ]);
      table.add(row, REQUESTS, cell.requests);
      if (cell.upstreamRequests > 0) table.add(row, UPSTREAM_REQUESTS, cell.upstreamRequests);
      if (cell.upstreamFailures > 0) table.add(row, UPSTREAM_FAILURES, cell.upstreamFailures);
      if (cell.durations.some(count => count > 0)) table.merge(row, DURATION, cell.durations, cell.durationSeconds);
    }
  }

  #foldOnDemand({ source, onDemand }: DnsPodCounts): void {
    for (const { hostname, count } of onDemand) {
      // No TLS proves anything about who looks up a name.
      const row = this.#onDemand.row([...sourceLabels(source, undefined), hostname ?? 'overflow']);
      this.#onDemand.add(row, 0, count);
    }
  }
}
