// What `ambit why` says: the plan of the configuration beside what the last real connections did. Where the two disagree,
// reality comes first. Pure.
import {
  addCounts,
  type EdgeCounts,
  type EdgeEvent,
  type GrowingCounts,
  isDenied,
  type MergedEdge,
  noCounts,
} from '@ambit/insight';
import {
  type ConnectionExplanation,
  type ExplainReason,
  isReasonCode,
  type MeshView,
  parseIp,
  reasonOf,
  type Workload,
} from '@ambit/mesh';

export interface Seen {
  /** How far back, minutes. */
  readonly minutes: number;
  readonly counts: EdgeCounts;
  readonly last: EdgeEvent | undefined;
  /** Newest first, without repeats. */
  readonly failures: readonly EdgeEvent[];
  readonly tls: MergedEdge['tls'];
  /** Whether any of what was asked for could have been seen at its source. */
  readonly reporters: readonly string[];
}

export type WhyVerdict = 'allowed' | 'denied' | 'fails' | 'plaintext' | 'unknown';

export interface WhyAnswer {
  readonly verdict: WhyVerdict;
  readonly reason: ExplainReason | undefined;
  readonly summary: string;
  readonly plan: ConnectionExplanation;
  readonly seen: Seen;
  /** How plan and reality disagree, when they do. */
  readonly disagreement: string | undefined;
  readonly next: string;
  /** Page about the reason code. */
  readonly page: string | undefined;
}

const MINUTES = 10;
const WINDOW_MS = MINUTES * 60_000;

/** @param edges merged, of all ztunnels that answered */
export function whyAnswer(
  plan: ConnectionExplanation,
  view: MeshView,
  network: string,
  edges: readonly MergedEdge[],
  nowMs: number,
): WhyAnswer {
  const seen = seenOf(edgesOf(plan, view, network, edges), nowMs);
  const { last } = seen;
  const isRecent = last !== undefined && nowMs - last.atMs < WINDOW_MS;
  const failure = isRecent && isFailure(last) ? last : undefined;
  const base = { plan, seen };
  if (plan.verdict === 'unknown' || plan.verdict === 'denied') {
    const goesThrough = plan.verdict === 'denied' && isRecent && failure === undefined && seen.counts.opened > 0;
    const disagreement = goesThrough
      ? 'the last connection went through all the same: the policy is newer than it, or has not arrived at the destination yet'
      : undefined;
    const { verdict, reason, summary, next } = plan;
    return { ...base, verdict, reason, summary, disagreement, next, page: pageOf(reason) };
  }
  if (failure?.reason === undefined) {
    const { verdict, reason, next } = plan;
    const isQuiet = plan.source !== undefined && !isRecent;
    const summary = isQuiet ? `${plan.summary}; no traffic seen` : plan.summary;
    return { ...base, verdict, reason, summary, disagreement: undefined, next, page: pageOf(reason) };
  }
  const { reason, policy } = failure;
  const isDenial = isDenied(failure);
  const { sentence, hint } = reasonOf(reason);
  const by = policy === undefined || !reason.startsWith('policy.') ? '' : ` (policy ${policy})`;
  return {
    ...base,
    verdict: isDenial ? 'denied' : 'fails',
    reason,
    summary: `${sentence}${by}`,
    disagreement: 'the configuration allows it, and the last real connection did not come through',
    next: hint,
    page: pageOf(reason),
  };
}

/** `docs/reasons/tls.md#tlsuntrusted_root`. */
function pageOf(reason: ExplainReason | undefined): string | undefined {
  if (reason === undefined || !isReasonCode(reason)) return undefined;
  return `docs/reasons/${reason.slice(0, reason.indexOf('.'))}.md#${reason.replace('.', '')}`;
}

/** It did not come to be, or was cut for a cause that is not an application's or a shutdown's. */
function isFailure({ reason }: EdgeEvent): boolean {
  return reason !== undefined && !reason.startsWith('drain.') && !reason.startsWith('peer.');
}

/** The edges that a connection as in the question is part of. */
function edgesOf(
  { source, destination, hops }: ConnectionExplanation,
  view: MeshView,
  network: string,
  edges: readonly MergedEdge[],
): readonly MergedEdge[] {
  if (source === undefined || destination === undefined) return [];
  const named = (ip: string): string => {
    const address = parseIp(ip);
    const workload = address === undefined ? undefined : view.workloadByAddress(network, address);
    return workload === undefined ? ip : edgeName(workload);
  };
  const port = portOf(destination.address);
  const address = parseIp(hostOf(destination.address));
  const owner = address === undefined ? undefined : view.findAddress(network, address, source.name.split('/')[0] ?? '');
  const hostname = owner?.kind === 'service' ? owner.service.hostname : undefined;
  const targets = new Map(hops.map(({ target }) => [named(hostOf(target)), portOf(target)]));
  if (owner?.kind !== 'service') targets.set(named(hostOf(destination.address)), port);
  const from = new Set([source.ip === '' ? source.name : named(source.ip), source.name]);
  return edges.filter(edge => {
    if (!from.has(edge.source.name)) return false;
    if (hostname !== undefined && edge.service === hostname && edge.port === port) return true;
    const target = targets.get(edge.destination.name);
    // A proxy that could not find out where to lead it tells of the address that was asked for.
    if (target === undefined) return edge.destination.name === hostOf(destination.address) && edge.port === port;
    if (edge.service !== undefined && hostname !== undefined && edge.service !== hostname) return false;
    return edge.port === port || edge.port === target || edge.targetPort === target;
  });
}

/** As edges name it: what the pod belongs to. */
function edgeName({ namespace, workloadName, name, canonicalName }: Workload): string {
  return `${namespace}/${workloadName || name || canonicalName}`;
}

function seenOf(edges: readonly MergedEdge[], nowMs: number): Seen {
  const counts: GrowingCounts = noCounts();
  const from = Math.floor(nowMs / 60_000) - MINUTES;
  for (const edge of edges)
    for (const { minute, counts: more } of edge.minutes) if (minute > from) addCounts(counts, more);
  const byTime = edges.toSorted((a, b) => b.lastSeenMs - a.lastSeenMs);
  const lasts = edges.flatMap(({ last }) => (last === undefined ? [] : [last])).toSorted((a, b) => b.atMs - a.atMs);
  const failures = edges.flatMap(edge => edge.failures).toSorted((a, b) => b.atMs - a.atMs);
  return {
    minutes: MINUTES,
    counts,
    last: lasts[0],
    failures: [...new Map(failures.toReversed().map(event => [event.reason, event])).values()].toReversed(),
    tls: byTime.find(({ tls }) => tls !== undefined)?.tls,
    reporters: [...new Set(edges.flatMap(({ reporters }) => reporters))],
  };
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}
