// The epoll loop. A descriptor is registered once, edge-triggered, for reading and writing; its handler keeps what is
// ready. Each registration has a generation that travels with its events, so an event that was already fetched for a
// descriptor closed meanwhile is dropped and never reaches the next owner of the number. `poll` allocates nothing.
import { Errno } from './errno.ts';
import { NativeError, SysError } from './errors.ts';
import { Fd } from './fd.ts';
import { EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_EVENT, EPOLLET, O_CLOEXEC } from './layouts.ts';
import { bind, lastErrno, type ReadableWatch, watchReadable } from './library.ts';
import { Slab } from './slab.ts';

/** Bits of `onEvents`. ERR and HUP come unasked. */
export const EventMask = { IN: 0x1, OUT: 0x4, ERR: 0x8, HUP: 0x10, RDHUP: 0x2000 } as const;

export interface EventHandler {
  /** Runs inside `poll`. May add, remove and close anything, but must not poll. What it throws leaves `poll`; no other event is lost. */
  onEvents(mask: number): void;
}

/** Proof of having been added; hand it back to `remove`. */
export interface Registration {
  readonly fd: Fd;
  readonly handler: EventHandler;
}

class Entry implements Registration {
  readonly fd: Fd;
  readonly handler: EventHandler;
  readonly number: number;
  readonly generation: number;

  constructor(fd: Fd, handler: EventHandler, generation: number) {
    this.fd = fd;
    this.handler = handler;
    this.number = fd.number;
    this.generation = generation;
  }
}

const c_epoll_create1 = bind<(flags: number) => number>('int epoll_create1(int flags)');
const c_epoll_ctl = bind<(epoll: number, operation: number, fd: number, event: number) => number>(
  'int epoll_ctl(int epoll, int operation, int fd, uintptr_t event)',
);
const c_epoll_wait = bind<(epoll: number, events: number, max: number, timeoutMs: number) => number>(
  'int epoll_wait(int epoll, uintptr_t events, int max, int timeoutMs)',
);

/** Events fetched per call; more stay in the kernel, which serves them in turn. */
const MAX_EVENTS = 256;
const INTEREST = {
  both: (EventMask.IN | EventMask.OUT | EventMask.RDHUP | EPOLLET) >>> 0,
  reading: (EventMask.IN | EventMask.RDHUP | EPOLLET) >>> 0,
};
const BATCH_WORDS = MAX_EVENTS * EPOLL_EVENT.wordsPerEvent;
const MAX_GENERATION = 0xffffffff;

export class Reactor {
  readonly #epoll: Fd;
  /** Room for a batch, then for the one event of epoll_ctl. */
  readonly #memory = Slab.allocate((BATCH_WORDS + EPOLL_EVENT.wordsPerEvent) * 4);
  readonly #words: Uint32Array;
  readonly #batchAddress: number;
  readonly #controlAddress: number;
  readonly #entries: (Entry | undefined)[] = [];
  #generation = 0;
  /** The batch being dispatched: events `#next`..`#ready` are still to run, also after a handler threw. */
  #next = 0;
  #ready = 0;
  #state: 'idle' | 'dispatching' | 'waiting' = 'idle';
  #isClosed = false;
  /** Made by the first `pollAsync`: Node's event loop watching our epoll descriptor. */
  #watch: ReadableWatch | undefined;
  #endWait: (() => void) | undefined;

  /** @throws SysError */
  constructor() {
    const n = c_epoll_create1(O_CLOEXEC);
    if (n < 0) throw new SysError('epoll_create1', lastErrno());
    this.#epoll = new Fd(n);
    const { buffer, byteOffset, length } = this.#memory.bytes;
    this.#words = new Uint32Array(buffer, byteOffset, length / 4);
    this.#batchAddress = this.#memory.address(0, BATCH_WORDS * 4);
    this.#controlAddress = this.#memory.address(BATCH_WORDS * 4, EPOLL_EVENT.wordsPerEvent * 4);
  }

  /**
   * Registers for IN, RDHUP and, unless it is for `reading` alone, OUT, edge-triggered; what is ready already is reported by
   * the next poll. A UDP socket is `reading`: each datagram that it has sent would be an OUT event of its own, since the
   * kernel says that there is room whenever there is room again. @throws SysError, native.closed
   */
  add(fd: Fd, handler: EventHandler, interest: keyof typeof INTEREST = 'both'): Registration {
    this.#checkOpen();
    const generation = this.#generation === MAX_GENERATION ? 1 : this.#generation + 1;
    const entry = new Entry(fd, handler, generation);
    const at = BATCH_WORDS;
    this.#words[at] = INTEREST[interest];
    this.#words[at + EPOLL_EVENT.dataWord] = entry.number;
    this.#words[at + EPOLL_EVENT.dataWord + 1] = generation;
    if (c_epoll_ctl(this.#epoll.number, EPOLL_CTL_ADD, entry.number, this.#controlAddress) < 0) {
      throw new SysError('epoll_ctl', lastErrno(), `add descriptor ${entry.number}`);
    }
    this.#generation = generation;
    this.#entries[entry.number] = entry;
    return entry;
  }

  /**
   * The handler is not called again, not even for events already fetched. Remove before closing the descriptor: a
   * duplicate of it elsewhere would otherwise keep the kernel reporting it. Removing twice does nothing.
   */
  remove(registration: Registration): void {
    const { fd } = registration;
    if (!(registration instanceof Entry)) throw new NativeError('native.argument', 'not a registration');
    // A closed descriptor's number may have been added again by its next owner; that entry is not ours to drop.
    if (this.#entries[registration.number] !== registration) return;
    this.#entries[registration.number] = undefined;
    if (fd.isOpen && !this.#isClosed) {
      c_epoll_ctl(this.#epoll.number, EPOLL_CTL_DEL, registration.number, this.#controlAddress);
    }
  }

  /**
   * Waits up to `timeoutMs` (-1: until something happens, 0: not at all), runs the handlers and returns how many ran.
   * After a handler threw, the next call first runs the handlers of the same batch that had not had their turn.
   * @throws native.argument (nested, or during pollAsync), native.closed, SysError
   */
  poll(timeoutMs: number): number {
    this.#enter(timeoutMs);
    if (this.#next === this.#ready) this.#fetch(timeoutMs);
    return this.#dispatch();
  }

  /**
   * The same for a thread that runs Node's event loop: libuv watches the epoll descriptor, which is readable while
   * events wait in it, so neither this thread nor a pool thread blocks. Always lets the event loop turn. One at a
   * time. `close` ends the wait; the promise then gives 0. @throws as poll
   */
  async pollAsync(timeoutMs: number): Promise<number> {
    this.#enter(timeoutMs);
    if (this.#next === this.#ready) {
      this.#state = 'waiting';
      await this.#waitInEventLoop(timeoutMs);
      this.#state = 'idle';
      if (this.#isClosed) return 0;
      this.#fetch(0);
    }
    return this.#dispatch();
  }

  /** Forgets all registrations; their descriptors stay open. A running `pollAsync` is woken and ends. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#entries.length = 0;
    this.#next = this.#ready = 0;
    this.#watch?.close();
    this.#epoll.close();
    this.#memory.close();
    this.#endWait?.();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #enter(timeoutMs: number): void {
    this.#checkOpen();
    if ((timeoutMs | 0) !== timeoutMs || timeoutMs < -1) {
      throw new NativeError('native.argument', `poll timeout of ${timeoutMs} ms`);
    }
    if (this.#state !== 'idle') throw new NativeError('native.argument', `poll while ${this.#state}`);
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new NativeError('native.closed', 'reactor used after close');
  }

  #fetch(timeoutMs: number): void {
    const n = c_epoll_wait(this.#epoll.number, this.#batchAddress, MAX_EVENTS, timeoutMs);
    this.#next = 0;
    this.#ready = 0;
    if (n >= 0) {
      this.#ready = n;
      return;
    }
    const errno = lastErrno();
    // A signal ends epoll_wait whatever SA_RESTART says; the caller polls again anyway.
    if (errno !== Errno.EINTR) throw new SysError('epoll_wait', errno);
  }

  #dispatch(): number {
    let ran = 0;
    this.#state = 'dispatching';
    try {
      while (this.#next < this.#ready) {
        const at = this.#next * EPOLL_EVENT.wordsPerEvent;
        this.#next++;
        const entry = this.#entries[this.#words[at + EPOLL_EVENT.dataWord] ?? 0];
        if (entry === undefined || entry.generation !== this.#words[at + EPOLL_EVENT.dataWord + 1]) continue;
        ran++;
        entry.handler.onEvents(this.#words[at] ?? 0);
      }
    } finally {
      this.#state = 'idle';
    }
    return ran;
  }

  #waitInEventLoop(timeoutMs: number): Promise<void> {
    const watch = (this.#watch ??= watchReadable(this.#epoll.number));
    return new Promise(resolve => {
      const done = () => {
        if (timer !== undefined) clearTimeout(timer);
        this.#endWait = undefined;
        if (!this.#isClosed) watch.stop();
        resolve();
      };
      const timer = timeoutMs < 0 ? undefined : setTimeout(done, timeoutMs);
      this.#endWait = done;
      watch.start(done);
    });
  }
}
