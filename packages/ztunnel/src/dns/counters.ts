// What the metrics are made of, counted per pod as plain numbers: upstream's `istio_dns_*` by type and protocol, and how the
// bounds held. The number of types is bounded by the table of names.
import { countedTypeName } from './codec/numbers.ts';

/** Upper bounds of the duration histogram, in seconds; upstream's. One more bucket takes the rest. */
export const DURATION_BUCKETS: readonly number[] = [0.0005, 0.001, 0.01, 0.1, 1, 5];

/** Counts of one type and protocol. */
export interface DnsCell {
  requests: number;
  upstreamRequests: number;
  /** Forwarded without an answer that says anything: NXDOMAIN is an answer. */
  upstreamFailures: number;
  durationSeconds: number;
  /** By `DURATION_BUCKETS`, each question in one of them. */
  readonly durations: number[];
}

export class DnsCounters {
  /** Datagrams and messages that are no query. */
  garbage = 0;
  /** Questions refused because the pod has too many under way. */
  refused = 0;
  /** Connections refused because the pod has too many. */
  refusedConnections = 0;
  /** What came to the port of a question and was no answer to it. */
  unsolicited = 0;
  /** Answered from what a resolver had said before. */
  keptAnswers = 0;
  readonly #cells = new Map<string, DnsCell>();

  cell(type: number, isTcp: boolean): DnsCell {
    // Two keys for the types that matter, without building a text for each query.
    const key = type === 1 ? (isTcp ? 'tcp/A' : 'udp/A') : `${isTcp ? 'tcp' : 'udp'}/${countedTypeName(type)}`;
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      const durations = Array.from({ length: DURATION_BUCKETS.length + 1 }, () => 0);
      cell = { requests: 0, upstreamRequests: 0, upstreamFailures: 0, durationSeconds: 0, durations };
      this.#cells.set(key, cell);
    }
    return cell;
  }

  /** `udp/AAAA` -> counts. */
  get cells(): ReadonlyMap<string, DnsCell> {
    return this.#cells;
  }
}

/** A forwarded question came to its end after `ms`. */
export function countForwarded(cell: DnsCell, ms: number, hasFailed: boolean): void {
  const seconds = ms / 1000;
  cell.durationSeconds += seconds;
  const bucket = DURATION_BUCKETS.findIndex(bound => seconds <= bound);
  const index = bucket < 0 ? DURATION_BUCKETS.length : bucket;
  cell.durations[index] = (cell.durations[index] ?? 0) + 1;
  if (hasFailed) cell.upstreamFailures++;
}
