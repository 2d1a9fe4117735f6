// Why a call or its connection failed, with the gRPC status that belongs to it. The one kind of error that comes out of
// this folder; match on `code` and `status`, never on the text. Peers' texts are in `message`, cut.
import { WireError } from '../errors.ts';
import { type GrpcStatus, STATUS_NAMES } from '../status-codes.ts';

export type { GrpcStatus } from '../status-codes.ts';

export type CallErrorCode =
  | 'xds.no_roots' // no usable root certificate: nothing could be trusted
  | 'grpc.credentials' // the token or a header cannot be read or sent
  | 'grpc.plaintext' // http to somewhere that is not this machine
  | 'grpc.connect' // no TCP connection in time, or no HTTP/2 behind it
  | 'grpc.untrusted' // the server's certificate does not prove who it must be
  | 'grpc.lost' // the connection broke under a call
  | 'grpc.protocol' // the server speaks no gRPC that we understand
  | 'grpc.too_long' // a message larger than the limit
  | 'grpc.deadline' // no answer in time
  | 'grpc.cancelled' // we gave up ourselves
  | 'grpc.status'; // the server answered with an error status

const LONGEST_TEXT = 2000;

export class CallError extends WireError<CallErrorCode> {
  /** What the server said, or what gRPC makes of the failure. */
  readonly status: GrpcStatus;

  constructor(code: CallErrorCode, status: GrpcStatus, message: string, options?: ErrorOptions) {
    super(code, message.length > LONGEST_TEXT ? `${message.slice(0, LONGEST_TEXT)}...` : message, options);
    this.name = 'CallError';
    this.status = status;
  }
}

/** Unknown numbers are UNKNOWN, as the protocol asks. */
export function statusFromNumber(text: string): GrpcStatus {
  return (/^\d{1,2}$/.test(text) ? STATUS_NAMES[Number(text)] : undefined) ?? 'UNKNOWN';
}

/** What an HTTP answer that is no gRPC means (grpc/doc/http-grpc-status-mapping.md). */
export function statusFromHttp(status: number): GrpcStatus {
  switch (status) {
    case 400:
      return 'INTERNAL';
    case 401:
      return 'UNAUTHENTICATED';
    case 403:
      return 'PERMISSION_DENIED';
    case 404:
      return 'UNIMPLEMENTED';
    case 429:
    case 502:
    case 503:
    case 504:
      return 'UNAVAILABLE';
    default:
      return 'UNKNOWN';
  }
}

/** What RST_STREAM with that code means (grpc/doc/PROTOCOL-HTTP2.md, Errors). */
export function statusFromReset(code: number): GrpcStatus {
  switch (code) {
    case 0x7:
      return 'UNAVAILABLE';
    case 0x8:
      return 'CANCELLED';
    case 0xb:
      return 'RESOURCE_EXHAUSTED';
    case 0xc:
      return 'PERMISSION_DENIED';
    default:
      return 'INTERNAL';
  }
}

/** The `grpc-message` trailer: percent-encoded UTF-8; what is malformed stays as it is. */
export function decodeStatusMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
