// Numbers with their units, three significant digits at most. Unknown is `–`, never 0.

export const UNKNOWN = '–';

/** `0.42 ms`, `1.9 s`, `3 min`. */
export function duration(ms: number | undefined): string {
  if (ms === undefined || !Number.isFinite(ms)) return UNKNOWN;
  if (ms < 999.5) return `${digits(ms)} ms`;
  if (ms < 120_000) return `${digits(ms / 1000)} s`;
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
}

/** `12 B`, `12.4 MB`. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${digits(value)} ${units[unit] ?? 'TB'}`;
}

/** `0.3 %`, `12 %`. */
export function percent(share: number | undefined): string {
  if (share === undefined) return UNKNOWN;
  const value = share * 100;
  return `${value >= 10 || value === 0 ? Math.round(value) : digits(value)} %`;
}

/** Three significant digits; whole numbers without a point. */
export function digits(value: number): string {
  if (value === 0) return '0';
  if (value >= 99.95) return String(Math.round(value));
  const text = value.toFixed(value >= 9.995 ? 1 : 2);
  return Number(text) === Math.round(Number(text)) ? String(Math.round(Number(text))) : text;
}
