// HTTP/2 frame vocabulary (RFC 9113 §4-§7) and writers for the frames an HBONE endpoint sends.
// Writers put bytes at an offset and return the offset after them. They never allocate and never check
// that the buffer is large enough beyond what Buffer itself does: the caller owns the layout.

import type { Buffer } from 'node:buffer';

/** Frame types, RFC 9113 §6. Anything else on the wire is an extension and is skipped. */
export const FRAME_TYPE = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

/** Frame flags. END_STREAM and ACK share a bit; the frame type says which is meant. */
export const FRAME_FLAG = {
  END_STREAM: 0x1,
  ACK: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

/** Error codes of RST_STREAM and GOAWAY, RFC 9113 §7. */
export const H2_ERROR = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

/** Settings identifiers, RFC 9113 §6.5.2, and ENABLE_CONNECT_PROTOCOL of RFC 8441. */
export const SETTING = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
  ENABLE_CONNECT_PROTOCOL: 0x8,
} as const;

/** Bytes of the header in front of every frame. */
export const FRAME_HEADER_BYTES = 9;
/** What a client sends before its first frame, RFC 9113 §3.4. */
export const CLIENT_PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
/** Frame size every endpoint must accept, and the smallest MAX_FRAME_SIZE that may be announced. */
export const MIN_MAX_FRAME_SIZE = 16_384;
/** The largest MAX_FRAME_SIZE that may be announced (24-bit length). */
export const MAX_MAX_FRAME_SIZE = 16_777_215;
/** Largest flow-control window and largest stream id. */
export const MAX_WINDOW_SIZE = 0x7fff_ffff;
/** Window of every stream and of the connection until SETTINGS or WINDOW_UPDATE change it. */
export const DEFAULT_WINDOW_SIZE = 65_535;
/** HPACK table size of both directions until SETTINGS change it. */
export const DEFAULT_HEADER_TABLE_SIZE = 4096;

/** One entry of a SETTINGS frame; unknown ids are kept, the owner ignores them. */
export interface Setting {
  readonly id: number;
  /** Unsigned 32-bit. */
  readonly value: number;
}

/** Writes the 9 bytes in front of a payload of `length` bytes; returns where the payload starts. */
export function writeFrameHeader(
  buffer: Buffer,
  offset: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  buffer[offset] = length >>> 16;
  buffer[offset + 1] = length >>> 8;
  buffer[offset + 2] = length;
  buffer[offset + 3] = type;
  buffer[offset + 4] = flags;
  return writeUint32(buffer, offset + 5, streamId);
}

/** Writes a SETTINGS frame: 9 + 6 bytes an entry. */
export function writeSettings(buffer: Buffer, offset: number, settings: readonly Setting[]): number {
  let at = writeFrameHeader(buffer, offset, settings.length * 6, FRAME_TYPE.SETTINGS, 0, 0);
  for (const setting of settings) {
    buffer[at] = setting.id >>> 8;
    buffer[at + 1] = setting.id;
    at = writeUint32(buffer, at + 2, setting.value);
  }
  return at;
}

/** Writes the acknowledgement of the peer's SETTINGS: 9 bytes. */
export function writeSettingsAck(buffer: Buffer, offset: number): number {
  return writeFrameHeader(buffer, offset, 0, FRAME_TYPE.SETTINGS, FRAME_FLAG.ACK, 0);
}

/** Writes a WINDOW_UPDATE: 13 bytes. `streamId` 0 is the connection; `increment` is 1..2^31-1. */
export function writeWindowUpdate(buffer: Buffer, offset: number, streamId: number, increment: number): number {
  const at = writeFrameHeader(buffer, offset, 4, FRAME_TYPE.WINDOW_UPDATE, 0, streamId);
  return writeUint32(buffer, at, increment);
}

/** Writes a RST_STREAM: 13 bytes. */
export function writeRstStream(buffer: Buffer, offset: number, streamId: number, code: number): number {
  const at = writeFrameHeader(buffer, offset, 4, FRAME_TYPE.RST_STREAM, 0, streamId);
  return writeUint32(buffer, at, code);
}

/** Writes a PING: 17 bytes, copying the 8 opaque ones from `payload` at `payloadStart`. */
export function writePing(buffer: Buffer, offset: number, ack: boolean, payload: Buffer, payloadStart: number): number {
  const at = writeFrameHeader(buffer, offset, 8, FRAME_TYPE.PING, ack ? FRAME_FLAG.ACK : 0, 0);
  for (let i = 0; i < 8; i++) buffer[at + i] = payload[payloadStart + i] ?? 0;
  return at + 8;
}

/**
 * Writes a GOAWAY: 17 bytes plus one a character of `debug`. `debug` is for the operator of the peer and
 * must be ASCII; it travels in the clear inside TLS, so it must name no secret.
 */
export function writeGoaway(buffer: Buffer, offset: number, lastStreamId: number, code: number, debug = ''): number {
  let at = writeFrameHeader(buffer, offset, 8 + debug.length, FRAME_TYPE.GOAWAY, 0, 0);
  at = writeUint32(buffer, at, lastStreamId);
  at = writeUint32(buffer, at, code);
  return at + buffer.write(debug, at, 'latin1');
}

function writeUint32(buffer: Buffer, offset: number, value: number): number {
  buffer[offset] = value >>> 24;
  buffer[offset + 1] = value >>> 16;
  buffer[offset + 2] = value >>> 8;
  buffer[offset + 3] = value;
  return offset + 4;
}
