// How every command says that something failed: what, with its stable code, where, and what to do next. A stack
// is never part of it.

export interface Problem {
  readonly message: string;
  readonly code?: string | undefined;
  readonly where?: string | undefined;
  readonly next?: string | undefined;
}

/** Lines for standard error. */
export function problemText({ message, code, where, next }: Problem): string {
  const lines = [`error: ${message}${code === undefined ? '' : `  [${code}]`}`];
  if (where !== undefined) lines.push(`  where   ${where}`);
  if (next !== undefined) lines.push(`  next    ${next}`);
  return `${lines.join('\n')}\n`;
}
