// Accepts connections on one listening socket. A turn accepts a bounded number, so that a storm of connections cannot
// starve those that are open. When the process is out of descriptors it pauses instead of spinning: connections wait in
// the kernel's backlog meanwhile.
import { acceptConnection, Errno, type EventHandler, type Fd, type Registration } from '@ambit/native';
import type { Engine, Timer } from '@ambit/proxy';

const ACCEPTS_PER_TURN = 64;
/** Pause after running out of descriptors. */
const NO_FDS_PAUSE_MS = 50;

const OUT_OF_FDS: ReadonlySet<number> = new Set([Errno.EMFILE, Errno.ENFILE, Errno.ENOBUFS, Errno.ENOMEM]);

export class ConnectionListener implements EventHandler {
  queued = false;
  readonly isBulk = false;
  readonly #engine: Engine;
  readonly #fd: Fd;
  readonly #onAccepted: (fd: Fd) => void;
  readonly #onNoFds: () => void;
  #registration: Registration | undefined;
  #pause: Timer | undefined;

  constructor(engine: Engine, fd: Fd, onAccepted: (fd: Fd) => void, onNoFds: () => void) {
    this.#engine = engine;
    this.#fd = fd;
    this.#onAccepted = onAccepted;
    this.#onNoFds = onNoFds;
    this.#registration = engine.reactor.add(fd, this);
  }

  onEvents(): void {
    this.#engine.enqueue(this);
  }

  pump(): void {
    if (this.#registration === undefined || this.#pause !== undefined) return;
    for (let count = 0; count < ACCEPTS_PER_TURN; count++) {
      const accepted = acceptConnection(this.#fd);
      if (typeof accepted !== 'number') {
        this.#onAccepted(accepted);
        if (this.#registration === undefined) return;
        continue;
      }
      if (accepted === -Errno.EAGAIN) return;
      if (OUT_OF_FDS.has(-accepted)) {
        this.#onNoFds();
        this.#pause = this.#engine.timers.at(this.#engine.nowMs + NO_FDS_PAUSE_MS, () => {
          this.#pause = undefined;
          this.#engine.enqueue(this);
        });
        return;
      }
      // Anything else concerns the one connection that was about to be accepted (ECONNABORTED, EPROTO): the next one.
    }
    this.#engine.enqueue(this);
  }

  close(): void {
    this.#engine.timers.cancel(this.#pause);
    this.#pause = undefined;
    this.#fd.close();
    if (this.#registration !== undefined) this.#engine.reactor.remove(this.#registration);
    this.#registration = undefined;
  }
}
