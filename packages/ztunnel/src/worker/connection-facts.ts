// What is known of one connection while it lives, and how it becomes a record. One object a connection, with references
// to what routes share; the record itself is made only when it is told.
import type { ReasonCode, ServiceSummary, SocketAddress, WorkloadSummary } from '@ambit/mesh';
import type { TcpHealth } from '@ambit/native';
import type { ConnectionRecord, L7Protocol, RecordNews, RecordTls, RequestTallies, StreamEnd } from '@ambit/proxy';

/** Plain data: it moves with a connection that is handed to another worker. */
export interface ConnectionFacts {
  readonly id: string;
  readonly pod: string;
  readonly direction: 'outbound' | 'inbound';
  readonly startedAtMs: number;
  protocol: 'HBONE' | 'DOUBLEHBONE' | 'TCP';
  source: SocketAddress;
  sourceWorkload: WorkloadSummary | undefined;
  sourceIdentity: string | undefined;
  destination: SocketAddress;
  destinationWorkload: WorkloadSummary | undefined;
  destinationIdentity: string | undefined;
  originalDestination: SocketAddress | undefined;
  authority: string | undefined;
  service: ServiceSummary | undefined;
  tls: RecordTls | undefined;
  traceId: string | undefined;
  connectMs: number | undefined;
  policy: string | undefined;
  /** The mesh's own proof that it works, not anybody's traffic: told of only when it fails. */
  readonly isCanary: boolean;
  readonly told: Told;
}

/** What records have told of a connection so far. */
export interface Told {
  opened: boolean;
  bytesToServer: number;
  bytesToClient: number;
  /** Of the network socket, those of its earlier life included. */
  retransmits: number;
}

export function nothingTold(): Told {
  return { opened: false, bytesToServer: 0, bytesToClient: 0, retransmits: 0 };
}

export interface RecordOutcome {
  readonly event: ConnectionRecord['event'];
  readonly bytesToServer: number;
  readonly bytesToClient: number;
  readonly reason: ReasonCode | undefined;
  readonly error: string | undefined;
  readonly network?: Readonly<TcpHealth> | undefined;
  readonly l7?: L7Finding | undefined;
}

/** What was read of a connection's plaintext. */
export interface L7Finding {
  readonly protocol: L7Protocol | undefined;
  readonly tallies: RequestTallies;
}

/** It carries bytes from now on. */
export const OPENED: RecordOutcome = {
  event: 'open',
  bytesToServer: 0,
  bytesToClient: 0,
  reason: undefined,
  error: undefined,
};

/** No connection came to be: upstream's early deny, which has no open and close of its own. */
export function refused(reason: ReasonCode, error: string): RecordOutcome {
  return { event: 'refused', bytesToServer: 0, bytesToClient: 0, reason, error };
}

/** It lives on and has carried these bytes so far. */
export function ongoing(
  bytesToServer: number,
  bytesToClient: number,
  network: Readonly<TcpHealth>,
  l7: L7Finding | undefined,
): RecordOutcome {
  return { event: 'progress', bytesToServer, bytesToClient, reason: undefined, error: undefined, network, l7 };
}

/** It ended, one way or the other, after carrying these bytes. */
export function closed(
  end: StreamEnd,
  bytesToServer: number,
  bytesToClient: number,
  network?: Readonly<TcpHealth>,
  l7?: L7Finding,
): RecordOutcome {
  const failure = end.kind === 'failed' ? end : undefined;
  return { event: 'close', bytesToServer, bytesToClient, reason: failure?.reason, error: failure?.error, network, l7 };
}

/** Whether a record of it would tell something that counts. */
export function hasNews({ told }: ConnectionFacts, outcome: RecordOutcome): boolean {
  return (
    !told.opened ||
    outcome.bytesToServer !== told.bytesToServer ||
    outcome.l7?.tallies.hasNews === true ||
    outcome.bytesToClient !== told.bytesToClient
  );
}

const NO_REQUESTS = { requests: undefined, untalliedRequests: 0 };

/** What this outcome adds to what was told; it counts as told from now on. */
function takeNews(
  { told }: ConnectionFacts,
  { event, bytesToServer, bytesToClient, network, l7 }: RecordOutcome,
): RecordNews {
  const retransmits = network?.totalRetransmits ?? told.retransmits;
  const news: RecordNews = {
    opened: event !== 'refused' && !told.opened,
    bytesToServer: bytesToServer - told.bytesToServer,
    bytesToClient: bytesToClient - told.bytesToClient,
    retransmits: Math.max(0, retransmits - told.retransmits),
    ...(l7?.tallies.hasNews === true ? l7.tallies.take() : NO_REQUESTS),
  };
  told.opened = true;
  told.bytesToServer = bytesToServer;
  told.bytesToClient = bytesToClient;
  told.retransmits = retransmits;
  return news;
}

/** The connection as it is, as context for something that happened on it: it tells nothing that counts. */
export function contextOf(facts: ConnectionFacts): ConnectionRecord {
  return recordOf({ ...facts, told: { ...facts.told, opened: true } }, { ...OPENED, ...facts.told, event: 'progress' });
}

export function recordOf(facts: ConnectionFacts, outcome: RecordOutcome): ConnectionRecord {
  return {
    event: outcome.event,
    id: facts.id,
    pod: facts.pod,
    direction: facts.direction,
    protocol: facts.protocol,
    startedAtMs: facts.startedAtMs,
    source: { address: facts.source, workload: facts.sourceWorkload, identity: facts.sourceIdentity },
    destination: {
      address: facts.destination,
      workload: facts.destinationWorkload,
      identity: facts.destinationIdentity,
    },
    originalDestination: facts.originalDestination,
    hboneAuthority: facts.authority,
    service: facts.service,
    tls: facts.tls,
    traceId: facts.traceId,
    l7: outcome.l7?.protocol,
    fresh: takeNews(facts, outcome),
    rttMs: outcome.network === undefined ? undefined : outcome.network.rttUs / 1000,
    bytesToServer: outcome.bytesToServer,
    bytesToClient: outcome.bytesToClient,
    durationMs: outcome.event === 'open' ? 0 : Math.max(0, wallNow() - facts.startedAtMs),
    connectMs: facts.connectMs,
    reason: outcome.reason,
    error: outcome.error,
    policy: facts.policy,
  };
}

/** Milliseconds since the Unix epoch with a fraction; monotonic within the process. */
export function wallNow(): number {
  return performance.timeOrigin + performance.now();
}
