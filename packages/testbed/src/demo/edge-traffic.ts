// What flows on each edge, as the proxies tell it: requests, statuses, latencies and bytes, and what the detector finds wrong.
// Nothing is taken from the programs that make the traffic. A demo is short and the detector compares with minutes that are
// past, so its minutes are short too. Pure: the caller brings lines and the time.
import {
  addCounts,
  countsSince,
  Detector,
  type Edge,
  type EdgeCounts,
  EdgeTable,
  type Finding,
  latencyAt,
  noCounts,
} from '@ambit/insight';

/** What a minute of the detector lasts here. */
export const DETECTOR_MINUTE_MS = 1_500;
const WINDOW_MS = 5_000;
const MAX_EDGES = 200;
const EVENTS: ReadonlySet<unknown> = new Set(['open', 'progress', 'close', 'refused']);

export interface TrafficSummary {
  readonly requestsPerSecond: number;
  readonly deniedPerSecond: number;
  readonly bytesPerSecond: number;
  /** Of the last seconds, by HTTP status class 1xx to 5xx. */
  readonly statuses: readonly number[];
  /** Of the last seconds; undefined without a request. */
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
  /** Since the start. */
  readonly totals: EdgeCounts;
  /** What its plaintext turned out to be. */
  readonly protocols: readonly string[];
}

interface Look {
  readonly atMs: number;
  readonly counts: ReadonlyMap<string, EdgeCounts>;
}

type Entry = Parameters<EdgeTable['add']>[0];

export class EdgeTraffic {
  readonly #startMs: number;
  readonly #table: EdgeTable;
  readonly #detector: Detector;
  readonly #protocols = new Map<string, Set<string>>();
  /** The oldest first; the first one is as old as the window or older. */
  readonly #looks: Look[] = [];

  constructor(nowMs: number) {
    this.#startMs = nowMs;
    this.#table = new EdgeTable({ maxEdges: MAX_EDGES }, 0);
    this.#detector = new Detector(0);
  }

  /** Takes a line of a proxy's record stream; lines that are no record are nothing. */
  add(line: string, nowMs: number): void {
    const entry = parse(line);
    if (entry !== undefined) this.#table.add(entry, this.#scaled(nowMs));
  }

  /** Remembers how much there is by now. @returns what the detector finds wrong */
  look(nowMs: number): readonly Finding[] {
    this.#looks.push({ atMs: nowMs, counts: this.#count() });
    while ((this.#looks[1]?.atMs ?? nowMs) <= nowMs - WINDOW_MS) this.#looks.shift();
    const now = this.#scaled(nowMs);
    const { edges } = this.#table.report(undefined, now);
    const name = ({ source, destination }: Edge): string => `${source.name} ${destination.name}`;
    const atSource = new Set(edges.filter(edge => edge.reporter === 'source' && edge.totals.opened > 0).map(name));
    // What both ends tell of would be found twice.
    const once = edges.filter(edge => edge.reporter === 'source' || !atSource.has(name(edge)));
    return this.#detector.evaluate({ nowMs: now, edges: once, certificates: [] });
  }

  /** As of the last look; undefined for an edge of which nothing was told. Names are `namespace/name`. */
  summary(source: string, destination: string): TrafficSummary | undefined {
    const key = `${source} ${destination}`;
    const [first] = this.#looks;
    const last = this.#looks.at(-1);
    const totals = last?.counts.get(key);
    if (first === undefined || last === undefined || totals === undefined) return undefined;
    const before = first.counts.get(key) ?? noCounts();
    const recent = countsSince(totals, before);
    const seconds = (last.atMs - first.atMs) / 1000;
    const perSecond = (count: number): number => (seconds === 0 ? 0 : count / seconds);
    return {
      requestsPerSecond: perSecond(recent.requests),
      deniedPerSecond: perSecond(recent.denied),
      bytesPerSecond: perSecond(recent.bytesToServer + recent.bytesToClient),
      statuses: recent.statuses,
      p50Ms: latencyAt(recent.latencies, 0.5),
      p99Ms: latencyAt(recent.latencies, 0.99),
      totals,
      protocols: [...(this.#protocols.get(key) ?? [])],
    };
  }

  /** One count each pair: of the source's end where it tells, which has waited for the whole way; denials of the end that denied. */
  #count(): Map<string, EdgeCounts> {
    const { edges } = this.#table.report(undefined, 0);
    const pairs = Map.groupBy(edges, ({ source, destination }) => `${source.name} ${destination.name}`);
    const counts = new Map<string, EdgeCounts>();
    for (const [key, all] of pairs) {
      const told = all.filter(({ reporter }) => reporter === 'source');
      const sum = noCounts();
      for (const { totals } of told.length > 0 ? told : all) addCounts(sum, totals);
      sum.denied = all.reduce((most, { totals }) => Math.max(most, totals.denied), 0);
      counts.set(key, sum);
      this.#protocols.set(key, new Set(all.flatMap(({ protocols }) => protocols)));
    }
    return counts;
  }

  #scaled(nowMs: number): number {
    return ((nowMs - this.#startMs) * 60_000) / DETECTOR_MINUTE_MS;
  }
}

/** Our own proxy writes them: what has such an event is whole. A proxy that was ended may leave half a line. */
function parse(line: string): Entry | undefined {
  try {
    const entry = JSON.parse(line) as Entry;
    return EVENTS.has(entry.event) ? entry : undefined;
  } catch {
    return undefined;
  }
}
