// Requests read from plaintext -> Istio's HTTP and gRPC metrics with the standard labels, and metrics of our own for commands
// of databases, which Istio has none for. A fold over the tallies that records bring. Workload labels are those of the TCP
// metrics, so that both can be joined.
import type { ConnectionRecord, RequestTally } from '@ambit/proxy';
import type { LabelValue } from './label-text.ts';
import type { MetricRegistry } from './metric-registry.ts';
import type { MetricShape, MetricTable } from './metric-table.ts';
import { PEER_LABELS, peerLabels, reporterOf, securityPolicy } from './workload-labels.ts';

/** Istio's standard labels, then those that are there only when somebody asked for them. */
const HTTP_LABELS = [
  ...PEER_LABELS,
  'request_protocol',
  'response_code',
  'grpc_response_status',
  'response_flags',
  'connection_security_policy',
  'request_method',
  'request_path',
] as const;
const HTTP_BOUNDED = [
  'reporter',
  'request_protocol',
  'response_code',
  'grpc_response_status',
  'response_flags',
  'connection_security_policy',
];

const DATABASE_LABELS = [...PEER_LABELS, 'connection_security_policy', 'protocol', 'command', 'error'] as const;

/** `REQUEST_BUCKETS` of @ambit/proxy, which the main thread does not load for them: it is 4 MB. A test compares the two. */
export const REQUEST_BOUNDS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];

// Columns of the HTTP table; the first two are those of the database table too.
const REQUESTS = 0;
const DURATION = 1;
const REQUEST_BYTES = 2;
const RESPONSE_BYTES = 3;
const REQUEST_MESSAGES = 4;
const RESPONSE_MESSAGES = 5;

export class RequestMetrics {
  readonly #http: MetricTable;
  readonly #databases: MetricTable;
  readonly #untallied: MetricTable;

  constructor(registry: MetricRegistry) {
    this.#http = registry.table({
      labels: HTTP_LABELS,
      bounded: HTTP_BOUNDED,
      metrics: [
        { name: 'istio_requests', help: 'Requests of HTTP and gRPC that ended.', type: 'counter' },
        histogram(
          'istio_request_duration_milliseconds',
          'From the first byte of a request to the last of its response.',
        ),
        histogram('istio_request_bytes', 'Size of requests on the wire.'),
        histogram('istio_response_bytes', 'Size of responses on the wire.'),
        { name: 'istio_request_messages', help: 'Messages of gRPC clients.', type: 'counter' },
        { name: 'istio_response_messages', help: 'Messages of gRPC servers.', type: 'counter' },
      ],
    });
    this.#databases = registry.table({
      labels: DATABASE_LABELS,
      bounded: ['reporter', 'connection_security_policy', 'protocol'],
      metrics: [
        { name: 'ambit_db_requests', help: 'Commands to databases and brokers that were answered.', type: 'counter' },
        {
          name: 'ambit_db_request_duration_seconds',
          help: 'From the first byte of a command to the last of its answer.',
          type: 'histogram',
          unit: 'seconds',
          bounds: REQUEST_BOUNDS.map(ms => ms / 1000),
        },
      ],
    });
    this.#untallied = registry.table({
      labels: ['reporter'],
      bounded: ['reporter'],
      metrics: [
        {
          name: 'ambit_requests_untallied',
          help: 'Requests in no other metric, because their connection had too many different ones.',
          type: 'counter',
        },
      ],
    });
  }

  /** Adds what the record tells anew. */
  fold(record: ConnectionRecord): void {
    const { requests, untalliedRequests } = record.fresh;
    if (untalliedRequests > 0) this.#untallied.add(this.#untallied.row([reporterOf(record)]), 0, untalliedRequests);
    if (requests === undefined || requests.length === 0) return;
    const peers = peerLabels(record);
    const security = securityPolicy(record);
    for (const tally of requests) {
      if (tally.protocol === 'http' || tally.protocol === 'grpc') this.#foldHttp(tally, peers, security);
      else if (tally.protocol !== 'tls' && tally.protocol !== 'unknown') this.#foldDatabase(tally, peers, security);
    }
  }

  #foldHttp(tally: RequestTally, peers: readonly LabelValue[], security: string): void {
    const http = this.#http;
    const row = http.row([
      ...peers,
      tally.protocol,
      String(tally.status),
      tally.grpcStatus === undefined ? '' : String(tally.grpcStatus),
      tally.flags ?? '-',
      security,
      tally.method,
      tally.path,
    ]);
    http.add(row, REQUESTS, tally.count);
    http.merge(row, DURATION, tally.durations, tally.durationSumMs);
    http.merge(row, REQUEST_BYTES, tally.requestSizes, tally.requestBytes);
    http.merge(row, RESPONSE_BYTES, tally.responseSizes, tally.responseBytes);
    if (tally.protocol !== 'grpc') return;
    http.add(row, REQUEST_MESSAGES, tally.requestMessages);
    http.add(row, RESPONSE_MESSAGES, tally.responseMessages);
  }

  #foldDatabase(tally: RequestTally, peers: readonly LabelValue[], security: string): void {
    const databases = this.#databases;
    const row = databases.row([...peers, security, tally.protocol, tally.method, tally.error]);
    databases.add(row, REQUESTS, tally.count);
    databases.merge(row, DURATION, tally.durations, tally.durationSumMs / 1000);
  }
}

function histogram(name: string, help: string): MetricShape {
  return { name, help, type: 'histogram', bounds: REQUEST_BOUNDS };
}
