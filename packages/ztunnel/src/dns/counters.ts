// What the metrics are made of, counted per pod as plain numbers: upstream's `istio_dns_*` by type and protocol, look-ups for
// connections, and how the bounds held. The numbers only grow; `takeNews` says what nobody was told yet. The number of types
// is bounded by the table of names, that of host names by `MAX_HOSTS`.
import { countedTypeName } from './codec/numbers.ts';
import type { DnsCellCounts, DnsPodCounts } from './dns-messages.ts';

/** Upper bounds of the duration histogram, in seconds; upstream's. One more bucket takes the rest. */
export const DURATION_BUCKETS: readonly number[] = [0.0005, 0.001, 0.01, 0.1, 1, 5];

/** Host names told apart from one telling to the next. */
const MAX_HOSTS = 64;

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

/** What was counted since it was told the last time. */
export type DnsNews = Omit<DnsPodCounts, 'uid' | 'source'>;

type Total = 'keptAnswers' | 'garbage' | 'refused' | 'refusedConnections' | 'unsolicited';

/** One cell, and what of it was told. */
interface CountedCell {
  readonly query: string;
  readonly protocol: 'udp' | 'tcp';
  readonly cell: DnsCell;
  told: DnsCell;
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
  /** By type and protocol as one number: this runs for every query. */
  readonly #byNumber = new Map<number, DnsCell>();
  readonly #cells = new Map<string, CountedCell>();
  #hosts = new Map<string | undefined, number>();
  #told: Record<Total, number> = { keptAnswers: 0, garbage: 0, refused: 0, refusedConnections: 0, unsolicited: 0 };

  cell(type: number, isTcp: boolean): DnsCell {
    return this.#byNumber.get(type * 2 + (isTcp ? 1 : 0)) ?? this.#newCell(type, isTcp);
  }

  /** A connection needs the addresses of a host. */
  countHost(hostname: string): void {
    const key = this.#hosts.has(hostname) || this.#hosts.size < MAX_HOSTS ? hostname : undefined;
    this.#hosts.set(key, (this.#hosts.get(key) ?? 0) + 1);
  }

  /** `udp/AAAA` -> counts. */
  get cells(): ReadonlyMap<string, DnsCell> {
    return new Map(Array.from(this.#cells, ([key, { cell }]) => [key, cell]));
  }

  /** What was counted since the last call, which counts as told from now on; undefined when there is nothing. */
  takeNews(): DnsNews | undefined {
    const cells = Array.from(this.#cells.values()).flatMap(counted => takeCell(counted) ?? []);
    const onDemand = Array.from(this.#hosts, ([hostname, count]) => ({ hostname, count }));
    const { keptAnswers, garbage, refused, refusedConnections, unsolicited } = this;
    const now = { keptAnswers, garbage, refused, refusedConnections, unsolicited };
    const told = this.#told;
    const news: DnsNews = {
      cells,
      onDemand,
      keptAnswers: keptAnswers - told.keptAnswers,
      garbage: garbage - told.garbage,
      refused: refused - told.refused,
      refusedConnections: refusedConnections - told.refusedConnections,
      unsolicited: unsolicited - told.unsolicited,
    };
    this.#told = now;
    if (this.#hosts.size > 0) this.#hosts = new Map();
    const isNew = news.garbage + news.refused + news.refusedConnections + news.unsolicited + news.keptAnswers > 0;
    return isNew || cells.length > 0 || onDemand.length > 0 ? news : undefined;
  }

  #newCell(type: number, isTcp: boolean): DnsCell {
    const query = countedTypeName(type);
    const protocol = isTcp ? 'tcp' : 'udp';
    const key = `${protocol}/${query}`;
    let counted = this.#cells.get(key);
    if (counted === undefined) {
      counted = { query, protocol, cell: emptyCell(), told: emptyCell() };
      this.#cells.set(key, counted);
    }
    // A number of its own for types with a name only: a client that asks for all types makes no map of them.
    if (query !== countedTypeName(0)) this.#byNumber.set(type * 2 + (isTcp ? 1 : 0), counted.cell);
    return counted.cell;
  }
}

function emptyCell(): DnsCell {
  const durations = Array.from({ length: DURATION_BUCKETS.length + 1 }, () => 0);
  return { requests: 0, upstreamRequests: 0, upstreamFailures: 0, durationSeconds: 0, durations };
}

function takeCell(counted: CountedCell): DnsCellCounts | undefined {
  const { query, protocol, cell, told } = counted;
  const durations = cell.durations.map((count, bucket) => count - (told.durations[bucket] ?? 0));
  const requests = cell.requests - told.requests;
  const upstreamRequests = cell.upstreamRequests - told.upstreamRequests;
  if (requests === 0 && upstreamRequests === 0 && durations.every(count => count === 0)) return undefined;
  counted.told = { ...cell, durations: [...cell.durations] };
  return {
    query,
    protocol,
    requests,
    upstreamRequests,
    upstreamFailures: cell.upstreamFailures - told.upstreamFailures,
    durationSeconds: cell.durationSeconds - told.durationSeconds,
    durations,
  };
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
