// When something happens to a pod: one thing at a time, several reasons for a look at once are one, and what failed is tried again
// later each time. Knows nothing of what a step does. Different pods do not wait for each other.
import { errorText, type Log } from '@ambit/log';
import { CniError } from '../errors.ts';
import { podName } from '../pod/agent-pod.ts';
import type { EnrolmentCounters } from './enrolment-parts.ts';
import { isRetryable, type PodEntry } from './pod-state.ts';
import type { StatusWriter } from './status-writer.ts';

export interface PodTurnsDeps {
  /** Makes the pod what it should be now. @throws CniError */
  readonly reconcile: (entry: PodEntry) => Promise<void>;
  readonly status: StatusWriter;
  readonly counters: EnrolmentCounters;
  readonly log: Log;
  /** From then on nothing is begun. */
  readonly ending: AbortSignal;
}

export const FIRST_RETRY_MS = 5;
const MAX_RETRY_MS = 5_000;

export class PodTurns {
  readonly #deps: PodTurnsDeps;

  constructor(deps: PodTurnsDeps) {
    this.#deps = deps;
  }

  /** One after another for a pod. The outcome is the caller's; the next begins whatever it was. */
  async serial<T>(entry: PodEntry, step: (entry: PodEntry) => Promise<T>): Promise<T> {
    const run = entry.tail.then(async () => step(entry));
    entry.tail = run.then(
      () => undefined,
      () => undefined,
    );
    return run;
  }

  /** Brings the pod into order soon; several reasons at once are one. */
  schedule(entry: PodEntry, event: 'add' | 'update' | undefined, delayMs = 0): void {
    if (event !== undefined) {
      this.#deps.counters[event]++;
      entry.failures = 0;
    }
    if (this.#deps.ending.aborted) return;
    clearTimeout(entry.timer);
    if (delayMs > 0) {
      entry.timer = setTimeout(() => this.schedule(entry, undefined), delayMs);
      entry.timer.unref();
      return;
    }
    if (entry.isQueued) return;
    entry.isQueued = true;
    void this.serial(entry, async () => {
      entry.isQueued = false;
      try {
        await this.#deps.reconcile(entry);
        entry.failures = 0;
      } catch (error) {
        this.failed(entry, error);
      }
    });
  }

  /** Notes why a pod is not as it should be, and tries again if that helps. */
  failed(entry: PodEntry, error: unknown): void {
    if (this.#deps.ending.aborted) return;
    this.#deps.counters.failed++;
    const failure = error instanceof CniError ? error : new CniError('enrol.rules', errorText(error), { cause: error });
    entry.problem = failure;
    // Not found is not gone: after our own restart rules and ztunnel may be in place, unseen.
    if (entry.state.kind === 'outside' && failure.code !== 'enrol.no_netns') {
      this.#deps.status.set(entry.uid, undefined);
    }
    const retryMs = isRetryable(failure)
      ? Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(entry.failures++, 20))
      : undefined;
    // ztunnel's arrival asks again by itself; each try would only say the same.
    const waits = failure.code === 'enrol.no_ztunnel';
    this.#deps.log[waits ? 'debug' : 'warn']('Pod is not as it should be', {
      pod: podName(entry.pod),
      code: failure.code,
      error: failure.message,
      retryMs: waits ? undefined : retryMs,
    });
    if (retryMs !== undefined && !waits) this.schedule(entry, undefined, retryMs);
  }
}
