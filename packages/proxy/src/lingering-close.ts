// Closes a connection so that the last words (GOAWAY, TLS alert, a final response) reach the peer. A close with unread
// bytes in the socket makes the kernel send a reset, which overtakes what was just sent; so the sending side is shut
// first, and what still comes in is discarded until the peer closes too. Bounded in time, bytes and number.
import {
  closeWithReset,
  Errno,
  EventMask,
  type EventHandler,
  type Fd,
  recv,
  type Registration,
  shutdownWrite,
} from '@ambit/native';
import type { Engine, Lingering } from './engine.ts';
import type { Timer } from './timers.ts';

/** A peer that has not closed by then is cut. */
export const LINGER_MS = 1000;
/** A peer that goes on sending is cut after this much; more than any window it may have left in flight is not needed. */
const LINGER_BYTES = 4 * 1024 * 1024;
/** Connections that may linger in one worker; beyond it they are closed at once. */
const MAX_LINGERING = 256;

class LingeringClose implements EventHandler, Lingering {
  readonly #engine: Engine;
  readonly #fd: Fd;
  readonly #registration: Registration;
  readonly #timer: Timer;
  #left = LINGER_BYTES;

  constructor(engine: Engine, fd: Fd) {
    this.#engine = engine;
    this.#fd = fd;
    this.#registration = engine.reactor.add(fd, this);
    this.#timer = engine.timers.at(engine.nowMs + LINGER_MS, () => this.end());
    engine.lingering.add(this);
  }

  onEvents(mask: number): void {
    if ((mask & (EventMask.IN | EventMask.RDHUP | EventMask.HUP | EventMask.ERR)) === 0) return;
    const slab = this.#engine.scratch;
    while (this.#left > 0) {
      const n = recv(this.#fd, slab, 0, slab.size);
      if (n === -Errno.EAGAIN) return;
      if (n <= 0) {
        this.#finish();
        return;
      }
      this.#left -= n;
    }
    this.end();
  }

  /** Cuts it now. */
  end(): void {
    this.#forget();
    closeWithReset(this.#fd);
  }

  #finish(): void {
    this.#forget();
    this.#fd.close();
  }

  #forget(): void {
    this.#engine.lingering.delete(this);
    this.#engine.timers.cancel(this.#timer);
    this.#engine.reactor.remove(this.#registration);
  }
}

/** Takes over `fd`, which must not be registered with the reactor any more. */
export function closeLingering(engine: Engine, fd: Fd): void {
  if (engine.lingering.size >= MAX_LINGERING || shutdownWrite(fd) < 0) {
    fd.close();
    return;
  }
  // Owned by the engine's set until it ends.
  void new LingeringClose(engine, fd);
}
