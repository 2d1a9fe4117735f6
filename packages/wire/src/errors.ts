// What this package throws, and nothing else: bytes from a peer that are not what the protocol allows, or a message
// of ours that does not fit the protocol's limits.

export type WireErrorCode =
  | 'wire.too_long' // more bytes than one packet may carry
  | 'wire.malformed' // not a protobuf message of the expected shape
  | 'wire.no_payload' // a message whose one-of is empty or unknown to us
  | 'wire.no_uid' // a request that names no pod
  | 'wire.no_workload_info' // an add without the pod's name; upstream calls this a protocol error
  | 'wire.version' // a hello of a protocol version other than V1
  | 'xds.bad_resource'; // an xDS resource whose bytes or values cannot be used

/**
 * A message cannot be read or written, or a call failed (see grpc/call-error.ts for those codes). Match on `code`;
 * `message` is for people and holds no more of a peer than a cut quote.
 */
export class WireError<Code extends string = WireErrorCode> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'WireError';
    this.code = code;
  }
}
