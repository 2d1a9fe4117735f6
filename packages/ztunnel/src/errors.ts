// The one error class of the node proxy. `code` is a stable reason code (docs/reasons), `hint` is the next step for
// whoever reads it at night. Callers match on `code`, never on the text.

/** Codes this package raises itself; codes of `@ambit/mesh` pass through as they are. */
export type ZtunnelErrorCode =
  | 'config.invalid' // an environment variable or the local configuration file cannot be used
  | 'config.unsupported' // understood, but this version lacks what was asked for
  | 'identity.unavailable' // no certificate can be had
  | 'enrol.netns_gone'
  | 'enrol.port_taken'
  | 'enrol.failed' // a pod's listeners could not be opened, for another cause
  | 'zds.protocol' // the node agent broke the ZDS contract
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
