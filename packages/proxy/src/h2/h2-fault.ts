// What can be wrong with a peer's HTTP/2, as a value: faults are expected input, so nothing here throws.

/** Stable cause, as in docs/reasons: `hbone.flood` and `hbone.header_limit` are limits of ours, the rest the peer's error. */
export type H2Reason = 'hbone.protocol' | 'hbone.flow_control' | 'hbone.header_limit' | 'hbone.flood';

/** A violation of RFC 9113 or of one of our limits. */
export interface H2Fault {
  /** `connection`: send GOAWAY with `code` and close. `stream`: send RST_STREAM with `code` and go on. */
  readonly scope: 'connection' | 'stream';
  /** One of H2_ERROR. */
  readonly code: number;
  readonly reason: H2Reason;
  /** For an operator; lower case, no data of the peer beyond numbers. */
  readonly message: string;
  /** The stream concerned, 0 for none. */
  readonly streamId: number;
}

/** Builds a fault that ends the connection. */
export function connectionFault(code: number, message: string, reason: H2Reason = 'hbone.protocol'): H2Fault {
  return { scope: 'connection', code, reason, message, streamId: 0 };
}

/** Builds a fault that ends one stream. */
export function streamFault(
  streamId: number,
  code: number,
  message: string,
  reason: H2Reason = 'hbone.protocol',
): H2Fault {
  return { scope: 'stream', code, reason, message, streamId };
}
