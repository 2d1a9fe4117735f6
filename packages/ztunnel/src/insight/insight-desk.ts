// The node proxy's own answers: folds what its workers tell into edges, and shows records live to whoever watches. All of it
// is bounded and none of it is on the way of a connection; without watchers a record costs one fold.
import { EdgeTable, type EdgeReport, type RecordFilter } from '@ambit/insight';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';
import { RecordFeed } from './record-feed.ts';

/** About 4 KiB each. */
const MAX_EDGES = 1000;

export interface InsightDeps {
  readonly now: () => number;
  readonly node: string | undefined;
  /** Who watches what: opens of connections and single requests are told only then. */
  readonly onInterest: (interest: { readonly connections: boolean; readonly requests: boolean }) => void;
}

export class InsightDesk {
  readonly #deps: InsightDeps;
  readonly #edges: EdgeTable;
  readonly #feed: RecordFeed;

  constructor(deps: InsightDeps) {
    this.#deps = deps;
    this.#edges = new EdgeTable({ maxEdges: MAX_EDGES }, deps.now());
    this.#feed = new RecordFeed({ onInterest: deps.onInterest });
  }

  onRecords(records: readonly ConnectionRecord[]): void {
    const nowMs = this.#deps.now();
    for (const record of records) this.#edges.add(record, nowMs);
    this.#feed.addRecords(records);
  }

  onRequests(requests: readonly RequestRecord[]): void {
    this.#feed.addRequests(requests);
  }

  report(): EdgeReport {
    return this.#edges.report(this.#deps.node, this.#deps.now());
  }

  /** undefined when too many watch already. */
  watch(filter: RecordFilter, signal: AbortSignal): AsyncIterable<string> | undefined {
    return this.#feed.isFull ? undefined : this.#feed.watch(filter, signal);
  }
}
