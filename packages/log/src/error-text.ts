// What to say of a thrown value, whoever threw it.

/** One line for any thrown value. Node tries several addresses of a name and then has several errors, and no text. */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(errorText).join('; ');
  return error instanceof Error ? error.message : String(error);
}

/** For a fault of ours, in the log: where it came from, too. */
export function faultText(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
