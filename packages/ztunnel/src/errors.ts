// The one error class of the node proxy. `code` is a stable reason code (docs/reasons), `hint` is the next step for
// whoever reads it at night. Callers match on `code`, never on the text.

/** Codes this package raises itself; codes of `@ambit/mesh` pass through as they are. */
export type ZtunnelErrorCode =
  | 'config.invalid' // an environment variable or the local configuration file cannot be used
  | 'config.unsupported' // understood, but this version lacks what was asked for
  | 'identity.unavailable' // no certificate can be had
  | 'identity.clock_skew' // the CA's certificate begins later than our clock says it is
  | 'ca.unreachable' // no connection to the certificate authority, or it broke
  | 'ca.untrusted_server' // its own certificate is not accepted, or we have no roots to judge it by
  | 'ca.credentials' // the token for it cannot be read or sent
  | 'ca.timeout' // the certificate authority did not answer in time
  | 'ca.denied' // it does not let us have this certificate (Unauthenticated, PermissionDenied)
  | 'ca.refused' // it answered with another gRPC error
  | 'ca.bad_response' // not a chain of PEM certificates that ends in roots
  | 'ca.wrong_identity' // a certificate for somebody else
  | 'ca.wrong_key' // a certificate for another key
  | 'ca.expired' // a certificate that has expired already
  | 'ca.untrusted_chain' // a chain that does not lead to the roots that came with it
  | 'enrol.netns_gone'
  | 'enrol.port_taken'
  | 'enrol.failed' // a pod's listeners could not be opened, for another cause
  | 'zds.protocol' // the node agent broke the ZDS contract
  | 'telemetry.unsent' // the collector did not take it, or the process that sends it died
  | 'worker.died';

/** @see ZtunnelErrorCode for the meaning of `code`. */
export class ZtunnelError extends Error {
  readonly code: ZtunnelErrorCode;
  readonly hint: string | undefined;

  constructor(code: ZtunnelErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ZtunnelError';
    this.code = code;
    this.hint = options.hint;
  }
}

/** The text of anything thrown, for a message or a log line. */
export function errorText(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
