// How a call ends: gRPC's status codes by name, the error that carries one, and its form in trailers.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md ("Status", "Status-Message")
import { type GrpcStatus, STATUS_NAMES } from '../status-codes.ts';

/** A status by its name in lower case. */
export type GrpcCode = Lowercase<GrpcStatus>;

/** A handler throws this to end its call with a status. The peer sees `code` and `message`: no secrets in either. */
export class GrpcError extends Error {
  readonly code: GrpcCode;

  constructor(code: GrpcCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'GrpcError';
    this.code = code;
  }
}

const MAX_MESSAGE_CHARS = 1_024;

/** Trailers of a call that ended so; undefined is success. */
export function statusTrailers(error: GrpcError | undefined): Readonly<Record<string, string>> {
  if (error === undefined) return { 'grpc-status': '0' };
  return {
    'grpc-status': String(STATUS_NAMES.findIndex(name => name.toLowerCase() === error.code)),
    'grpc-message': percentEncode(error.message.slice(0, MAX_MESSAGE_CHARS)),
  };
}

/** Bytes outside 0x20..0x7e, and `%`, are written as `%XX`: the protocol's rule, narrower than a URL's. */
function percentEncode(text: string): string {
  let out = '';
  for (const byte of Buffer.from(text, 'utf8')) {
    out +=
      byte < 0x20 || byte > 0x7e || byte === 0x25
        ? `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
        : String.fromCharCode(byte);
  }
  return out;
}
