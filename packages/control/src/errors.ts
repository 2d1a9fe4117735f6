// The one error class of this package. `code` is stable and dotted; `next` tells a person
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
