// Rates and percentiles over the last seconds, and over everything. Pure: the caller brings the time.

export interface CallReport {
  readonly ok: number;
  readonly failed: number;
  readonly bytes: number;
  readonly latenciesMs: readonly number[];
}

export interface CallSummary {
  readonly callsPerSecond: number;
  readonly failedPerSecond: number;
  readonly bytesPerSecond: number;
  /** Undefined without a single answered call. */
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
  readonly calls: number;
  readonly failed: number;
  readonly bytes: number;
}

interface Entry {
  readonly atMs: number;
  readonly report: CallReport;
}

const WINDOW_MS = 5_000;

/** What one caller did to one peer. */
export class CallStatistics {
  readonly #entries: Entry[] = [];
  #firstMs: number | undefined;
  #calls = 0;
  #failed = 0;
  #bytes = 0;

  /** Takes a report; times must not go back. */
  add(report: CallReport, nowMs: number): void {
    this.#firstMs ??= nowMs;
    this.#calls += report.ok;
    this.#failed += report.failed;
    this.#bytes += report.bytes;
    this.#entries.push({ atMs: nowMs, report });
    this.#forget(nowMs);
  }

  summary(nowMs: number): CallSummary {
    this.#forget(nowMs);
    // The first report tells of a time before it: its arrival is when the clock starts.
    const spanMs = Math.min(WINDOW_MS, nowMs - (this.#firstMs ?? nowMs));
    const recent = this.#entries.filter(({ atMs }) => atMs > nowMs - spanMs).map(({ report }) => report);
    const perSecond = (total: number): number => (spanMs === 0 ? 0 : (total * 1000) / spanMs);
    const latencies = recent.flatMap(({ latenciesMs }) => latenciesMs).toSorted((a, b) => a - b);
    return {
      callsPerSecond: perSecond(sum(recent.map(({ ok }) => ok))),
      failedPerSecond: perSecond(sum(recent.map(({ failed }) => failed))),
      bytesPerSecond: perSecond(sum(recent.map(({ bytes }) => bytes))),
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
      calls: this.#calls,
      failed: this.#failed,
      bytes: this.#bytes,
    };
  }

  #forget(nowMs: number): void {
    while ((this.#entries[0]?.atMs ?? nowMs) < nowMs - WINDOW_MS) this.#entries.shift();
  }
}

/** Nearest rank: the smallest value that at least `share` of all do not exceed. `sorted` ascends. */
export function percentile(sorted: readonly number[], share: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
