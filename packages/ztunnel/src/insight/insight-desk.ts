// The node proxy's own answers: folds what its workers tell into edges, looks for what is wrong with them, and shows records
// live to whoever watches. All of it is bounded and none of it is on the way of a connection; without watchers a record
// costs one fold.
import {
  type CertificateFact,
  Detector,
  EdgeTable,
  type EdgeReport,
  type Finding,
  type RecordFilter,
} from '@ambit/insight';
import type { ConnectionRecord, RequestRecord } from '@ambit/proxy';
import type { Cancel, Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { RecordFeed } from './record-feed.ts';

/** About 4 KiB each. */
const MAX_EDGES = 1000;
const LOOK_MS = 10_000;

/** What watchers want to be told of. */
export interface Interest {
  readonly connections: boolean;
  readonly requests: boolean;
}

export interface InsightDeps {
  readonly clock: Clock;
  readonly node: string | undefined;
  readonly certificates: () => readonly CertificateFact[];
  /** Opens of connections and single requests are told only while somebody watches them. */
  readonly onInterest: (interest: Interest) => void;
  readonly log: Logger;
}

/** What `/findings` answers. */
export interface FindingReport {
  readonly version: 1;
  readonly node: string | undefined;
  readonly nowMs: number;
  readonly findings: readonly Finding[];
}

export class InsightDesk {
  readonly #deps: InsightDeps;
  readonly #edges: EdgeTable;
  readonly #detector: Detector;
  readonly #feed: RecordFeed;
  #findings: readonly Finding[] = [];
  #cancel: Cancel;

  constructor(deps: InsightDeps) {
    const nowMs = deps.clock.now();
    this.#deps = deps;
    this.#edges = new EdgeTable({ maxEdges: MAX_EDGES }, nowMs);
    this.#detector = new Detector(nowMs);
    this.#feed = new RecordFeed({ onInterest: deps.onInterest });
    this.#cancel = this.#lookLater();
  }

  onRecords(records: readonly ConnectionRecord[]): void {
    const nowMs = this.#deps.clock.now();
    for (const record of records) this.#edges.add(record, nowMs);
    this.#feed.addRecords(records);
  }

  onRequests(requests: readonly RequestRecord[]): void {
    this.#feed.addRequests(requests);
  }

  edges(): EdgeReport {
    return this.#edges.report(this.#deps.node, this.#deps.clock.now());
  }

  findings(): FindingReport {
    return { version: 1, node: this.#deps.node, nowMs: this.#deps.clock.now(), findings: this.#findings };
  }

  /** undefined when too many watch already. */
  watch(filter: RecordFilter, signal: AbortSignal): AsyncIterable<string> | undefined {
    return this.#feed.isFull ? undefined : this.#feed.watch(filter, signal);
  }

  close(): void {
    this.#cancel();
  }

  #lookLater(): Cancel {
    return this.#deps.clock.after(LOOK_MS, () => {
      this.#look();
      this.#cancel = this.#lookLater();
    });
  }

  #look(): void {
    const { clock, certificates, log } = this.#deps;
    const before = new Set(this.#findings.map(({ code, subject }) => `${code} ${subject}`));
    const { edges, nowMs } = this.#edges.report(undefined, clock.now());
    this.#findings = this.#detector.evaluate({ nowMs, edges, certificates: certificates() });
    for (const { code, subject, severity, text, next } of this.#findings) {
      if (before.has(`${code} ${subject}`)) continue;
      log[severity === 'info' ? 'info' : 'warn'](text, [
        ['finding', code],
        ['subject', subject],
        ['severity', severity],
        ['next', next],
      ]);
    }
  }
}
