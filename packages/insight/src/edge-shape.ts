// An edge as it leaves the process that saw it: who talked to whom, how, and how it went. Plain JSON, and the contract
// between the node proxy (which folds records), its admin port (`/edges`) and the commands that show it.
import type { ReasonCode } from '@ambit/mesh';

/** Which end of the connections told. The same connection may be told of by both. */
export type Reporter = 'source' | 'destination';

/** One side of an edge. */
export interface EdgeEnd {
  /** `namespace/workload`, or the address of one that the mesh does not know. */
  readonly name: string;
  readonly namespace: string | undefined;
  /** SPIFFE ID last proven by mutual TLS to this proxy. */
  readonly identity: string | undefined;
}

/** What happened, as numbers that only grow. Sums of milliseconds and bytes; histogram bounds are `LATENCY_BOUNDS_MS`. */
export interface EdgeCounts {
  readonly opened: number;
  readonly closed: number;
  /** Ended by, or refused for, something that is not a policy. */
  readonly failed: number;
  readonly denied: number;
  /** Of the opened ones, by what protected them. */
  readonly mutualTls: number;
  readonly plaintext: number;
  /** Failures of a TLS handshake or of an identity. */
  readonly handshakeFailed: number;
  readonly bytesToServer: number;
  readonly bytesToClient: number;
  readonly retransmits: number;
  /** Time until the other side answered, and how many said. */
  readonly connectMs: number;
  readonly connects: number;
  readonly requests: number;
  /** HTTP status classes 1xx to 5xx; requests of other protocols and those without an answer are in none. */
  readonly statuses: readonly number[];
  /** Requests that failed by their protocol's own word: 5xx, a gRPC status that is an error of the server, a database error, no answer. */
  readonly requestErrors: number;
  readonly requestMs: number;
  /** Requests by duration, one count more than bounds. */
  readonly latencies: readonly number[];
}

/** The counts of one minute. */
export interface EdgeMinute {
  /** Minutes since the Unix epoch. */
  readonly minute: number;
  readonly counts: EdgeCounts;
}

/** One connection that ended badly, or the last one of all. */
export interface EdgeEvent {
  readonly atMs: number;
  readonly event: 'opened' | 'closed' | 'refused';
  readonly source: string;
  readonly destination: string;
  readonly reason: ReasonCode | undefined;
  readonly error: string | undefined;
  readonly policy: string | undefined;
  readonly durationMs: number;
}

export interface Edge {
  readonly reporter: Reporter;
  readonly source: EdgeEnd;
  readonly destination: EdgeEnd;
  /** Host name of the service that was asked for, and the port. */
  readonly service: string | undefined;
  readonly port: number;
  /** Where it last arrived at the destination itself: a service may lead port 80 to 8080. */
  readonly targetPort?: number | undefined;
  readonly tls: { readonly version: string; readonly suite: string; readonly group: string } | undefined;
  /** What was read of its plaintext. */
  readonly protocols: readonly string[];
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  readonly totals: EdgeCounts;
  /** Failures and denials by reason code, at most 16 kinds. */
  readonly reasons: Readonly<Record<string, number>>;
  /** The newest last; minutes without traffic are absent. At most 15. */
  readonly minutes: readonly EdgeMinute[];
  readonly last: EdgeEvent | undefined;
  /** The newest last, at most 5. */
  readonly failures: readonly EdgeEvent[];
}

/** What `/edges` answers. */
export interface EdgeReport {
  readonly version: 1;
  readonly node: string | undefined;
  readonly nowMs: number;
  /** Since when it counts. */
  readonly sinceMs: number;
  readonly edges: readonly Edge[];
  /** Edges that were forgotten because there were too many. */
  readonly forgotten: number;
}
