// Folds connection records into edges, in the process that sees them. Bounded: the edge that was quiet longest makes room,
// minutes and failures are rings. Pure apart from what it keeps; records of canaries are none of its business.
import type { ConnectionRecord, RecordPeer } from '@ambit/proxy';
import { addTally, type GrowingCounts, noCounts } from './counts.ts';
import type { Edge, EdgeEnd, EdgeEvent, EdgeMinute, EdgeReport, Reporter } from './edge-shape.ts';
import { isDenied } from './record-filter.ts';

const MINUTE_MS = 60_000;
const MAX_MINUTES = 15;
const MAX_FAILURES = 5;
const MAX_REASONS = 16;
const MAX_PROTOCOLS = 4;
const OTHER_REASONS = 'other';

export interface EdgeTableLimits {
  /** Edges at most; about 4 KiB each. */
  readonly maxEdges: number;
}

interface Draft {
  readonly reporter: Reporter;
  readonly sourceName: string;
  readonly sourceNamespace: string | undefined;
  readonly destinationName: string;
  readonly destinationNamespace: string | undefined;
  readonly service: string | undefined;
  readonly port: number;
  readonly firstSeenMs: number;
  lastSeenMs: number;
  targetPort: number;
  sourceIdentity: string | undefined;
  destinationIdentity: string | undefined;
  tls: Edge['tls'];
  readonly protocols: Set<string>;
  readonly totals: GrowingCounts;
  readonly reasons: Map<string, number>;
  readonly minutes: Array<{ readonly minute: number; readonly counts: GrowingCounts }>;
  last: EdgeEvent | undefined;
  readonly failures: EdgeEvent[];
}

export class EdgeTable {
  readonly #maxEdges: number;
  /** In order of last use, the quietest first. */
  readonly #edges = new Map<string, Draft>();
  readonly #sinceMs: number;
  #forgotten = 0;

  constructor({ maxEdges }: EdgeTableLimits, nowMs: number) {
    this.#maxEdges = maxEdges;
    this.#sinceMs = nowMs;
  }

  /** @returns whether its edge was not known before */
  add(record: ConnectionRecord, nowMs: number): boolean {
    const [draft, isNew] = this.#draft(record, nowMs);
    draft.lastSeenMs = nowMs;
    draft.targetPort = targetPortOf(record);
    noteSecurity(draft, record);
    const minute = minuteOf(draft, Math.floor(nowMs / MINUTE_MS));
    for (const counts of [draft.totals, minute]) count(counts, record);
    if (record.reason !== undefined) noteReason(draft, record.reason);
    if (record.event !== 'progress' || record.fresh.opened) noteEvent(draft, record);
    return isNew;
  }

  report(node: string | undefined, nowMs: number): EdgeReport {
    const edges = [...this.#edges.values()].map(finish);
    return { version: 1, node, nowMs, sinceMs: this.#sinceMs, edges, forgotten: this.#forgotten };
  }

  #draft(record: ConnectionRecord, nowMs: number): [draft: Draft, isNew: boolean] {
    const reporter = record.direction === 'outbound' ? 'source' : 'destination';
    const port = portOf(record);
    const source = endOf(record.source);
    const destination = endOf(record.destination);
    const key = `${reporter}|${source.name}|${destination.name}|${record.service?.hostname ?? ''}|${port}`;
    const known = this.#edges.get(key);
    if (known !== undefined) {
      this.#edges.delete(key);
      this.#edges.set(key, known);
      return [known, false];
    }
    const draft: Draft = {
      reporter,
      sourceName: source.name,
      sourceNamespace: source.namespace,
      destinationName: destination.name,
      destinationNamespace: destination.namespace,
      service: record.service?.hostname,
      port,
      firstSeenMs: nowMs,
      lastSeenMs: nowMs,
      targetPort: port,
      sourceIdentity: undefined,
      destinationIdentity: undefined,
      tls: undefined,
      protocols: new Set(),
      totals: noCounts(),
      reasons: new Map(),
      minutes: [],
      last: undefined,
      failures: [],
    };
    this.#edges.set(key, draft);
    if (this.#edges.size > this.#maxEdges) {
      const [quietest] = this.#edges.keys();
      if (quietest !== undefined) this.#edges.delete(quietest);
      this.#forgotten++;
    }
    return [draft, true];
  }
}

/** The workload rather than the pod: pods come and go. */
function endOf({ workload, address }: RecordPeer): { readonly name: string; readonly namespace: string | undefined } {
  if (workload === undefined) return { name: address.ip, namespace: undefined };
  const name = workload.workloadName || workload.name || workload.canonicalName;
  return { name: `${workload.namespace}/${name}`, namespace: workload.namespace };
}

/** What the client asked for where that is known, else where it arrived. */
function portOf({ originalDestination, hboneAuthority, destination }: ConnectionRecord): number {
  if (originalDestination !== undefined) return originalDestination.port;
  return authorityPort(hboneAuthority) ?? destination.address.port;
}

/** Where it arrives. */
function targetPortOf({ hboneAuthority, destination }: ConnectionRecord): number {
  return authorityPort(hboneAuthority) ?? destination.address.port;
}

function authorityPort(authority: string | undefined): number | undefined {
  const port = Number(authority?.slice(authority.lastIndexOf(':') + 1));
  return Number.isInteger(port) && port > 0 ? port : undefined;
}

function noteSecurity(draft: Draft, { source, destination, tls, l7 }: ConnectionRecord): void {
  draft.sourceIdentity = source.identity ?? draft.sourceIdentity;
  draft.destinationIdentity = destination.identity ?? draft.destinationIdentity;
  draft.tls = tls ?? draft.tls;
  if (l7 !== undefined && draft.protocols.size < MAX_PROTOCOLS) draft.protocols.add(l7);
}

function count(counts: GrowingCounts, record: ConnectionRecord): void {
  const { fresh, reason, event } = record;
  // Upstream's counter calls a connection opened before anybody answered; here it is one that could carry bytes.
  if (fresh.opened && record.connectMs !== undefined) {
    counts.opened++;
    if (record.protocol === 'TCP') counts.plaintext++;
    else counts.mutualTls++;
    counts.connectMs += record.connectMs;
    counts.connects++;
  }
  if (event === 'close' && record.connectMs !== undefined) counts.closed++;
  if (reason !== undefined) {
    if (isDenied(record)) counts.denied++;
    else if (!reason.startsWith('drain.')) counts.failed++;
    if (reason.startsWith('tls.') || reason.startsWith('identity.')) counts.handshakeFailed++;
  }
  counts.bytesToServer += fresh.bytesToServer;
  counts.bytesToClient += fresh.bytesToClient;
  counts.retransmits += fresh.retransmits;
  for (const tally of fresh.requests ?? []) addTally(counts, tally);
  counts.requests += fresh.untalliedRequests;
}

function minuteOf(draft: Draft, minute: number): GrowingCounts {
  const last = draft.minutes.at(-1);
  // A clock that was set back adds to the newest minute there is.
  if (last !== undefined && last.minute >= minute) return last.counts;
  const counts = noCounts();
  draft.minutes.push({ minute, counts });
  if (draft.minutes.length > MAX_MINUTES) draft.minutes.shift();
  return counts;
}

function noteReason(draft: Draft, reason: string): void {
  const key = draft.reasons.has(reason) || draft.reasons.size < MAX_REASONS - 1 ? reason : OTHER_REASONS;
  draft.reasons.set(key, (draft.reasons.get(key) ?? 0) + 1);
}

function noteEvent(draft: Draft, record: ConnectionRecord): void {
  const { address: source } = record.source;
  const { address: destination } = record.destination;
  const event: EdgeEvent = {
    atMs: record.startedAtMs + record.durationMs,
    event: record.event === 'refused' ? 'refused' : record.event === 'close' ? 'closed' : 'opened',
    source: `${source.ip} ${source.port}`,
    destination: `${destination.ip} ${destination.port}`,
    reason: record.reason,
    error: record.error,
    policy: record.policy,
    durationMs: record.durationMs,
  };
  draft.last = event;
  if (record.reason === undefined) return;
  draft.failures.push(event);
  if (draft.failures.length > MAX_FAILURES) draft.failures.shift();
}

function finish(draft: Draft): Edge {
  const source: EdgeEnd = { name: draft.sourceName, namespace: draft.sourceNamespace, identity: draft.sourceIdentity };
  const destination: EdgeEnd = {
    name: draft.destinationName,
    namespace: draft.destinationNamespace,
    identity: draft.destinationIdentity,
  };
  return {
    reporter: draft.reporter,
    source,
    destination,
    service: draft.service,
    port: draft.port,
    targetPort: draft.targetPort,
    tls: draft.tls,
    protocols: [...draft.protocols],
    firstSeenMs: draft.firstSeenMs,
    lastSeenMs: draft.lastSeenMs,
    totals: draft.totals,
    reasons: Object.fromEntries(draft.reasons),
    minutes: draft.minutes satisfies readonly EdgeMinute[],
    last: draft.last,
    failures: draft.failures,
  };
}
