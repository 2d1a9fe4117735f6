// Folds the proxies' connection records into edges: who talked to whom, and what is proven about it. Both ends of a
// connection may tell; each identity is taken from the end that verified it (the destination proves the source, and the
// reverse). Names come from the mesh, identities and TLS from handshakes; nothing comes from what the demo intended.
import type { SeenRecord, SeenTls } from './record.ts';

/** What is known of the traffic from one workload to another. */
export interface Edge {
  readonly source: string;
  readonly destination: string;
  readonly sourceIdentity: string | undefined;
  readonly destinationIdentity: string | undefined;
  /** `HBONE` or `TCP`; undefined while no connection was established. */
  readonly tunnel: string | undefined;
  readonly tls: SeenTls | undefined;
  readonly encryptedConnections: number;
  readonly plaintextConnections: number;
  /** How the last connection went, or ended by a policy; undefined while there is none. Policies change. */
  readonly now: 'encrypted' | 'plaintext' | 'denied' | undefined;
  /** Refused by a policy. */
  readonly denied: number;
  /** Failed or refused for another reason; at the start, before certificates are there, some are normal. */
  readonly failed: number;
  readonly policy: string | undefined;
  /** Reason code of the last denial or failure. */
  readonly reason: string | undefined;
  /** Of connections that have ended. */
  readonly bytes: number;
}

/** Connections as one of their two ends tells. */
interface EndTally {
  encrypted: number;
  plaintext: number;
  denied: number;
  failed: number;
  bytes: number;
}

interface Draft {
  readonly source: string;
  readonly destination: string;
  readonly ends: Record<SeenRecord['direction'], EndTally>;
  sourceIdentity: string | undefined;
  sourceVerified: boolean;
  destinationIdentity: string | undefined;
  destinationVerified: boolean;
  tunnel: string | undefined;
  tls: SeenTls | undefined;
  now: Edge['now'];
  policy: string | undefined;
  denialReason: string | undefined;
  failureReason: string | undefined;
}

export class EdgeBook {
  readonly #drafts = new Map<string, Draft>();

  /** @returns whether connections of its edge go another way than before */
  add(record: SeenRecord): boolean {
    const draft = this.#draft(record.source.name ?? record.source.ip, record.destination.name ?? record.destination.ip);
    noteIdentities(draft, record);
    const end = draft.ends[record.direction];
    const before = draft.now;
    if (record.event !== 'open') end.bytes += record.bytes;
    if (record.event === 'open') noteOpen(draft, end, record);
    else if (record.reason !== undefined) noteFailure(draft, end, record);
    return draft.now !== before;
  }

  edges(): Edge[] {
    return [...this.#drafts.values()].map(finish);
  }

  #draft(source: string, destination: string): Draft {
    const key = `${source} ${destination}`;
    const known = this.#drafts.get(key);
    if (known !== undefined) return known;
    const draft: Draft = {
      source,
      destination,
      ends: { outbound: emptyTally(), inbound: emptyTally() },
      sourceIdentity: undefined,
      sourceVerified: false,
      destinationIdentity: undefined,
      destinationVerified: false,
      tunnel: undefined,
      tls: undefined,
      now: undefined,
      policy: undefined,
      denialReason: undefined,
      failureReason: undefined,
    };
    this.#drafts.set(key, draft);
    return draft;
  }
}

function emptyTally(): EndTally {
  return { encrypted: 0, plaintext: 0, denied: 0, failed: 0, bytes: 0 };
}

function noteIdentities(draft: Draft, { direction, source, destination, tls }: SeenRecord): void {
  if (tls === undefined) return;
  const isInbound = direction === 'inbound';
  if (source.identity !== undefined && (isInbound || !draft.sourceVerified)) {
    draft.sourceIdentity = source.identity;
    draft.sourceVerified ||= isInbound;
  }
  if (destination.identity !== undefined && (!isInbound || !draft.destinationVerified)) {
    draft.destinationIdentity = destination.identity;
    draft.destinationVerified ||= !isInbound;
  }
  draft.tls = tls;
  draft.tunnel ??= 'HBONE';
}

function noteOpen(draft: Draft, end: EndTally, { protocol, tls }: SeenRecord): void {
  draft.now = tls === undefined ? 'plaintext' : 'encrypted';
  if (tls === undefined) {
    end.plaintext++;
    draft.tunnel = protocol;
    return;
  }
  end.encrypted++;
  // Once plaintext, always said so.
  if (draft.ends.outbound.plaintext + draft.ends.inbound.plaintext === 0) draft.tunnel = protocol;
}

function noteFailure(draft: Draft, end: EndTally, { reason, policy }: SeenRecord): void {
  if (reason?.startsWith('policy.') !== true) {
    end.failed++;
    draft.failureReason = reason;
    return;
  }
  draft.now = 'denied';
  end.denied++;
  draft.policy = policy ?? draft.policy;
  draft.denialReason = reason;
}

function finish(draft: Draft): Edge {
  const { outbound, inbound } = draft.ends;
  return {
    source: draft.source,
    destination: draft.destination,
    sourceIdentity: draft.sourceIdentity,
    destinationIdentity: draft.destinationIdentity,
    tunnel: draft.tunnel,
    tls: draft.tls,
    now: draft.now,
    // Each connection is told by one end or by both: the end that tells more has seen all.
    encryptedConnections: Math.max(outbound.encrypted, inbound.encrypted),
    plaintextConnections: Math.max(outbound.plaintext, inbound.plaintext),
    denied: Math.max(outbound.denied, inbound.denied),
    failed: Math.max(outbound.failed, inbound.failed),
    policy: draft.policy,
    reason: draft.denialReason ?? draft.failureReason,
    bytes: Math.max(outbound.bytes, inbound.bytes),
  };
}
