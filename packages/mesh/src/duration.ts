// Durations as the variables and flags of upstream's node proxy and control plane write them: `5s`, `1h30m`, `500ms`; a
// bare number is seconds. Pure; every length is bounded.

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const MAX_TEXT_LENGTH = 64;
/** A hundred years: beyond any meaning here, and still exact in a double. */
const MAX_MS = 100 * 365 * 86_400_000;
const PART = /\s*(\d{1,15}(?:\.\d{1,9})?)\s*(ns|us|µs|ms|s|m|h|d|w)/y;

/** Milliseconds (may be fractional below 1 ms), or undefined when `text` is not a duration. */
export function parseDurationMs(text: string): number | undefined {
  if (text.length > MAX_TEXT_LENGTH) return undefined;
  const trimmed = text.trim();
  if (/^\d{1,15}$/.test(trimmed)) return bounded(Number(trimmed) * 1000);
  let total = 0;
  let at = 0;
  while (at < trimmed.length) {
    PART.lastIndex = at;
    const part = PART.exec(trimmed);
    if (part === null) return undefined;
    total += Number(part[1]) * (UNIT_MS[part[2] ?? ''] ?? Number.NaN);
    at = PART.lastIndex;
  }
  return at === 0 ? undefined : bounded(total);
}

function bounded(ms: number): number | undefined {
  return ms <= MAX_MS ? ms : undefined;
}
