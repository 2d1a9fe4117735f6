// One pod over all workers: opened when every worker opened its listeners, closed when every worker let go of it.
// A worker that is replaced counts as having let go. No I/O here; the supervisor sends what this asks for.
import type { PodInfo, ToWorker } from '../worker-protocol.ts';

export type PodState = Extract<ToWorker, { type: 'podState' }>;

/** Why a pod could not be opened; `code` is a reason code. */
export interface OpenFailure {
  readonly code: string;
  readonly message: string;
}

export type OpenOutcome = { readonly kind: 'open' } | { readonly kind: 'failed'; readonly failure: OpenFailure };

export type PodPhase = 'opening' | 'open' | 'closing';

const CLOSED_EARLY: OpenFailure = {
  code: 'drain.pod_removed',
  message: 'the pod was removed while it was being opened',
};

export class PodRecord {
  /** Replaced when it is described otherwise; always the same pod. */
  pod: PodInfo;
  readonly netnsFd: number | undefined;
  /** The identity its certificate carries; undefined until the mesh knows the workload. */
  identity: string | undefined;
  /** What the workers were told last of its workload and policies. */
  pushed: PodState | undefined;
  /** Resolves when every worker has answered the opening. */
  readonly opened: Promise<OpenOutcome>;
  /** Resolves when every worker has let go. */
  readonly closed: Promise<void>;
  #phase: PodPhase = 'opening';
  readonly #unanswered: Set<number>;
  /** Workers that have, or may have, the pod open. */
  readonly #holders: Set<number>;
  #failure: OpenFailure | undefined;
  #resolveOpened: (outcome: OpenOutcome) => void = () => undefined;
  #resolveClosed: () => void = () => undefined;

  constructor(pod: PodInfo, netnsFd: number | undefined, workers: readonly number[]) {
    this.pod = pod;
    this.netnsFd = netnsFd;
    this.#unanswered = new Set(workers);
    this.#holders = new Set(workers);
    this.opened = new Promise(resolve => (this.#resolveOpened = resolve));
    this.closed = new Promise(resolve => (this.#resolveClosed = resolve));
  }

  get phase(): PodPhase {
    return this.#phase;
  }

  /** A worker answered; the last answer settles `opened`. */
  onOpened(worker: number, failure: OpenFailure | undefined): void {
    if (failure !== undefined) {
      // It opened nothing, so there is nothing it will have to close.
      this.#holders.delete(worker);
      this.#failure ??= failure;
    }
    if (!this.#unanswered.delete(worker) && this.#phase !== 'closing') return;
    this.#settle();
  }

  /** Gives up waiting for answers; returns the workers that gave none. */
  expire(failure: OpenFailure): readonly number[] {
    const silent = [...this.#unanswered];
    this.#failure ??= failure;
    this.#unanswered.clear();
    this.#settle();
    return silent;
  }

  /** From now on only closing counts. Returns whether anybody still has to close. */
  close(): boolean {
    this.#phase = 'closing';
    this.#unanswered.clear();
    // Whoever still waits for the opening learns that it will not come; once settled this changes nothing.
    this.#resolveOpened({ kind: 'failed', failure: CLOSED_EARLY });
    if (this.#holders.size > 0) return true;
    this.#resolveClosed();
    return false;
  }

  onClosed(worker: number): void {
    this.#holders.delete(worker);
    if (this.#phase === 'closing' && this.#holders.size === 0) this.#resolveClosed();
  }

  /** The worker died, and all it held of the pod with it. */
  onWorkerGone(worker: number): void {
    this.onClosed(worker);
  }

  /** Its replacement was told to open the pod. */
  onWorkerBack(worker: number): void {
    if (this.#phase !== 'closing') this.#holders.add(worker);
  }

  #settle(): void {
    if (this.#phase === 'closing') {
      if (this.#holders.size === 0) this.#resolveClosed();
      return;
    }
    if (this.#phase !== 'opening' || this.#unanswered.size > 0) return;
    if (this.#failure === undefined) {
      this.#phase = 'open';
      this.#resolveOpened({ kind: 'open' });
    } else {
      this.#resolveOpened({ kind: 'failed', failure: this.#failure });
    }
  }
}
