// What is known of one connection while it lives, and how it becomes a record. One object a connection, with references
// to what routes share; the record itself is made only when it is told.
import type { ReasonCode, ServiceSummary, SocketAddress, WorkloadSummary } from '@ambit/mesh';
import type { ConnectionRecord, RecordTls, StreamEnd } from '@ambit/proxy';

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
}

export interface RecordOutcome {
  readonly event: ConnectionRecord['event'];
  readonly bytesToServer: number;
  readonly bytesToClient: number;
  readonly reason: ReasonCode | undefined;
  readonly error: string | undefined;
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

/** It ended, one way or the other, after carrying these bytes. */
export function closed(end: StreamEnd, bytesToServer: number, bytesToClient: number): RecordOutcome {
  const failure = end.kind === 'failed' ? end : undefined;
  return { event: 'close', bytesToServer, bytesToClient, reason: failure?.reason, error: failure?.error };
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
