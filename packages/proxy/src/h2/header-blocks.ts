// Builds the header blocks HBONE sends: our CONNECT request and our answers, in the field order of Istio's ztunnel.
// A block always fits one HEADERS frame (16384 bytes), so no CONTINUATION is ever written.

import type { Buffer } from 'node:buffer';
import { MIN_MAX_FRAME_SIZE } from './frames.ts';
import { type HpackEncoder, STATIC_INDEX, writeIndexed, writeLiteral, writeNamedLiteral } from './hpack-encoder.ts';

/** Our CONNECT request. Values are latin-1 without control characters, or the block is refused. */
export interface ConnectRequest {
  /** `ip:port`, `[ipv6]:port` or `hostname:port`. */
  readonly authority: string;
  /** May be empty; the field is sent always, as upstream does. */
  readonly baggage: string;
  readonly forwarded: string;
  readonly traceparent: string;
  /** Only on the inner request of double HBONE. */
  readonly xForwardedNetwork: string | undefined;
}

/**
 * Writes the block of a CONNECT request at `offset`.
 * @returns the offset after it, or -1 when it does not fit the buffer or one frame, or a value may not travel; nothing
 * may be sent then, and the encoder is as before.
 */
export function writeConnectRequest(
  encoder: HpackEncoder,
  buffer: Buffer,
  offset: number,
  request: ConnectRequest,
): number {
  let at = encoder.begin(buffer, offset);
  at = writeNamedLiteral(buffer, at, STATIC_INDEX.METHOD, 'CONNECT');
  at = writeNamedLiteral(buffer, at, STATIC_INDEX.AUTHORITY, request.authority);
  at = writeLiteral(buffer, at, 'baggage', request.baggage);
  at = writeLiteral(buffer, at, 'forwarded', request.forwarded);
  at = writeLiteral(buffer, at, 'traceparent', request.traceparent);
  if (request.xForwardedNetwork !== undefined) {
    at = writeLiteral(buffer, at, 'x-forwarded-network', request.xForwardedNetwork);
  }
  return commit(encoder, offset, at);
}

/**
 * Writes the block of a response at `offset`: `status` 100..999, and `baggage` unless undefined.
 * @returns as writeConnectRequest.
 */
export function writeConnectResponse(
  encoder: HpackEncoder,
  buffer: Buffer,
  offset: number,
  status: number,
  baggage: string | undefined,
): number {
  let at = encoder.begin(buffer, offset);
  at =
    status === 200
      ? writeIndexed(buffer, at, STATIC_INDEX.STATUS_200)
      : writeNamedLiteral(buffer, at, STATIC_INDEX.STATUS_200, String(status));
  if (baggage !== undefined) at = writeLiteral(buffer, at, 'baggage', baggage);
  return commit(encoder, offset, at);
}

function commit(encoder: HpackEncoder, offset: number, at: number): number {
  if (at < 0 || at - offset > MIN_MAX_FRAME_SIZE) return -1;
  encoder.commit();
  return at;
}
