// How text is marked on a terminal. Colour repeats what the words say and never carries a meaning of its own.

export interface Style {
  good(text: string): string;
  /** Works, and somebody should know: plain text. */
  warn(text: string): string;
  bad(text: string): string;
  dim(text: string): string;
}

const asIs = (text: string): string => text;
const coded =
  (code: number) =>
  (text: string): string =>
    `\u001B[${code}m${text}\u001B[0m`;

export const PLAIN: Style = { good: asIs, warn: asIs, bad: asIs, dim: asIs };
export const COLOUR: Style = { good: coded(32), warn: coded(33), bad: coded(31), dim: coded(2) };

/** Colour on a terminal, unless NO_COLOR is set to anything (https://no-color.org). */
export function styleFor(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Style {
  return stream.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb' ? COLOUR : PLAIN;
}
