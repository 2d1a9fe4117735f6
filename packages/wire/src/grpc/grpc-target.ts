// Whom a gRPC connection goes to. Data and functions only; transport.ts opens it.

/** Whom to call, how to know it, and what to say in each call. Functions are asked again each time, so files may change. */
export interface GrpcTarget {
  /**
   * `https://host:port`; `http://` for loopback addresses only; `unix:/path` for a socket of this machine.
   * The path of a URL is ignored.
   */
  readonly url: string;
  /** PEM text of one or more roots, or `system`; asked at each connect. Not asked without TLS. */
  readonly roots: () => Promise<string>;
  /** Another name that the server's certificate may bear. */
  readonly altName?: string | undefined;
  /** Asked for each call; values must be what HTTP allows. */
  readonly headers: () => Promise<Readonly<Record<string, string>>>;
  /** For TCP, TLS and HTTP/2's first frame together; 5000. */
  readonly connectTimeoutMs?: number | undefined;
  /** OpenSSL group list; default: hybrid ML-KEM and X25519 offered at once, P-256, P-384. */
  readonly groups?: string | undefined;
  /** While a call is open: how often to PING, and how long to wait for the answer; 30 000 and 10 000. */
  readonly keepalive?: { readonly intervalMs: number; readonly timeoutMs: number } | undefined;
}
