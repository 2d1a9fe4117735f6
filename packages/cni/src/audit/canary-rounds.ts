// When whose canary is asked: once a minute, at once when a pod's way through the mesh may have changed, soon again after a failure;
// a few at a time. One failure is none: it counts when the next one confirms it, since a proxy may be restarting.
import type { Log } from '@ambit/log';
import { errorText } from '@ambit/log';
import type { NetNs } from '@ambit/native';
import { askCanary, type CanaryFamily, type CanaryResult } from './canary-client.ts';

export interface CanaryState {
  /** What counts: the last success, or a failure that was confirmed. */
  result: CanaryResult | undefined;
  /** What was heard last, confirmed or not. */
  last: CanaryResult | undefined;
  dueMs: number;
  failures: number;
  /** How often it was asked about nothing in particular. */
  routines: number;
  isRunning: boolean;
  /** `wayKey` when it was asked last. */
  key: string;
}

export interface CanaryQuestion {
  readonly uid: string;
  readonly name: string;
  readonly netns: NetNs;
  /** Those the pod has, at least one: all are asked, or one after another when nothing has changed. */
  readonly families: readonly [CanaryFamily, ...CanaryFamily[]];
  readonly key: string;
  readonly state: CanaryState;
}

export interface CanaryRoundsDeps {
  readonly log: Log;
  readonly nowMs: () => number;
  /** One that was asked has answered, or not. */
  readonly onResult: (uid: string) => void;
  readonly signal: AbortSignal;
}

const MAX_AT_ONCE = 8;
const TIMEOUT_MS = 2_000;
const PERIOD_MS = 60_000;
/** Part of the period by which pods differ, so that they do not all speak at once. */
const SPREAD = 0.2;
/** After it was enrolled. */
const FIRST_MS = 3_000;
const FIRST_SPREAD_MS = 2_000;
const CONFIRM_MS = 250;
const FAILING_PERIOD_MS = 5_000;
/** Failures in a row that count. */
const CONFIRMED = 2;

/** It failed once, and the next answer decides. */
export function isUnconfirmed({ failures }: CanaryState): boolean {
  return failures > 0 && failures < CONFIRMED;
}

/** What failed has another cause: forget it, and begin anew. */
export function excuse(state: CanaryState): void {
  state.failures = 0;
  if (state.result?.kind !== 'answered') state.result = undefined;
}

export function newCanaryState(dueMs: number): CanaryState {
  return { result: undefined, last: undefined, dueMs, failures: 0, routines: 0, isRunning: false, key: '' };
}

/**
 * From enrolment to the first canary: a node may be starting many pods, which should not wait for proofs of others (two
 * handshakes, twice what the start itself costs ztunnel).
 */
export function firstCanaryMs(uid: string): number {
  return FIRST_MS + FIRST_SPREAD_MS * shareOf(uid);
}

export class CanaryRounds {
  readonly #deps: CanaryRoundsDeps;
  readonly #running = new Set<Promise<void>>();

  constructor(deps: CanaryRoundsDeps) {
    this.#deps = deps;
  }

  /** Asks if it is time to. `force`: now. `later`: it would be time, and too many are being asked. */
  offer(question: CanaryQuestion, force: boolean): 'asked' | 'later' | 'none' {
    const { state, key } = question;
    if (state.isRunning) return 'asked';
    const hasChanged = state.key !== '' && key !== state.key;
    const isDue = force || hasChanged || this.#deps.nowMs() >= state.dueMs;
    if (!isDue) return 'none';
    if (this.#running.size >= MAX_AT_ONCE) return 'later';
    const isRoutine = !force && key === state.key && state.last?.kind === 'answered';
    const families = isRoutine ? [nextOf(question)] : question.families;
    state.isRunning = true;
    state.key = key;
    const run = this.#ask(question, families).finally(() => {
      state.isRunning = false;
      this.#running.delete(run);
      this.#deps.onResult(question.uid);
    });
    this.#running.add(run);
    return 'asked';
  }

  /** Resolves when one of those under way has ended; at once when none is. */
  async next(): Promise<void> {
    if (this.#running.size > 0) await Promise.race(this.#running);
  }

  /** Resolves when all that are under way have ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #ask({ uid, name, netns, state }: CanaryQuestion, families: readonly CanaryFamily[]): Promise<void> {
    const { log, nowMs, signal } = this.#deps;
    let result: CanaryResult;
    try {
      result = await this.#everyFamily(netns, families);
    } catch (error) {
      // It says nothing of the pod.
      log.debug('Canary not asked', { pod: name, error: errorText(error) });
      state.dueMs = nowMs() + FAILING_PERIOD_MS;
      return;
    }
    if (signal.aborted) return;
    const now = nowMs();
    state.last = result;
    if (result.kind === 'answered') {
      state.failures = 0;
      state.result = result;
      state.dueMs = now + PERIOD_MS * (1 - SPREAD * shareOf(uid));
    } else {
      state.failures++;
      const isConfirmed = state.failures >= CONFIRMED;
      if (isConfirmed) state.result = result;
      state.dueMs = now + (isConfirmed ? FAILING_PERIOD_MS : CONFIRM_MS);
    }
  }

  /** The first that fails, else the last one's answer. */
  async #everyFamily(netns: NetNs, families: readonly CanaryFamily[]): Promise<CanaryResult> {
    let result: CanaryResult = { kind: 'broken', why: 'it was not asked' };
    for (const family of families) {
      result = await askCanary(netns, family, TIMEOUT_MS, this.#deps.signal);
      if (result.kind !== 'answered') return result;
    }
    return result;
  }
}

function nextOf({ families, state }: CanaryQuestion): CanaryFamily {
  return families[state.routines++ % families.length] ?? families[0];
}

/** The same number between 0 and 1 for the same pod. */
function shareOf(uid: string): number {
  let hash = 0;
  for (const letter of uid) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 997;
  return hash / 997;
}
