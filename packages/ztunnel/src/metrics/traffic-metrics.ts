// Connection records -> Istio's TCP metrics, as a fold over what each record tells anew: names, labels, flags and the moments
// at which numbers move are upstream's. Added: refusals by reason, which upstream's metrics do not show, segments sent again,
// and how long connecting took. Keeps nothing of a connection but which series it holds.
import { type ReasonCode, responseFlagOf, type ResponseFlag } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';
import { HeldRows } from './held-rows.ts';
import type { MetricRegistry } from './metric-registry.ts';
import type { MetricTable } from './metric-table.ts';
import {
  LOCALITY_LABELS,
  localityLabels,
  PEER_LABELS,
  peerLabels,
  reporterOf,
  securityPolicy,
} from './workload-labels.ts';

export const TRAFFIC_LABELS = [
  ...PEER_LABELS,
  'request_protocol',
  'response_flags',
  'connection_security_policy',
  ...LOCALITY_LABELS,
] as const;

const FLAGS_AT = TRAFFIC_LABELS.indexOf('response_flags');

// Columns of the table, in upstream's order.
const OPENED = 0;
const CLOSED = 1;
const RECEIVED = 2;
const SENT = 3;
const FAILED = 4;
const SENT_AGAIN = 5;

const CONNECT_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class TrafficMetrics {
  readonly #traffic: MetricTable;
  readonly #refused: MetricTable;
  readonly #connect: MetricTable;
  readonly #held: HeldRows;

  constructor(registry: MetricRegistry) {
    this.#traffic = registry.table({
      labels: TRAFFIC_LABELS,
      bounded: ['reporter', 'request_protocol', 'response_flags', 'connection_security_policy'],
      metrics: [
        counter('istio_tcp_connections_opened', 'The total number of TCP connections opened.'),
        counter('istio_tcp_connections_closed', 'The total number of TCP connections closed.'),
        counter(
          'istio_tcp_received_bytes',
          'The size of total bytes received during request in case of a TCP connection.',
        ),
        counter('istio_tcp_sent_bytes', 'The size of total bytes sent during response in case of a TCP connection.'),
        counter(
          'istio_tcp_connections_failed',
          'The total number of TCP connections that failed to establish (unstable).',
        ),
        counter('ambit_tcp_retransmitted_segments', "Segments sent again on the connections' sockets."),
      ],
    });
    this.#refused = registry.table({
      labels: ['reporter', 'reason'],
      bounded: ['reporter', 'reason'],
      metrics: [counter('ambit_connections_refused', 'Connections refused before they came to be, by reason code.')],
    });
    this.#connect = registry.table({
      labels: ['reporter', 'connection_security_policy'],
      bounded: ['reporter', 'connection_security_policy'],
      metrics: [
        {
          name: 'ambit_connect_duration_seconds',
          help: 'Time from the start of handling until the next hop had answered, of connections that ended.',
          type: 'histogram',
          unit: 'seconds',
          bounds: CONNECT_SECONDS,
        },
      ],
    });
    this.#held = new HeldRows(this.#traffic);
  }

  /** Adds what the record tells anew. */
  fold(record: ConnectionRecord): void {
    const { fresh, event } = record;
    if (event === 'refused') {
      const row = this.#refused.row([reporterOf(record), record.reason ?? 'unknown']);
      this.#refused.add(row, 0, 1);
      return;
    }
    const traffic = this.#traffic;
    const labels = trafficLabels(record);
    const row = traffic.row(labels);
    if (fresh.opened) traffic.add(row, OPENED, 1);
    if (fresh.opened || fresh.bytesToServer > 0) traffic.add(row, RECEIVED, fresh.bytesToServer);
    if (fresh.opened || fresh.bytesToClient > 0) traffic.add(row, SENT, fresh.bytesToClient);
    if (fresh.retransmits > 0) traffic.add(row, SENT_AGAIN, fresh.retransmits);
    if (event === 'close') this.#close(record, labels);
    else this.#held.hold(record.id, row);
  }

  /**
   * Connections of the worker keep their series no longer. One that had moved to another worker does again with its next
   * news; one that had come from another stays.
   */
  forgetWorker(index: number): void {
    this.#held.releaseAll(`${index}-`);
  }

  #close(record: ConnectionRecord, labels: ReturnType<typeof trafficLabels>): void {
    const traffic = this.#traffic;
    const flag = flagOf(record);
    labels[FLAGS_AT] = flag;
    const row = traffic.row(labels);
    traffic.add(row, CLOSED, 1);
    if (flag !== '-') traffic.add(row, FAILED, 1);
    this.#held.release(record.id);
    if (record.connectMs === undefined) return;
    const connect = this.#connect.row([reporterOf(record), securityPolicy(record)]);
    this.#connect.observe(connect, 0, record.connectMs / 1000);
  }
}

/** Values of `TRAFFIC_LABELS` of a connection that has not failed; the array is the caller's. */
function trafficLabels(record: ConnectionRecord): (string | undefined)[] {
  const labels = peerLabels(record);
  labels.push('tcp', '-', securityPolicy(record), ...localityLabels(record));
  return labels;
}

function flagOf({ reason, error, direction, protocol }: ConnectionRecord): ResponseFlag {
  if (reason === undefined) return error === undefined ? '-' : 'CONNECT';
  return isTimeoutOfApplication(reason, direction, protocol) ? 'CONNECT' : responseFlagOf(reason);
}

/** Upstream suspects a NetworkPolicy only where it dials the tunnel port of another node. */
function isTimeoutOfApplication(
  reason: ReasonCode,
  direction: ConnectionRecord['direction'],
  protocol: ConnectionRecord['protocol'],
): boolean {
  return reason === 'dial.timeout' && (direction === 'inbound' || protocol === 'TCP');
}

function counter(name: string, help: string): { name: string; help: string; type: 'counter' } {
  return { name, help, type: 'counter' };
}
