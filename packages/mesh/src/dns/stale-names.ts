// Names that became stale -> does one of them concern this name? Runs in a data worker over its cache of decisions.
import type { StaleNames } from './types.ts';

/** Whether a decision about `name` (lower case, no dot at the end) must be asked for again. */
export function isStaleName(stale: StaleNames, name: string): boolean {
  if (stale.kind === 'all') return true;
  const firstDot = name.indexOf('.');
  if (firstDot < 0) return stale.labels.has(name);
  if (stale.labels.has(name.slice(0, firstDot))) return true;
  const secondDot = name.indexOf('.', firstDot + 1);
  return stale.labels.has(name.slice(firstDot + 1, secondDot < 0 ? undefined : secondDot));
}
