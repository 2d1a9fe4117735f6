// A pod's DNS connection (RFC 7766): queries may be pipelined, answers come as they are ready. Bounded in questions under way,
// in bytes that the client does not take, and in idle time, which half a query does not lengthen.
import { Errno, EventMask, type EventHandler, type Fd, recv, type Registration, send } from '@ambit/native';
import type { Engine, Pumpable, Timer } from '@ambit/proxy';
import type { Asker, OnQuery, ParkedAsker } from './asker.ts';
import { FrameSplitter } from './codec/frames.ts';
import { MAX_QUERY_BYTES } from './udp-listener.ts';

const IDLE_MS = 10_000;
/** Queries of one connection under way; the next is read when one is answered. */
const MAX_UNDER_WAY = 16;
/** Nothing more is read while this much waits for the client to take it. */
const MAX_UNSENT_BYTES = 64 * 1024;
const READ_BYTES = 8192;

export interface TcpClientDeps {
  readonly engine: Engine;
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
    this.#handle();
    while (this.#fd.isOpen && this.#mayRead && this.#hasRoom() && !this.#isEnding) {
      this.#read();
      this.#handle();
    }
    this.#write();
    if (this.#fd.isOpen && this.#isEnding && this.#underWay === 0 && this.#unsentBytes === 0) this.close();
  }

  reply(bytes: Buffer, length: number): void {
    if (!this.#fd.isOpen) return;
    this.#unsent.push(Buffer.of(length >> 8, length & 0xff), Buffer.from(bytes.subarray(0, length)));
    this.#unsentBytes += 2 + length;
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
    this.#unsentBytes = 0;
    this.#deps.onClosed(this);
  }

  #hasRoom(): boolean {
    return this.#underWay < MAX_UNDER_WAY && this.#unsentBytes < MAX_UNSENT_BYTES;
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

  #handle(): void {
    while (this.#fd.isOpen && this.#hasRoom()) {
      const message = this.#frames.next();
      if (message === undefined) return;
      if (message === 'too_large') {
        this.close();
        return;
      }
      this.#lastMs = this.#deps.engine.nowMs;
      this.#deps.onQuery(message, 0, message.length, this);
    }
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
