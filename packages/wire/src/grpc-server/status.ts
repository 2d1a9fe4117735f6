// How a call ends: gRPC's status codes by name, the error that carries one, and its form in trailers.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md ("Status", "Status-Message")

/** https://grpc.io/docs/guides/status-codes/, names in lower case. */
export const GRPC_STATUS = {
  ok: 0,
  cancelled: 1,
  unknown: 2,
  invalid_argument: 3,
  deadline_exceeded: 4,
  not_found: 5,
  permission_denied: 7,
  resource_exhausted: 8,
  failed_precondition: 9,
  aborted: 10,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

export type GrpcCode = keyof typeof GRPC_STATUS;

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
    'grpc-status': String(GRPC_STATUS[error.code]),
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
