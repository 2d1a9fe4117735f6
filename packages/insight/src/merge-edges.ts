// What several proxies say of the same traffic -> one edge each pair, service and port. Both ends may tell of a connection: it is
// counted once, each fact is taken from the end that proves it (each end proves the other's identity), and latency is the
// source's. Pure; the order of the reports does not matter.
import type { ReasonCode } from '@ambit/mesh';
import { addCounts, type GrowingCounts, noCounts } from './counts.ts';
import type { Edge, EdgeCounts, EdgeEnd, EdgeEvent, EdgeMinute, EdgeReport, Reporter } from './edge-shape.ts';

/** An edge as all who saw it have it together. */
export interface MergedEdge extends Omit<Edge, 'reporter'> {
  /** Who told of it. */
  readonly reporters: readonly Reporter[];
}

/** Both ends tell of one failure within this time, clocks of two nodes and handshakes included. */
const SAME_FAILURE_MS = 10_000;

/** What one end says when only the other end knows the cause. */
const VAGUE: ReadonlySet<string> = new Set([
  'hbone.status',
  'hbone.refused_stream',
  'hbone.reset',
  'hbone.protocol',
  'tls.alert',
  'tls.eof',
  'peer.reset',
  'peer.eof_early',
] satisfies readonly ReasonCode[]);

const MAX_FAILURES = 5;

/** Edges in order of source, destination, service and port. */
export function mergeReports(reports: readonly EdgeReport[]): readonly MergedEdge[] {
  const pairs = Map.groupBy(
    reports.flatMap(({ edges }) => edges),
    ({ source, destination }) => `${source.name} ${destination.name}`,
  );
  return [...pairs.values()].flatMap(mergePair).toSorted(inOrder);
}

/** The edges of two workloads. The source knows the service's port, the destination only its own. */
function mergePair(edges: readonly Edge[]): readonly MergedEdge[] {
  const of = (reporter: Reporter, keyOf: (edge: Edge) => string): Edge[] =>
    [
      ...Map.groupBy(
        edges.filter(edge => edge.reporter === reporter),
        keyOf,
      ).values(),
    ].map(same => same.reduce(sumOf));
  const fromSource = of('source', ({ service, port }) => `${service ?? ''} ${port}`);
  const fromDestination = of('destination', ({ port }) => String(port));
  const merged: MergedEdge[] = [];
  for (const there of fromDestination) {
    const here = fromSource.filter(edge => (edge.targetPort ?? edge.port) === there.port);
    const [only] = here;
    if (only === undefined) merged.push(alone(there));
    else if (here.length === 1) merged.push(together(only, there));
    // One port by several names: the destination cannot tell them apart, so that its counts belong to none of them.
    else merged.push(...here.map(edge => ({ ...together(edge, there), totals: edge.totals, minutes: edge.minutes })));
  }
  const ports = new Set(fromDestination.map(({ port }) => port));
  return [...merged, ...fromSource.filter(edge => !ports.has(edge.targetPort ?? edge.port)).map(alone)];
}

function alone({ reporter, ...edge }: Edge): MergedEdge {
  return { ...edge, reporters: [reporter] };
}

/** The same edge as two proxies of one side saw it: pods of one workload on two nodes. */
function sumOf(a: Edge, b: Edge): Edge {
  const [older, newer] = a.lastSeenMs <= b.lastSeenMs ? [a, b] : [b, a];
  return {
    ...newer,
    source: endOf(newer.source, older.source),
    destination: endOf(newer.destination, older.destination),
    tls: newer.tls ?? older.tls,
    protocols: union(older.protocols, newer.protocols),
    firstSeenMs: Math.min(a.firstSeenMs, b.firstSeenMs),
    totals: sumCounts(a.totals, b.totals),
    reasons: combine(a.reasons, b.reasons, (x, y) => x + y),
    minutes: combineMinutes(a.minutes, b.minutes, sumCounts),
    last: latest([a.last, b.last]),
    failures: newest([...a.failures, ...b.failures]),
  };
}

/** The same connections as their two ends saw them. */
function together(here: Edge, there: Edge): MergedEdge {
  const known = [...here.failures, ...there.failures];
  const last = latest([here.last, there.last]);
  return {
    reporters: ['source', 'destination'],
    source: endOf(there.source, here.source),
    destination: endOf(here.destination, there.destination),
    service: here.service ?? there.service,
    port: here.port,
    targetPort: there.port,
    tls: here.tls ?? there.tls,
    protocols: union(here.protocols, there.protocols),
    firstSeenMs: Math.min(here.firstSeenMs, there.firstSeenMs),
    lastSeenMs: Math.max(here.lastSeenMs, there.lastSeenMs),
    totals: greaterCounts(here.totals, there.totals),
    reasons: causes(here.reasons, there.reasons),
    minutes: combineMinutes(here.minutes, there.minutes, greaterCounts),
    last: last === undefined ? undefined : clearest(last, known),
    failures: newest(known.filter(event => clearest(event, known) === event)),
  };
}

/** What the other end says of the same failure, when this one has only the effect of it. */
function clearest(event: EdgeEvent, known: readonly EdgeEvent[]): EdgeEvent {
  const { reason, atMs } = event;
  if (reason === undefined || !VAGUE.has(reason)) return event;
  const clearer = known.findLast(
    other => other.reason !== undefined && !VAGUE.has(other.reason) && Math.abs(other.atMs - atMs) < SAME_FAILURE_MS,
  );
  return clearer ?? event;
}

/** Of failures that both ends count, the side with causes; what only one side saw stays. */
function causes(here: Edge['reasons'], there: Edge['reasons']): Edge['reasons'] {
  const all = Object.entries(combine(here, there, Math.max));
  const clear = all.filter(([code]) => !VAGUE.has(code));
  let explained = clear.reduce((sum, [, count]) => sum + count, 0);
  const rest = all.flatMap(([code, count]): [string, number][] => {
    if (!VAGUE.has(code)) return [];
    const left = Math.max(0, count - explained);
    explained = Math.max(0, explained - count);
    return left === 0 ? [] : [[code, left]];
  });
  return Object.fromEntries([...clear, ...rest]);
}

/** Of each number the end that saw more; requests are the source's, who waited for them, unless it read none. */
function greaterCounts(here: EdgeCounts, there: EdgeCounts): EdgeCounts {
  const { requests, requestErrors, requestMs, statuses, latencies } = here.requests > 0 ? here : there;
  const greater = (key: NumberKey): number => Math.max(here[key], there[key]);
  return {
    opened: greater('opened'),
    closed: greater('closed'),
    failed: greater('failed'),
    denied: greater('denied'),
    mutualTls: greater('mutualTls'),
    plaintext: greater('plaintext'),
    handshakeFailed: greater('handshakeFailed'),
    bytesToServer: greater('bytesToServer'),
    bytesToClient: greater('bytesToClient'),
    // Each end counts what it sent itself.
    retransmits: here.retransmits + there.retransmits,
    ...(here.connects > 0
      ? { connects: here.connects, connectMs: here.connectMs }
      : { connects: there.connects, connectMs: there.connectMs }),
    requests,
    requestErrors,
    requestMs,
    statuses,
    latencies,
  };
}

type NumberKey = Exclude<keyof EdgeCounts, 'statuses' | 'latencies'>;

function sumCounts(a: EdgeCounts, b: EdgeCounts): EdgeCounts {
  const sum: GrowingCounts = noCounts();
  addCounts(sum, a);
  addCounts(sum, b);
  return sum;
}

function combineMinutes(
  a: readonly EdgeMinute[],
  b: readonly EdgeMinute[],
  how: (a: EdgeCounts, b: EdgeCounts) => EdgeCounts,
): readonly EdgeMinute[] {
  const minutes = new Map(a.map(({ minute, counts }) => [minute, counts]));
  for (const { minute, counts } of b) {
    const known = minutes.get(minute);
    minutes.set(minute, known === undefined ? counts : how(known, counts));
  }
  return [...minutes].toSorted(([x], [y]) => x - y).map(([minute, counts]) => ({ minute, counts }));
}

function combine(a: Edge['reasons'], b: Edge['reasons'], how: (a: number, b: number) => number): Edge['reasons'] {
  const all = new Map(Object.entries(a));
  for (const [code, count] of Object.entries(b)) all.set(code, how(all.get(code) ?? 0, count));
  return Object.fromEntries(all);
}

function endOf(prover: EdgeEnd, other: EdgeEnd): EdgeEnd {
  return { ...prover, identity: prover.identity ?? other.identity };
}

function union(a: readonly string[], b: readonly string[]): readonly string[] {
  return [...new Set([...a, ...b])].toSorted();
}

function latest(events: readonly (EdgeEvent | undefined)[]): EdgeEvent | undefined {
  return events
    .filter(event => event !== undefined)
    .toSorted((a, b) => a.atMs - b.atMs)
    .at(-1);
}

function newest(events: readonly EdgeEvent[]): readonly EdgeEvent[] {
  return events.toSorted((a, b) => a.atMs - b.atMs).slice(-MAX_FAILURES);
}

function inOrder(a: MergedEdge, b: MergedEdge): number {
  const text = ({ source, destination, service }: MergedEdge): string =>
    `${source.name} ${destination.name} ${service ?? ''}`;
  return text(a) < text(b) ? -1 : Number(text(a) > text(b)) || a.port - b.port;
}
