// Counts of an edge while they grow, and sums and differences of counts. Percentiles are read from histograms: the answer
// is exact to the bucket and interpolated within it, as Prometheus does.
import type { RequestTally } from '@ambit/proxy';
import type { EdgeCounts } from './edge-shape.ts';

/** Upper bounds of request durations, milliseconds: those of the metrics (Envoy's). */
export const LATENCY_BOUNDS_MS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];

export type GrowingCounts = { -readonly [Key in keyof EdgeCounts]: EdgeCounts[Key] } & {
  readonly statuses: number[];
  readonly latencies: number[];
};

const NUMBERS = [
  'opened',
  'closed',
  'failed',
  'denied',
  'mutualTls',
  'plaintext',
  'handshakeFailed',
  'bytesToServer',
  'bytesToClient',
  'retransmits',
  'connectMs',
  'connects',
  'requests',
  'requestErrors',
  'requestMs',
] as const satisfies readonly (keyof EdgeCounts)[];

export function noCounts(): GrowingCounts {
  return {
    opened: 0,
    closed: 0,
    failed: 0,
    denied: 0,
    mutualTls: 0,
    plaintext: 0,
    handshakeFailed: 0,
    bytesToServer: 0,
    bytesToClient: 0,
    retransmits: 0,
    connectMs: 0,
    connects: 0,
    requests: 0,
    statuses: [0, 0, 0, 0, 0],
    requestErrors: 0,
    requestMs: 0,
    latencies: LATENCY_BOUNDS_MS.map(() => 0).concat(0),
  };
}

/** Adds `more` to `sum`. */
export function addCounts(sum: GrowingCounts, more: EdgeCounts): void {
  for (const key of NUMBERS) sum[key] += more[key];
  addTo(sum.statuses, more.statuses);
  addTo(sum.latencies, more.latencies);
}

/** What `now` has and `before` had not; nothing is below zero, since a process that started again counts from zero. */
export function countsSince(now: EdgeCounts, before: EdgeCounts | undefined): EdgeCounts {
  if (before === undefined || now.opened < before.opened || now.requests < before.requests) return now;
  const since = noCounts();
  for (const key of NUMBERS) since[key] = Math.max(0, now[key] - before[key]);
  for (const key of ['statuses', 'latencies'] as const) {
    for (const [i, count] of now[key].entries()) since[key][i] = Math.max(0, count - (before[key][i] ?? 0));
  }
  return since;
}

/** Adds requests that are alike. */
export function addTally(counts: GrowingCounts, tally: RequestTally): void {
  counts.requests += tally.count;
  const statusClass = Math.floor(tally.status / 100) - 1;
  if (statusClass >= 0 && statusClass < 5)
    counts.statuses[statusClass] = (counts.statuses[statusClass] ?? 0) + tally.count;
  if (isError(tally)) counts.requestErrors += tally.count;
  counts.requestMs += tally.durationSumMs;
  addTo(counts.latencies, tally.durations);
}

/** gRPC statuses that say the server failed, not that it said no (as service level dashboards of gRPC count them). */
const GRPC_SERVER_ERRORS: ReadonlySet<number> = new Set([2, 4, 8, 12, 13, 14, 15]);

function isError({ protocol, status, grpcStatus, error, flags }: RequestTally): boolean {
  if (flags !== undefined || error !== undefined) return true;
  if (protocol === 'grpc') return grpcStatus === undefined || GRPC_SERVER_ERRORS.has(grpcStatus);
  return protocol === 'http' && (status === 0 || status >= 500);
}

/**
 * The duration that the share `quantile` (0 to 1) of requests does not exceed, milliseconds; undefined without requests.
 * Beyond the last bound it is that bound.
 */
export function latencyAt(latencies: readonly number[], quantile: number): number | undefined {
  const total = latencies.reduce((sum, count) => sum + count, 0);
  if (total === 0) return undefined;
  const rank = quantile * total;
  let below = 0;
  for (const [i, count] of latencies.entries()) {
    if (count > 0 && below + count >= rank) {
      const lower = i === 0 ? 0 : (LATENCY_BOUNDS_MS[i - 1] ?? 0);
      const upper = LATENCY_BOUNDS_MS[i];
      return upper === undefined ? lower : lower + (upper - lower) * Math.max(0, (rank - below) / count);
    }
    below += count;
  }
  return LATENCY_BOUNDS_MS.at(-1);
}

function addTo(sum: number[], more: readonly number[]): void {
  for (const [i, count] of more.entries()) if (i < sum.length) sum[i] = (sum[i] ?? 0) + count;
}
