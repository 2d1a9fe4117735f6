// What is wrong now, and since when. A condition becomes a finding when it has lasted its grace, a finding ends as repaired
// (when something was done about it) or as cleared; repaired ones stay listed for a while, so that whoever looks a moment
// later sees what happened. Pure but for the clock it is given.
import type { Condition } from './check-pod.ts';
import type { Finding } from './audit-types.ts';

export interface Place {
  /** undefined: the node. */
  readonly uid: string | undefined;
  readonly name: string;
}

export const NODE: Place = { uid: undefined, name: 'node' };

export interface LedgerEvent {
  readonly kind: 'found' | 'repaired' | 'cleared';
  readonly finding: Finding;
  /** From when it was first seen; 0 for `found`. */
  readonly afterMs: number;
}

export interface ListedFinding extends Finding {
  /** How long it took; undefined while it is not repaired. */
  readonly repairedAfterMs: number | undefined;
}

type Entry =
  | { readonly kind: 'suspected'; readonly condition: Condition; readonly sinceMs: number }
  | { readonly kind: 'open'; readonly condition: Condition; readonly sinceMs: number; readonly isTreated: boolean }
  | { readonly kind: 'repaired'; readonly condition: Condition; readonly sinceMs: number; readonly atMs: number };

interface Page {
  place: Place;
  readonly entries: Map<string, Entry>;
}

/** How long what was repaired stays listed. */
const LISTED_MS = 60_000;

export class Ledger {
  readonly #nowMs: () => number;
  readonly #onEvent: (event: LedgerEvent) => void;
  /** By UID; the node's under ''. */
  readonly #pages = new Map<string, Page>();

  constructor(nowMs: () => number, onEvent: (event: LedgerEvent) => void) {
    this.#nowMs = nowMs;
    this.#onEvent = onEvent;
  }

  /** Everything that is wrong at this place now. @returns those that are findings */
  observe(place: Place, conditions: readonly Condition[]): readonly Condition[] {
    const page = this.#page(place);
    const now = this.#nowMs();
    const seen = new Map(conditions.map(condition => [condition.code as string, condition]));
    for (const [code, entry] of page.entries) if (!seen.has(code)) this.#absent(page, code, entry, now);
    const open: Condition[] = [];
    for (const [code, condition] of seen) if (this.#present(page, code, condition, now)) open.push(condition);
    if (page.entries.size === 0) this.#pages.delete(place.uid ?? '');
    return open;
  }

  /** Something is being done about the findings of this place that have this remedy. */
  treated({ uid }: Place, codes: readonly string[]): void {
    const page = this.#pages.get(uid ?? '');
    for (const code of codes) {
      const entry = page?.entries.get(code);
      if (entry?.kind === 'open') page?.entries.set(code, { ...entry, isTreated: true });
    }
  }

  /** Forgets places that are no more, and what was repaired long ago. */
  prune(present: ReadonlySet<string>): void {
    const now = this.#nowMs();
    for (const [key, page] of this.#pages) {
      const isGone = key !== '' && !present.has(key);
      for (const [code, entry] of page.entries) {
        if (entry.kind === 'repaired' ? now - entry.atMs >= LISTED_MS : isGone) this.#absent(page, code, entry, now);
      }
      if (page.entries.size === 0) this.#pages.delete(key);
    }
  }

  /** When a suspicion of this place is to be looked at again; undefined: there is none. */
  secondLookAt({ uid }: Place): number | undefined {
    const due = [...(this.#pages.get(uid ?? '')?.entries.values() ?? [])].flatMap(entry =>
      entry.kind === 'suspected' ? [entry.sinceMs + entry.condition.graceMs] : [],
    );
    return due.length === 0 ? undefined : Math.min(...due);
  }

  /** Open ones, of a pod. */
  hasFindings(uid: string): boolean {
    return [...(this.#pages.get(uid)?.entries.values() ?? [])].some(({ kind }) => kind === 'open');
  }

  /** Open ones first, oldest first. */
  findings(): readonly ListedFinding[] {
    const listed = [...this.#pages.values()].flatMap(({ place, entries }) =>
      [...entries.values()].flatMap(entry => (entry.kind === 'suspected' ? [] : listedOf(place, entry))),
    );
    return listed.sort((a, b) => Number(a.repaired) - Number(b.repaired) || a.since.getTime() - b.since.getTime());
  }

  #present(page: Page, code: string, condition: Condition, now: number): boolean {
    const entry = page.entries.get(code);
    if (entry?.kind === 'open') {
      page.entries.set(code, { ...entry, condition });
      return true;
    }
    const sinceMs = entry?.kind === 'suspected' ? entry.sinceMs : now;
    if (now - sinceMs < condition.graceMs) {
      page.entries.set(code, { kind: 'suspected', condition, sinceMs });
      return false;
    }
    const opened: Entry = { kind: 'open', condition, sinceMs, isTreated: false };
    page.entries.set(code, opened);
    this.#onEvent({ kind: 'found', finding: listedOf(page.place, opened), afterMs: 0 });
    return true;
  }

  #absent(page: Page, code: string, entry: Entry, now: number): void {
    switch (entry.kind) {
      case 'suspected':
        page.entries.delete(code);
        return;
      case 'repaired':
        if (now - entry.atMs >= LISTED_MS) page.entries.delete(code);
        return;
      case 'open': {
        const afterMs = now - entry.sinceMs;
        if (!entry.isTreated) {
          page.entries.delete(code);
          this.#onEvent({ kind: 'cleared', finding: listedOf(page.place, entry), afterMs });
          return;
        }
        const repaired: Entry = { kind: 'repaired', condition: entry.condition, sinceMs: entry.sinceMs, atMs: now };
        page.entries.set(code, repaired);
        this.#onEvent({ kind: 'repaired', finding: listedOf(page.place, repaired), afterMs });
      }
    }
  }

  #page(place: Place): Page {
    const key = place.uid ?? '';
    const known = this.#pages.get(key);
    if (known !== undefined) {
      known.place = place;
      return known;
    }
    const page: Page = { place, entries: new Map() };
    this.#pages.set(key, page);
    return page;
  }
}

function listedOf({ uid, name }: Place, entry: Exclude<Entry, { kind: 'suspected' }>): ListedFinding {
  const { code, what, remedy } = entry.condition;
  const isRepaired = entry.kind === 'repaired';
  return {
    code,
    pod: name,
    uid,
    what,
    remedy: isRepaired ? 'nothing to do: it was repaired' : remedy,
    since: new Date(entry.sinceMs),
    repaired: isRepaired,
    repairedAfterMs: isRepaired ? entry.atMs - entry.sinceMs : undefined,
  };
}
