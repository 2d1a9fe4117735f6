// What a handler may know of the call it serves. A client certificate appears only when TLS has verified it.
import type { Http2ServerRequest } from 'node:http2';
import { TLSSocket } from 'node:tls';

/** What a call shows of its caller; nothing of it is proven but the certificate. */
export interface CallCredentials {
  /** Header `authorization`, with its scheme. */
  readonly authorization: string | undefined;
  /** Header `clusterid`. */
  readonly clusterId: string | undefined;
  /** DER of the client certificate, verified against the server's roots; never an unverified one. */
  readonly certificate: Uint8Array | undefined;
  /** `address:port`. */
  readonly peer: string;
}

export interface CallContext {
  readonly credentials: CallCredentials;
  /** Aborted when the peer cancels, the connection is lost, the deadline passes or the call has ended. */
  readonly signal: AbortSignal;
}

export function readCredentials(request: Http2ServerRequest): CallCredentials {
  const header = (name: string) => {
    const value = request.headers[name];
    return typeof value === 'string' ? value : undefined;
  };
  const socket = request.stream.session?.socket;
  return {
    authorization: header('authorization'),
    clusterId: header('clusterid'),
    certificate: verifiedCertificate(socket),
    peer: peerOf(socket?.remoteAddress, socket?.remotePort),
  };
}

function verifiedCertificate(socket: unknown): Uint8Array | undefined {
  // The session's socket is a proxy around the real one; `instanceof` sees through it.
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  return socket.getPeerX509Certificate()?.raw;
}

function peerOf(address: string | undefined, port: number | undefined): string {
  if (address === undefined) return 'unknown';
  return `${address.includes(':') ? `[${address}]` : address}:${port ?? 0}`;
}

const TIMEOUT_UNITS_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** The header `grpc-timeout` in milliseconds, at least 1; undefined when absent or unreadable. At most 8 digits, says gRPC. */
export function readTimeoutMs(value: string | string[] | undefined): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(typeof value === 'string' ? value : '') ?? [];
  if (digits === undefined || unit === undefined) return undefined;
  return Math.max(1, Math.ceil(Number(digits) * (TIMEOUT_UNITS_MS[unit] ?? 1)));
}
