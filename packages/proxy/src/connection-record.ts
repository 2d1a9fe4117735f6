// The one fact about a connection that everything else is folded from: access log, metrics, audit, console. It is
// emitted when a connection opens, when it closes, and when it is refused before it could open. It is plain data that
// survives structured cloning; identities say whether they were proven by TLS or only looked up.
import type { ReasonCode, ServiceSummary, SocketAddress, WorkloadSummary } from '@ambit/mesh';

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

export interface ConnectionRecord {
  /** `refused`: no connection came to be (upstream calls it an early deny); it has no separate open or close. */
  readonly event: 'open' | 'close' | 'refused';
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
