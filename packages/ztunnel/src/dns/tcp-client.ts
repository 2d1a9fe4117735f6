// A pod's DNS connection (RFC 7766): queries may be pipelined, answers come as they are ready. Bounded in work a turn, in
// questions under way, in bytes that the client does not take, and in idle time, which half a query does not lengthen.
import { Errno, EventMask, type EventHandler, type Fd, recv, type Registration, send } from '@ambit/native';
import type { Engine, Pumpable, Timer } from '@ambit/proxy';
import type { Asker, OnQuery, ParkedAsker } from './asker.ts';
import { FrameSplitter } from './codec/frames.ts';
import { HEADER_BYTES } from './codec/numbers.ts';
import { MAX_QUERY_BYTES } from './codec/query.ts';

const IDLE_MS = 10_000;
/** Queries of one connection under way; the next is read when one is answered. */
const MAX_UNDER_WAY = 16;
/** Nothing more is read while this much waits for the client to take it. */
const MAX_UNSENT_BYTES = 64 * 1024;
const READ_BYTES = 8192;
/** Reads and queries of one connection in a turn: the rest of the worker must not wait for one that is always full. */
const STEPS_PER_TURN = 64;

/** Bytes that the clients of one pod have not taken yet. */
export interface Unread {
  bytes: number;
  readonly maxBytes: number;
}

export interface TcpClientDeps {
  readonly engine: Engine;
  /** A client whose answer would exceed it is given up. */
  readonly unread: Unread;
  readonly onQuery: OnQuery;
  readonly onClosed: (client: TcpClient) => void;
}

export class TcpClient implements EventHandler, Pumpable, Asker {
  queued = false;
  readonly isBulk = false;
  readonly isTcp = true;
  readonly #deps: TcpClientDeps;
  readonly #fd: Fd;
  readonly #registration: Registration;
  readonly #frames = new FrameSplitter(MAX_QUERY_BYTES);
  /** Framed answers, the first perhaps sent in part. */
  #unsent: Buffer[] = [];
  #unsentBytes = 0;
  #underWay = 0;
  #mayRead = false;
  /** No more queries: the client has ended its side, or we drain. */
  #isEnding = false;
  #lastMs: number;
  #timer: Timer | undefined;

  /** Owns `fd` from now on. */
  constructor(deps: TcpClientDeps, fd: Fd) {
    const { engine } = deps;
    this.#deps = deps;
    this.#fd = fd;
    this.#lastMs = engine.nowMs;
    this.#registration = engine.reactor.add(fd, this);
    this.#armIdle(IDLE_MS);
  }

  onEvents(mask: number): void {
    if ((mask & (EventMask.ERR | EventMask.HUP)) !== 0) {
      this.close();
      return;
    }
    if ((mask & (EventMask.IN | EventMask.RDHUP)) !== 0) this.#mayRead = true;
    this.#deps.engine.enqueue(this);
  }

  pump(): void {
    this.#write();
    this.#takeQueries();
    this.#write();
    const isDone = this.#isEnding && !this.queued && this.#underWay === 0 && this.#unsentBytes === 0;
    if (isDone) this.close();
  }

  reply(bytes: Buffer, length: number): void {
    if (!this.#fd.isOpen) return;
    const { unread } = this.#deps;
    if (unread.bytes + 2 + length > unread.maxBytes) {
      this.close();
      return;
    }
    this.#unsent.push(Buffer.of(length >> 8, length & 0xff), Buffer.from(bytes.subarray(0, length)));
    this.#unsentBytes += 2 + length;
    unread.bytes += 2 + length;
    this.#lastMs = this.#deps.engine.nowMs;
    this.#deps.engine.enqueue(this);
  }

  park(): ParkedAsker {
    this.#underWay++;
    return {
      isTcp: true,
      reply: (bytes, length) => {
        this.#underWay--;
        this.reply(bytes, length);
      },
      drop: () => {
        this.#underWay--;
        this.#deps.engine.enqueue(this);
      },
    };
  }

  /** Reads no more; closes when all is answered. */
  drain(): void {
    this.#isEnding = true;
    this.#deps.engine.enqueue(this);
  }

  close(): void {
    if (!this.#fd.isOpen) return;
    this.#deps.engine.timers.cancel(this.#timer);
    this.#deps.engine.reactor.remove(this.#registration);
    this.#fd.close();
    this.#unsent = [];
    this.#deps.unread.bytes -= this.#unsentBytes;
    this.#unsentBytes = 0;
    this.#deps.onClosed(this);
  }

  #hasRoom(): boolean {
    return this.#underWay < MAX_UNDER_WAY && this.#unsentBytes < MAX_UNSENT_BYTES;
  }

  #takeQueries(): void {
    for (let steps = 0; this.#fd.isOpen && this.#hasRoom(); steps++) {
      if (steps === STEPS_PER_TURN) {
        this.#deps.engine.enqueue(this);
        return;
      }
      const message = this.#frames.next();
      if (message !== undefined) this.#handle(message);
      else if (this.#mayRead && !this.#isEnding) this.#read();
      else return;
    }
  }

  #read(): void {
    const { scratch } = this.#deps.engine;
    const n = recv(this.#fd, scratch, 0, READ_BYTES);
    if (n > 0) this.#frames.push(scratch.bytes.subarray(0, n));
    else {
      this.#mayRead = false;
      if (n === 0) this.#isEnding = true;
      else if (n !== -Errno.EAGAIN) this.close();
    }
  }

  /** Who sends a length that no query has speaks something else. */
  #handle(message: Buffer | 'too_large'): void {
    if (message === 'too_large' || message.length < HEADER_BYTES) {
      this.close();
      return;
    }
    this.#lastMs = this.#deps.engine.nowMs;
    this.#deps.onQuery(message, 0, message.length, this);
  }

  #write(): void {
    const { scratch } = this.#deps.engine;
    while (this.#fd.isOpen && this.#unsentBytes > 0) {
      const length = this.#gather(scratch.bytes);
      const n = send(this.#fd, scratch, 0, length);
      if (n === -Errno.EAGAIN) return;
      if (n < 0) {
        this.close();
        return;
      }
      this.#forget(n);
    }
  }

  #gather(into: Buffer): number {
    let size = 0;
    for (const part of this.#unsent) {
      size += part.copy(into, size);
      if (size === into.length) break;
    }
    return size;
  }

  #forget(count: number): void {
    this.#unsentBytes -= count;
    this.#deps.unread.bytes -= count;
    let left = count;
    let whole = 0;
    for (const part of this.#unsent) {
      if (left < part.length) break;
      left -= part.length;
      whole++;
    }
    this.#unsent.splice(0, whole);
    const first = this.#unsent[0];
    if (left > 0 && first !== undefined) this.#unsent[0] = first.subarray(left);
  }

  #armIdle(inMs: number): void {
    const { engine } = this.#deps;
    this.#timer = engine.timers.at(engine.nowMs + inMs, () => {
      const idleMs = engine.nowMs - this.#lastMs;
      // A question under way is bounded by itself.
      if (idleMs >= IDLE_MS && this.#underWay === 0) this.close();
      else this.#armIdle(Math.max(1000, IDLE_MS - idleMs));
    });
  }
}
