// How far the process is, as the admin endpoint shows it: `/state`, and the top of the index page.

export type LifeState = 'starting' | 'serving' | 'draining';

export interface LifeReport {
  readonly state: LifeState;
  /** Since when, Unix epoch in milliseconds. */
  readonly sinceMs: number;
  /** Why it drains: the signal, or `/quitquitquit`. */
  readonly cause?: string | undefined;
  /** Names of what readiness waits for. */
  readonly pending: readonly string[];
}

/** Follows the process from start to drain. */
export class Life {
  readonly #now: () => number;
  readonly #pending: () => readonly string[];
  #state: LifeState = 'starting';
  #sinceMs: number;
  #cause: string | undefined;

  constructor(deps: { readonly now: () => number; readonly pending: () => readonly string[] }) {
    this.#now = deps.now;
    this.#pending = deps.pending;
    this.#sinceMs = deps.now();
  }

  serve(): void {
    this.#enter('serving');
  }

  drain(cause: string): void {
    this.#cause = cause;
    this.#enter('draining');
  }

  get report(): LifeReport {
    return { state: this.#state, sinceMs: this.#sinceMs, cause: this.#cause, pending: this.#pending() };
  }

  #enter(state: LifeState): void {
    this.#state = state;
    this.#sinceMs = this.#now();
  }
}
