// Reports of ztunnels -> rows of traffic within a time, as `ambit top` and `ambit stat` show them: by edge, by workload that
// serves, or by its namespace. Pure.
import {
  addCounts,
  countsSince,
  type Edge,
  type EdgeCounts,
  type EdgeReport,
  latencyAt,
  type MergedEdge,
  mergeReports,
  noCounts,
} from '@ambit/insight';

export const GROUPS = ['edge', 'workload', 'namespace'] as const;
export type Group = (typeof GROUPS)[number];
export const ORDERS = ['rate', 'errors', 'p99', 'bytes', 'denied'] as const;
export type Order = (typeof ORDERS)[number];

export interface TrafficFilter {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly namespace?: string | undefined;
}

export type Security = 'mTLS' | 'plaintext' | 'mixed' | 'denied' | 'none';

export interface TrafficRow {
  readonly from: string;
  readonly to: string;
  readonly security: Security;
  /** Of the newest connection of it, when it was protected. */
  readonly tls: Edge['tls'];
  readonly protocols: readonly string[];
  readonly seconds: number;
  readonly counts: EdgeCounts;
  /** Share of requests and attempts that failed or were denied; undefined without any. */
  readonly errorShare: number | undefined;
  readonly p50Ms: number | undefined;
  readonly p95Ms: number | undefined;
  readonly p99Ms: number | undefined;
  /** What went wrong since the proxies count, the most frequent first. */
  readonly reasons: readonly string[];
}

/** What happened between two answers of the same ztunnel. */
export function reportSince(now: EdgeReport, before: EdgeReport): EdgeReport {
  const known = new Map(before.edges.map(edge => [keyOf(edge), edge.totals]));
  const hasRestarted = now.sinceMs !== before.sinceMs;
  const edges = now.edges.map(edge => {
    const earlier = hasRestarted ? undefined : known.get(keyOf(edge));
    return { ...edge, totals: countsSince(edge.totals, earlier) };
  });
  return { ...now, edges };
}

/** What happened in the last `minutes` whole minutes. */
export function reportOfMinutes(report: EdgeReport, minutes: number): EdgeReport {
  const end = Math.floor(report.nowMs / 60_000);
  const edges = report.edges.map(edge => {
    const totals = noCounts();
    for (const { minute, counts } of edge.minutes)
      if (minute >= end - minutes && minute < end) addCounts(totals, counts);
    return { ...edge, totals };
  });
  return { ...report, edges };
}

/** @param seconds how long the counts of the reports took */
export function trafficRows(
  reports: readonly EdgeReport[],
  seconds: number,
  filter: TrafficFilter,
  group: Group,
): readonly TrafficRow[] {
  const edges = mergeReports(reports).filter(edge => isWanted(edge, filter) && hasTraffic(edge.totals));
  const groups = Map.groupBy(edges, edge => groupOf(edge, group));
  return [...groups].map(([to, members]) => rowOf(to, members, seconds, group));
}

/** The most remarkable first, and by name among equals. */
export function inOrder(rows: readonly TrafficRow[], order: Order): readonly TrafficRow[] {
  const valueOf = ({ counts, errorShare, p99Ms }: TrafficRow): number =>
    ({
      rate: counts.requests + counts.opened + counts.denied + counts.failed,
      errors: errorShare ?? 0,
      p99: p99Ms ?? 0,
      bytes: counts.bytesToServer + counts.bytesToClient,
      denied: counts.denied,
    })[order];
  const name = ({ from, to }: TrafficRow): string => `${to} ${from}`;
  return rows.toSorted((a, b) => valueOf(b) - valueOf(a) || (name(a) < name(b) ? -1 : Number(name(a) > name(b))));
}

/** `shop/cart`, or `cart.shop.svc...` as `shop/cart` beside its port. */
export function destinationName({ destination, port }: MergedEdge): string {
  return `${destination.name}:${port}`;
}

export function isWanted(
  { source, destination, service }: MergedEdge,
  { from, to, namespace }: TrafficFilter,
): boolean {
  if (from !== undefined && !isNamed(source.name, from)) return false;
  if (to !== undefined && !isNamed(destination.name, to) && !isService(service, to)) return false;
  return namespace === undefined || source.namespace === namespace || destination.namespace === namespace;
}

function isNamed(name: string, wanted: string): boolean {
  return name === wanted || name.endsWith(`/${wanted}`);
}

function isService(hostname: string | undefined, wanted: string): boolean {
  if (hostname === undefined) return false;
  const [name, namespace] = hostname.split('.');
  return wanted === hostname || wanted === name || wanted === `${namespace}/${name}`;
}

function rowOf(to: string, edges: readonly MergedEdge[], seconds: number, group: Group): TrafficRow {
  const counts = noCounts();
  const reasons = new Map<string, number>();
  for (const edge of edges) {
    addCounts(counts, edge.totals);
    for (const [code, count] of Object.entries(edge.reasons)) reasons.set(code, (reasons.get(code) ?? 0) + count);
  }
  const sources = new Set(edges.map(({ source }) => source.name));
  const [only = ''] = sources;
  const newest = edges.toSorted((a, b) => b.lastSeenMs - a.lastSeenMs).find(({ tls }) => tls !== undefined);
  const kinds = new Set(edges.map(securityOf).filter(kind => kind !== 'none'));
  const [kind = 'none'] = kinds;
  const failed = counts.failed + counts.denied;
  const attempts = counts.requests > 0 ? counts.requests + failed : counts.opened + failed;
  return {
    from: sources.size === 1 ? only : `${sources.size} callers`,
    to: group === 'edge' ? to.slice(to.indexOf(' ') + 1) : to,
    security: kinds.size > 1 ? 'mixed' : kind,
    tls: newest?.tls,
    protocols: [...new Set(edges.flatMap(({ protocols }) => protocols))],
    seconds,
    counts,
    errorShare: attempts === 0 ? undefined : Math.min(1, (failed + counts.requestErrors) / attempts),
    p50Ms: latencyAt(counts.latencies, 0.5),
    p95Ms: latencyAt(counts.latencies, 0.95),
    p99Ms: latencyAt(counts.latencies, 0.99),
    reasons: [...reasons].toSorted(([, a], [, b]) => b - a).map(([code]) => code),
  };
}

function securityOf({ totals, tls }: MergedEdge): Security {
  if (totals.opened === 0 && totals.denied > 0) return 'denied';
  if (totals.plaintext > 0) return totals.mutualTls > 0 ? 'mixed' : 'plaintext';
  if (totals.mutualTls > 0) return 'mTLS';
  // Of those that live on since earlier.
  if (totals.bytesToServer + totals.bytesToClient === 0) return 'none';
  return tls === undefined ? 'plaintext' : 'mTLS';
}

function groupOf(edge: MergedEdge, group: Group): string {
  if (group === 'edge') return `${edge.source.name} ${destinationName(edge)}`;
  return group === 'workload' ? edge.destination.name : (edge.destination.namespace ?? 'outside the mesh');
}

function hasTraffic({ opened, failed, denied, requests, bytesToServer, bytesToClient }: EdgeCounts): boolean {
  return opened + failed + denied + requests + bytesToServer + bytesToClient > 0;
}

function keyOf({ reporter, source, destination, service, port }: Edge): string {
  return `${reporter} ${source.name} ${destination.name} ${service ?? ''} ${port}`;
}
