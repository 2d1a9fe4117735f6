// The one fact about a connection that everything else is folded from: access log, metrics, audit, console. It is
// emitted when a connection opens, now and then while it lives, when it closes, and when it is refused before it could open.
// It is plain data that survives structured cloning; identities say whether they were proven by TLS or only looked up.
// Counters are folds over `fresh`, which no two records share: whoever adds it up needs no memory of the connection.
import type { ReasonCode, ServiceSummary, SocketAddress, WorkloadSummary } from '@ambit/mesh';
import type { L7Protocol, L7Request } from './l7/types.ts';

/** One side of a connection, as far as it is known. */
export interface RecordPeer {
  readonly address: SocketAddress;
  readonly workload?: WorkloadSummary | undefined;
  /** SPIFFE ID text proven by mutual TLS on this connection; absent for plaintext. */
  readonly identity?: string | undefined;
}

/** What protects the connection on the wire. */
export interface RecordTls {
  readonly version: string;
  /** IANA suite name, such as `TLS_AES_128_GCM_SHA256`. */
  readonly suite: string;
  /** Key-exchange group, such as `X25519MLKEM768`. */
  readonly group: string;
}

/** What no earlier record of the same connection has told. */
export interface RecordNews {
  /** Whether it tells of the opening: the first record about a connection that upstream would count as opened. */
  readonly opened: boolean;
  readonly bytesToServer: number;
  readonly bytesToClient: number;
  /** Segments sent again on the network socket that carries it; a tunnel's count in each of its streams. */
  readonly retransmits: number;
  /** Requests that were read from its plaintext; absent when there are none. */
  readonly requests?: readonly RequestTally[] | undefined;
  /** Requests left out of `requests`: a connection has too many different ones, or more under way than are followed. */
  readonly untalliedRequests: number;
}

/**
 * Requests of one connection that are alike. Bounds of `durations` are `REQUEST_BUCKETS`, of the sizes the same numbers
 * in bytes; each list has one count more, for what is larger.
 */
export interface RequestTally {
  readonly protocol: L7Protocol;
  readonly status: number;
  readonly grpcStatus?: number | undefined;
  /** '' unless it is asked for (bounded, and off by default, for HTTP; always the command for databases). */
  readonly method: string;
  /** Path template, '' unless asked for. */
  readonly path: string;
  readonly error?: string | undefined;
  readonly flags?: 'DC' | 'UC' | undefined;
  /** 0 when only messages of calls that go on are told. */
  readonly count: number;
  readonly durationSumMs: number;
  readonly durations: readonly number[];
  readonly requestBytes: number;
  readonly requestSizes: readonly number[];
  readonly responseBytes: number;
  readonly responseSizes: readonly number[];
  readonly requestMessages: number;
  readonly responseMessages: number;
}

/** One request and the connection that carried it: told only while somebody reads single requests. */
export interface RequestRecord {
  /** As it is now; `fresh` tells nothing. One object for the requests of a connection that are told together. */
  readonly connection: ConnectionRecord;
  readonly request: L7Request;
  /** Milliseconds since the Unix epoch. */
  readonly startedAtMs: number;
}

/** Upper bounds of request histograms: milliseconds, and bytes for sizes. Envoy's, which Istio's dashboards expect. */
export const REQUEST_BUCKETS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];

export interface ConnectionRecord {
  /**
   * `open`: it carries bytes from now on; told only when somebody reads it. `progress`: it lives on. `refused`: no connection
   * came to be (upstream calls it an early deny); it has no separate open or close.
   */
  readonly event: 'open' | 'progress' | 'close' | 'refused';
  /** Unique within this process's life: worker index and counter, such as `0-17`. */
  readonly id: string;
  /** uid of the local pod. */
  readonly pod: string;
  readonly direction: 'outbound' | 'inbound';
  readonly protocol: 'HBONE' | 'DOUBLEHBONE' | 'TCP';
  /** Milliseconds since the Unix epoch at which handling began. */
  readonly startedAtMs: number;
  readonly source: RecordPeer;
  /** Outbound: the address dialled. Inbound HBONE: the address the tunnel was opened to (port 15008). Passthrough: the original destination. */
  readonly destination: RecordPeer;
  /** What the client asked for before any translation; outbound only. */
  readonly originalDestination?: SocketAddress | undefined;
  /** `:authority` of the CONNECT request; HBONE only. */
  readonly hboneAuthority?: string | undefined;
  readonly service?: ServiceSummary | undefined;
  readonly tls?: RecordTls | undefined;
  /** 32 hexadecimal digits that both ends share. */
  readonly traceId?: string | undefined;
  /** What the plaintext turned out to be, as far as it was read. */
  readonly l7?: L7Protocol | undefined;
  readonly fresh: RecordNews;
  /** Smoothed round-trip time of the network socket that carries it, in milliseconds (TCP_INFO). */
  readonly rttMs?: number | undefined;
  /** Bytes from the client towards the server, delivered to the next hop. */
  readonly bytesToServer: number;
  /** Bytes from the server towards the client, delivered to the next hop. */
  readonly bytesToClient: number;
  /** Whole life in milliseconds, fractional; 0 at open. */
  readonly durationMs: number;
  /** Time until the upstream (tunnel stream or application) answered, milliseconds; absent when it never did. */
  readonly connectMs?: number | undefined;
  /** Why it failed or was refused; absent for a clean end. */
  readonly reason?: ReasonCode | undefined;
  /** Upstream's wording of the same, for the access log. */
  readonly error?: string | undefined;
  /** `namespace/name` of the policy that decided, when one did. */
  readonly policy?: string | undefined;
}
