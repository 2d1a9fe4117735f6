// Mending what the audit finds: at once the first time, then less and less often, so that two parties that undo each other's work
// do not keep the node busy; and it is told when that goes on. A few pods at a time, one repair at a time for a pod.
import { errorText, type Log } from '@ambit/log';
import type { AuditSubject } from './audit-types.ts';
import type { RepairAction } from './check-pod.ts';
import type { Place } from './ledger.ts';

export type RepairSubject = Pick<AuditSubject, 'enrolAgain' | 'removeLeftovers' | 'repairHost'>;

export interface RepairsDeps {
  readonly subject: RepairSubject;
  readonly log: Log;
  readonly nowMs: () => number;
  /** A repair has ended, well or not: look again. */
  readonly onDone: (place: Place) => void;
}

interface Record {
  /** When repairs were begun, oldest first. */
  begun: readonly number[];
  notBeforeMs: number;
  running: Promise<void> | undefined;
  /** One was refused because it came too soon. */
  isWaiting: boolean;
  problem: string | undefined;
}

const MAX_AT_ONCE = 8;
const FIRST_DELAY_MS = 1_000;
const MAX_DELAY_MS = 60_000;
/** Repairs of a pod that are remembered, and how many of them mean that somebody keeps undoing them. */
const MEMORY_MS = 300_000;
const MANY = 5;

export class Repairs {
  readonly #deps: RepairsDeps;
  /** By UID; the node's under ''. */
  readonly #records = new Map<string, Record>();
  #running = 0;
  readonly counters = { done: 0, failed: 0 };

  constructor(deps: RepairsDeps) {
    this.#deps = deps;
  }

  /** Begins one if its time has come. @returns whether it did */
  begin(place: Place, action: Exclude<RepairAction, 'none'>): boolean {
    const { nowMs } = this.#deps;
    const now = nowMs();
    const record = this.#record(place.uid, now);
    record.isWaiting = record.running === undefined && now < record.notBeforeMs;
    if (record.running !== undefined || this.#running >= MAX_AT_ONCE || record.isWaiting) return false;
    const nth = record.begun.length;
    record.begun = [...record.begun, now];
    record.notBeforeMs = now + Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(nth, 10));
    record.running = this.#run(place, action, record);
    return true;
  }

  /** When a repair that came too soon may begin; Infinity: there is none. */
  waitingUntil({ uid }: Place): number {
    const record = this.#records.get(uid ?? '');
    return record?.isWaiting === true ? record.notBeforeMs : Infinity;
  }

  /** Nothing is wrong any more. */
  settle({ uid }: Place): void {
    const record = this.#records.get(uid ?? '');
    if (record !== undefined) record.isWaiting = false;
  }

  /** What to tell beside the finding: that repairs fail, or do not last; undefined: neither. */
  remark({ uid }: Place): string | undefined {
    const record = this.#records.get(uid ?? '');
    if (record === undefined) return undefined;
    if (record.problem !== undefined) return `the repair failed: ${record.problem}`;
    const count = this.#recent(record, this.#deps.nowMs()).length;
    return count >= MANY ? `repaired ${count} times in 5 min: something keeps undoing it` : undefined;
  }

  isRunning({ uid }: Place): boolean {
    return this.#records.get(uid ?? '')?.running !== undefined;
  }

  /** Resolves when nothing is being repaired. */
  async idle(): Promise<void> {
    for (;;) {
      const running = [...this.#records.values()].flatMap(({ running: each }) => each ?? []);
      if (running.length === 0) return;
      await Promise.all(running);
    }
  }

  prune(present: ReadonlySet<string>): void {
    const now = this.#deps.nowMs();
    for (const [key, record] of this.#records) {
      const isOver = !present.has(key) || this.#recent(record, now).length === 0;
      if (record.running === undefined && isOver && key !== '') this.#records.delete(key);
    }
  }

  async #run(place: Place, action: Exclude<RepairAction, 'none'>, record: Record): Promise<void> {
    this.#running++;
    try {
      await this.#act(place, action);
      record.problem = undefined;
      this.counters.done++;
    } catch (error) {
      record.problem = errorText(error);
      this.counters.failed++;
      this.#deps.log.warn('Repair failed', { pod: place.name, action, error: record.problem });
    } finally {
      this.#running--;
      record.running = undefined;
      this.#deps.onDone(place);
    }
  }

  async #act({ uid }: Place, action: Exclude<RepairAction, 'none'>): Promise<void> {
    const { subject } = this.#deps;
    if (uid === undefined || action === 'host') await subject.repairHost();
    else if (action === 'enrol') await subject.enrolAgain(uid);
    else await subject.removeLeftovers(uid);
  }

  #recent(record: Record, now: number): readonly number[] {
    return record.begun.filter(at => now - at < MEMORY_MS);
  }

  #record(uid: string | undefined, now: number): Record {
    const key = uid ?? '';
    const known = this.#records.get(key);
    if (known !== undefined) {
      known.begun = this.#recent(known, now);
      return known;
    }
    const record: Record = { begun: [], notBeforeMs: 0, running: undefined, isWaiting: false, problem: undefined };
    this.#records.set(key, record);
    return record;
  }
}
