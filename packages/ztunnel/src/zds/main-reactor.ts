// The main thread's readiness events: one reactor whose wait happens on a pool thread, running only while somebody
// listens. Node's own event loop cannot watch descriptors it did not open.
import { type EventHandler, type Fd, Reactor, type Registration } from '@ambit/native';

export class MainReactor {
  readonly #reactor = new Reactor();
  readonly #onFailure: (error: unknown) => void;
  #isRunning = false;
  #isClosed = false;

  /** `onFailure`: a handler threw or epoll_wait failed; the loop goes on only for the former. */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  add(fd: Fd, handler: EventHandler): Registration {
    const registration = this.#reactor.add(fd, handler);
    if (!this.#isRunning) void this.#run();
    return registration;
  }

  /** Before the descriptor is closed. */
  remove(registration: Registration): void {
    if (!this.#isClosed) this.#reactor.remove(registration);
  }

  close(): void {
    this.#isClosed = true;
    this.#reactor.close();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (!this.#isClosed) {
      try {
        await this.#reactor.pollAsync(-1);
      } catch (error) {
        this.#onFailure(error);
      }
    }
  }
}
