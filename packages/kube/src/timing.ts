// The times and sizes by which lists and watches live. Defaults are those of ordinary clients (client-go); tests
// make them short.

export interface Timing {
  /** Objects in a page of a list. */
  readonly pageSize: number;
  /** Bound on one page; a list that cannot be paged gets sixteen times that. */
  readonly maxPageBytes: number;
  /** Bound on one event of a watch. Objects are below 1.5 MiB in etcd, and somewhat longer as JSON. */
  readonly maxEventBytes: number;
  /** A watch is asked to end after a time drawn from this range, in seconds, so that load spreads over servers. */
  readonly watchSeconds: readonly [number, number];
  /** A watch without a byte for this long is taken for dead; servers send bookmarks about once a minute. */
  readonly idleMs: number;
  /** Pause after a failure: doubling between these bounds. */
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
  /** A watch that held this long makes the next failure the first again. */
  readonly stableMs: number;
  /** How often an absent resource is looked for. */
  readonly probeMs: number;
  /** How often a forbidden list is tried again. */
  readonly forbiddenMs: number;
  /** Deadline of a page and of a watch's head. */
  readonly requestMs: number;
}

export const DEFAULT_TIMING: Timing = {
  pageSize: 500,
  maxPageBytes: 32 * 1024 * 1024,
  maxEventBytes: 8 * 1024 * 1024,
  watchSeconds: [300, 600],
  idleMs: 150_000,
  retryMinMs: 500,
  retryMaxMs: 30_000,
  stableMs: 10_000,
  probeMs: 30_000,
  forbiddenMs: 60_000,
  requestMs: 30_000,
};
