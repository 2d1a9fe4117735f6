// The few header fields of HTTP/2 that a reader tells of, by number, and what their values mean. Everything else is OTHER and is
// never made into a text.
import { STATIC_TABLE } from '../h2/hpack-tables.ts';
import { grpcStatusOf, isGrpcContentType } from './grpc-messages.ts';
import { authorityOf, hasText, methodNumber, textOf, traceparentOf } from './sniffer-texts.ts';

/** What a field is. */
export const FIELD = {
  OTHER: 0,
  METHOD: 1,
  PATH: 2,
  AUTHORITY: 3,
  STATUS: 4,
  CONTENT_TYPE: 5,
  GRPC_STATUS: 6,
  TRACEPARENT: 7,
  HOST: 8,
} as const;

/** The field that a name in `bytes[start, end)` means. */
export function fieldOf(bytes: Uint8Array, start: number, end: number): number {
  switch (end - start) {
    case 4:
      return hasText(bytes, start, 'host') ? FIELD.HOST : FIELD.OTHER;
    case 5:
      return hasText(bytes, start, ':path') ? FIELD.PATH : FIELD.OTHER;
    case 7:
      if (bytes[start] !== 0x3a) return FIELD.OTHER;
      if (hasText(bytes, start, ':method')) return FIELD.METHOD;
      return hasText(bytes, start, ':status') ? FIELD.STATUS : FIELD.OTHER;
    case 10:
      return hasText(bytes, start, ':authority') ? FIELD.AUTHORITY : FIELD.OTHER;
    case 11:
      if (hasText(bytes, start, 'grpc-status')) return FIELD.GRPC_STATUS;
      return hasText(bytes, start, 'traceparent') ? FIELD.TRACEPARENT : FIELD.OTHER;
    case 12:
      return hasText(bytes, start, 'content-type') ? FIELD.CONTENT_TYPE : FIELD.OTHER;
    default:
      return FIELD.OTHER;
  }
}

/** The number that a value means for fields that are numbers: METHODS, status, 1 for gRPC's content type; else 0. */
export function numberOf(field: number, bytes: Uint8Array, start: number, end: number): number {
  switch (field) {
    case FIELD.METHOD:
      return methodNumber(bytes, start, end);
    case FIELD.STATUS:
      return statusOf(bytes, start, end);
    case FIELD.CONTENT_TYPE:
      return isGrpcContentType(bytes, start, end) ? 1 : 0;
    case FIELD.GRPC_STATUS:
      return grpcStatusOf(bytes, start, end);
    default:
      return 0;
  }
}

/** The text of a value for fields that are texts, bounded; else ''. */
export function fieldText(field: number, bytes: Uint8Array, start: number, end: number, previous: string): string {
  switch (field) {
    case FIELD.PATH: {
      let query = start;
      while (query < end && bytes[query] !== 0x3f && bytes[query] !== 0x23) query++;
      return textOf(bytes, start, query, previous);
    }
    case FIELD.AUTHORITY:
    case FIELD.HOST:
      return authorityOf(bytes, start, end, previous);
    case FIELD.TRACEPARENT:
      return traceparentOf(bytes, start, end);
    default:
      return '';
  }
}

/** What one header block said. Reused: `reset()` before each. */
export class Http2Fields {
  /** Number in METHODS, or -1. */
  method = -1;
  /** 100..999, or 0. */
  status = 0;
  isGrpc = false;
  /** -1 when there is none. */
  grpcStatus = -1;
  path = '';
  authority = '';
  traceparent = '';

  reset(): void {
    this.method = -1;
    this.status = 0;
    this.isGrpc = false;
    this.grpcStatus = -1;
    this.path = '';
    this.authority = '';
    this.traceparent = '';
  }

  /** Takes one field. Of repeated ones the first counts, except for the status of gRPC. */
  take(field: number, number: number, text: string): void {
    switch (field) {
      case FIELD.METHOD:
        if (this.method < 0) this.method = number;
        return;
      case FIELD.STATUS:
        if (this.status === 0) this.status = number;
        return;
      case FIELD.CONTENT_TYPE:
        if (number === 1) this.isGrpc = true;
        return;
      case FIELD.GRPC_STATUS:
        this.grpcStatus = number;
        return;
      case FIELD.PATH:
        if (this.path === '') this.path = text;
        return;
      case FIELD.AUTHORITY:
        this.authority = text;
        return;
      case FIELD.HOST:
        if (this.authority === '') this.authority = text;
        return;
      case FIELD.TRACEPARENT:
        if (this.traceparent === '') this.traceparent = text;
        return;
      default:
    }
  }
}

function statusOf(bytes: Uint8Array, start: number, end: number): number {
  if (end - start !== 3) return 0;
  let status = 0;
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 9) return 0;
    status = status * 10 + digit;
  }
  return status < 100 ? 0 : status;
}

const encoded = STATIC_TABLE.map(([name, value]) => ({
  name: new TextEncoder().encode(name),
  value: new TextEncoder().encode(value),
}));

/** Of each entry of HPACK's static table, index 1 first: what it is, the size of its name, what its value means. */
export const STATIC_FIELDS = {
  field: Uint8Array.from(encoded, entry => fieldOf(entry.name, 0, entry.name.length)),
  nameBytes: Uint8Array.from(encoded, entry => entry.name.length),
  number: Int32Array.from(encoded, ({ name, value }) =>
    numberOf(fieldOf(name, 0, name.length), value, 0, value.length),
  ),
  text: encoded.map(({ name, value }) => fieldText(fieldOf(name, 0, name.length), value, 0, value.length, '')),
} as const;
