// What happens to members while no ztunnel is there. `closed`: nothing, their traffic is refused. `open`: after a while their
// rules are lifted and they speak past the mesh, in plain text, until a ztunnel is there again. A dead agent can do neither:
// what it left behind stays as it is, so `open` holds only while an agent lives.
import type { Log } from '@ambit/log';

export type FailMode = 'closed' | 'open';

export interface FailModeDeps {
  /** Number of ztunnels that hold a snapshot. */
  readonly ztunnels: () => number;
  readonly setLifted: (isLifted: boolean) => void;
  readonly log: Log;
}

export class FailModeKeeper {
  readonly #deps: FailModeDeps;
  readonly #mode: FailMode;
  readonly #delayMs: number;
  #timer: NodeJS.Timeout | undefined;
  #isLifted = false;
  #isClosed = false;

  /** `delayMs`: how long a ztunnel may be away, as when it is replaced. */
  constructor(deps: FailModeDeps, mode: FailMode, delayMs: number) {
    this.#deps = deps;
    this.#mode = mode;
    this.#delayMs = delayMs;
  }

  get isLifted(): boolean {
    return this.#isLifted;
  }

  /** To be called when ztunnels come and go, and once at the start. */
  update(): void {
    if (this.#mode === 'closed' || this.#isClosed) return;
    if (this.#deps.ztunnels() > 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#set(false);
    } else if (!this.#isLifted) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#set(true);
      }, this.#delayMs);
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #set(isLifted: boolean): void {
    if (this.#isLifted === isLifted) return;
    this.#isLifted = isLifted;
    if (isLifted) this.#deps.log.error('No ztunnel is there: members speak past the mesh, as the fail mode wants it');
    else this.#deps.log.info('A ztunnel is there: members are captured again');
    this.#deps.setLifted(isLifted);
  }
}
