// One proxy's connection to the node agent: waits for its hello, then sends requests one at a time, the next only after
// the answer to the one before. Whatever the peer does wrong ends this connection and nothing else; each request that was
// waiting is told so. Owns the socket. Deadlines: hello and every answer.
import { Errno, EventMask, type Fd, type Reactor, type Registration, type SeqPacket, SysError } from '@ambit/native';
import {
  type Ack,
  decodeAck,
  decodeHello,
  encodeRequest,
  MAX_ZDS_PACKET_BYTES,
  type WorkloadRequest,
} from '@ambit/wire';
import { CniError } from '../errors.ts';

export interface Job {
  readonly request: WorkloadRequest;
  /** The namespace that goes with an `add`; stays the caller's. One that is closed before its turn loses the job. */
  readonly netns: Fd | undefined;
  /** Called exactly once. */
  readonly done: (outcome: Ack | { readonly kind: 'lost'; readonly error: CniError }) => void;
}

export interface SessionEvents {
  /** The proxy said hello; requests can be sent from now on. */
  readonly onHello: () => void;
  /** The connection is over; every job has been told. */
  readonly onEnd: (why: CniError) => void;
}

/** Far above what a full node needs; a proxy that stopped answering is found by its deadline long before. */
const MAX_QUEUE = 2048;

type State =
  | { readonly kind: 'hello' }
  | { readonly kind: 'idle' }
  | { readonly kind: 'sending'; readonly job: Job; readonly bytes: Uint8Array }
  | { readonly kind: 'waiting'; readonly job: Job }
  | { readonly kind: 'ended' };

export class ZdsSession {
  readonly #socket: SeqPacket;
  readonly #reactor: Reactor;
  readonly #events: SessionEvents;
  readonly #answerTimeoutMs: number;
  readonly #registration: Registration;
  readonly #queue: Job[] = [];
  #state: State = { kind: 'hello' };
  #hasCanary = false;
  #deadline: NodeJS.Timeout;

  /** Takes over the socket. Must be called on the thread that polls the reactor. */
  constructor(socket: SeqPacket, reactor: Reactor, events: SessionEvents, answerTimeoutMs: number) {
    this.#socket = socket;
    this.#reactor = reactor;
    this.#events = events;
    this.#answerTimeoutMs = answerTimeoutMs;
    this.#deadline = this.#startDeadline('a hello');
    this.#registration = reactor.add(socket.fd, { onEvents: mask => this.#onEvents(mask) });
  }

  /** Whether pods that this proxy serves have a canary; false before its hello. */
  get hasCanary(): boolean {
    return this.#hasCanary;
  }

  get isLive(): boolean {
    return this.#state.kind !== 'hello' && this.#state.kind !== 'ended';
  }

  /** Queues a request behind those before it. On an ended session the job is lost at once. */
  send(job: Job): void {
    if (this.#state.kind === 'ended') {
      job.done({ kind: 'lost', error: disconnected('the connection is over') });
    } else if (this.#queue.length >= MAX_QUEUE) {
      job.done({ kind: 'lost', error: disconnected(`more than ${MAX_QUEUE} requests are waiting`) });
    } else {
      this.#queue.push(job);
      this.#next();
    }
  }

  /** Hangs up. Closing twice is fine. */
  close(): void {
    this.#end(disconnected('the agent hung up'));
  }

  #onEvents(mask: number): void {
    if ((mask & EventMask.OUT) !== 0) this.#flush();
    if ((mask & ~EventMask.OUT) !== 0) this.#readAll();
  }

  #next(): void {
    if (this.#state.kind !== 'idle') return;
    const job = this.#queue.shift();
    if (job === undefined) return;
    if (job.netns?.isOpen === false) {
      job.done({ kind: 'lost', error: disconnected('the namespace was given up before its turn') });
      return this.#next();
    }
    let bytes: Uint8Array;
    try {
      bytes = encodeRequest(job.request);
    } catch (cause) {
      // Ours, not the peer's: this request cannot be said, the connection is well.
      const message = cause instanceof Error ? cause.message : String(cause);
      job.done({ kind: 'failed', error: message });
      return this.#next();
    }
    this.#state = { kind: 'sending', job, bytes };
    this.#deadline = this.#startDeadline(`an answer to ${job.request.kind}`);
    this.#flush();
  }

  #flush(): void {
    if (this.#state.kind !== 'sending') return;
    const { job, bytes } = this.#state;
    // Given up while the socket was full: without it the packet would be another, so the peer is told by a hang-up.
    if (job.netns?.isOpen === false) return this.#end(disconnected('a namespace was given up while it was being sent'));
    const sent = this.#socket.send(bytes, job.netns === undefined ? [] : [job.netns]);
    if (sent >= 0) this.#state = { kind: 'waiting', job };
    else if (sent !== -Errno.EAGAIN) this.#end(disconnected(`sending failed with errno ${-sent}`));
  }

  /** Edge-triggered: reads until there is no more. */
  #readAll(): void {
    while (this.#state.kind !== 'ended') {
      const got = this.#receive();
      if (got.kind === 'again') return;
      if (got.kind === 'end') return this.#end(disconnected('the proxy hung up'));
      const strays = got.fds.length;
      for (const fd of got.fds) fd.close();
      if (strays > 0 || got.truncated) this.#end(protocol('a packet that is too long or carries descriptors'));
      else this.#onPacket(got.bytes);
    }
  }

  /** A proxy that left with packets of ours unread is told as an error; it is gone, and that is all. */
  #receive(): ReturnType<SeqPacket['receive']> {
    try {
      return this.#socket.receive(MAX_ZDS_PACKET_BYTES, 1);
    } catch (error) {
      if (error instanceof SysError && error.code === 'ECONNRESET') return { kind: 'end' };
      throw error;
    }
  }

  #onPacket(bytes: Uint8Array): void {
    const state = this.#state;
    try {
      switch (state.kind) {
        case 'hello':
          this.#hasCanary = decodeHello(bytes).canary;
          clearTimeout(this.#deadline);
          this.#state = { kind: 'idle' };
          this.#events.onHello();
          return this.#next();
        case 'waiting': {
          const ack = decodeAck(bytes);
          clearTimeout(this.#deadline);
          this.#state = { kind: 'idle' };
          state.job.done(ack);
          return this.#next();
        }
        case 'idle':
        case 'sending':
          return this.#end(protocol('an answer to nothing'));
        case 'ended':
          return;
      }
    } catch (cause) {
      this.#end(protocol(cause instanceof Error ? cause.message : String(cause), cause));
    }
  }

  #startDeadline(what: string): NodeJS.Timeout {
    const timeout = () => this.#end(disconnected(`no ${what.replace(/^an? /, '')} within ${this.#answerTimeoutMs} ms`));
    return setTimeout(timeout, this.#answerTimeoutMs);
  }

  #end(why: CniError): void {
    const state = this.#state;
    if (state.kind === 'ended') return;
    this.#state = { kind: 'ended' };
    clearTimeout(this.#deadline);
    this.#reactor.remove(this.#registration);
    this.#socket.close();
    const jobs = state.kind === 'sending' || state.kind === 'waiting' ? [state.job, ...this.#queue] : this.#queue;
    for (const job of jobs) job.done({ kind: 'lost', error: why });
    this.#queue.length = 0;
    this.#events.onEnd(why);
  }
}

function disconnected(what: string): CniError {
  return new CniError('enrol.disconnected', `enrolment connection ended: ${what}`);
}

function protocol(what: string, cause?: unknown): CniError {
  return new CniError('enrol.protocol', `the proxy broke the enrolment protocol: ${what}`, { cause });
}
