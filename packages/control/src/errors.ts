// The one error class of this package, and what to say of any other. `code` is stable and dotted; `next` tells a person
// what to do.

export class ControlError extends Error {
  readonly code: string;
  readonly next: string | undefined;

  constructor(code: string, message: string, options: { readonly next?: string; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ControlError';
    this.code = code;
    this.next = options.next;
  }
}

/** One line for any thrown value. Node tries several addresses of a name and then has several errors, and no text. */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(errorText).join('; ');
  return error instanceof Error ? error.message : String(error);
}

/** For a fault of ours, in the log: where it came from, too. */
export function faultText(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
