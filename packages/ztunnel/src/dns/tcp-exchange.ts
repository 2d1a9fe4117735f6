// One question to one resolver over TCP, for answers that UDP had to cut off (RFC 7766). Its time is bounded by the caller.
import {
  Errno,
  errnoName,
  EventMask,
  type EventHandler,
  type Fd,
  recv,
  type Registration,
  send,
  socketError,
  startConnect,
} from '@ambit/native';
import { FrameSplitter } from './codec/frames.ts';
import { answersQuery } from './codec/response.ts';
import type { Resolver } from './dns-messages.ts';
import { type ExchangeEvents, failureText, type ForwarderDeps } from './exchange.ts';

const MAX_MESSAGE_BYTES = 65_535;

export class TcpExchange implements EventHandler {
  readonly #deps: ForwarderDeps;
  readonly #fd: Fd;
  readonly #resolver: Resolver;
  /** With its length in front. */
  readonly #framed: Buffer;
  readonly #query: Buffer;
  readonly #questionEnd: number;
  readonly #id: number;
  readonly #events: ExchangeEvents;
  readonly #registration: Registration;
  readonly #frames = new FrameSplitter(MAX_MESSAGE_BYTES);
  #sent = 0;
  #isConnected = false;

  private constructor(
    deps: ForwarderDeps,
    fd: Fd,
    resolver: Resolver,
    query: Buffer,
    questionEnd: number,
    id: number,
    events: ExchangeEvents,
  ) {
    this.#deps = deps;
    this.#fd = fd;
    this.#resolver = resolver;
    this.#query = query;
    this.#questionEnd = questionEnd;
    this.#id = id;
    this.#events = events;
    this.#framed = Buffer.concat([Buffer.of(query.length >> 8, query.length & 0xff), query]);
    this.#registration = deps.engine.reactor.add(fd, this);
  }

  /** Begins to connect. No event before this returns. @returns what went wrong, as text */
  static begin(
    deps: ForwarderDeps,
    resolver: Resolver,
    query: Buffer,
    questionEnd: number,
    id: number,
    events: ExchangeEvents,
  ): TcpExchange | string {
    let fd: Fd | undefined;
    try {
      fd = deps.openTcp(resolver);
      const connected = startConnect(fd, resolver);
      if (connected >= 0 || connected === -Errno.EINPROGRESS) {
        return new TcpExchange(deps, fd, resolver, query, questionEnd, id, events);
      }
      fd.close();
      return failureText(resolver, -connected);
    } catch (error) {
      fd?.close();
      return error instanceof Error ? error.message : String(error);
    }
  }

  onEvents(mask: number): void {
    if (!this.#isConnected && (mask & (EventMask.OUT | EventMask.ERR | EventMask.HUP)) !== 0) {
      const error = socketError(this.#fd);
      if (error !== 0) {
        this.#fail(failureText(this.#resolver, Math.abs(error)));
        return;
      }
      this.#isConnected = true;
    }
    if (!this.#isConnected) return;
    this.#write();
    if (this.#fd.isOpen && (mask & ~EventMask.OUT) !== 0) this.#read();
  }

  close(): void {
    if (!this.#fd.isOpen) return;
    this.#deps.engine.reactor.remove(this.#registration);
    this.#fd.close();
  }

  #write(): void {
    const { scratch } = this.#deps.engine;
    while (this.#sent < this.#framed.length) {
      const left = this.#framed.copy(scratch.bytes, 0, this.#sent);
      const n = send(this.#fd, scratch, 0, left);
      if (n === -Errno.EAGAIN) return;
      if (n < 0) {
        this.#fail(failureText(this.#resolver, -n));
        return;
      }
      this.#sent += n;
    }
  }

  #read(): void {
    const { scratch } = this.#deps.engine;
    for (;;) {
      const n = recv(this.#fd, scratch, 0, scratch.size);
      if (n === -Errno.EAGAIN) return;
      if (n <= 0) {
        const why = n === 0 ? 'it closed the connection' : errnoName(-n);
        this.#fail(`resolver ${this.#resolver.ip} gave no answer over TCP: ${why}`);
        return;
      }
      this.#frames.push(scratch.bytes.subarray(0, n));
      const message = this.#frames.next();
      if (message === undefined) continue;
      if (message === 'too_large' || !this.#isAnswer(message)) {
        this.#fail(`resolver ${this.#resolver.ip} answered something else over TCP`);
        return;
      }
      this.close();
      this.#events.onAnswer(message, message.length);
      return;
    }
  }

  #isAnswer(message: Buffer): boolean {
    return answersQuery(message, 0, message.length, this.#id, this.#query, this.#questionEnd);
  }

  #fail(error: string): void {
    this.close();
    this.#events.onFailure(error);
  }
}
