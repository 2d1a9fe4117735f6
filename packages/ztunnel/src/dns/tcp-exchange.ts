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
} from '@ambit/native';
import type { Engine } from '@ambit/proxy';
import { FrameSplitter } from './codec/frames.ts';
import { answersQuery } from './codec/response.ts';
import type { Resolver } from './dns-messages.ts';
import {
  type AskedMessage,
  connectSocket,
  type Exchange,
  type ExchangeOwner,
  failureText,
  randomId,
} from './exchange.ts';

const MAX_MESSAGE_BYTES = 65_535;

export class TcpExchange implements EventHandler, Exchange {
  readonly resolver: Resolver;
  readonly #engine: Engine;
  readonly #fd: Fd;
  /** With its length in front. */
  readonly #framed: Buffer;
  readonly #asked: AskedMessage;
  readonly #id = randomId();
  readonly #owner: ExchangeOwner;
  readonly #registration: Registration;
  readonly #frames = new FrameSplitter(MAX_MESSAGE_BYTES);
  #sent = 0;
  #isConnected = false;

  private constructor(engine: Engine, resolver: Resolver, fd: Fd, asked: AskedMessage, owner: ExchangeOwner) {
    const { message } = asked;
    this.#engine = engine;
    this.resolver = resolver;
    this.#fd = fd;
    this.#asked = asked;
    this.#owner = owner;
    message.writeUInt16BE(this.#id, 0);
    this.#framed = Buffer.concat([Buffer.of(message.length >> 8, message.length & 0xff), message]);
    this.#registration = engine.reactor.add(fd, this);
  }

  /** Begins to connect a socket that `open` makes. No event before this returns. @returns what went wrong, as text */
  static begin(
    engine: Engine,
    resolver: Resolver,
    open: (resolver: Resolver) => Fd,
    asked: AskedMessage,
    owner: ExchangeOwner,
  ): TcpExchange | string {
    const fd = connectSocket(open, resolver);
    return typeof fd === 'string' ? fd : new TcpExchange(engine, resolver, fd, asked, owner);
  }

  onEvents(mask: number): void {
    if (!this.#isConnected && (mask & (EventMask.OUT | EventMask.ERR | EventMask.HUP)) !== 0) {
      const error = socketError(this.#fd);
      if (error !== 0) {
        this.#fail(failureText(this.resolver, Math.abs(error)));
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
    this.#engine.reactor.remove(this.#registration);
    this.#fd.close();
  }

  #write(): void {
    const { scratch } = this.#engine;
    while (this.#sent < this.#framed.length) {
      const left = this.#framed.copy(scratch.bytes, 0, this.#sent);
      const n = send(this.#fd, scratch, 0, left);
      if (n === -Errno.EAGAIN) return;
      if (n < 0) {
        this.#fail(failureText(this.resolver, -n));
        return;
      }
      this.#sent += n;
    }
  }

  #read(): void {
    const { scratch } = this.#engine;
    for (;;) {
      const n = recv(this.#fd, scratch, 0, scratch.size);
      if (n === -Errno.EAGAIN) return;
      if (n <= 0) {
        const why = n === 0 ? 'it closed the connection' : errnoName(-n);
        this.#fail(`resolver ${this.resolver.ip} gave no answer over TCP: ${why}`);
        return;
      }
      this.#frames.push(scratch.bytes.subarray(0, n));
      const message = this.#frames.next();
      if (message === undefined) continue;
      if (message === 'too_large' || !this.#isAnswer(message)) {
        this.#fail(`resolver ${this.resolver.ip} answered something else over TCP`);
        return;
      }
      this.close();
      this.#owner.onAnswer(this, message, message.length);
      return;
    }
  }

  #isAnswer(message: Buffer): boolean {
    return answersQuery(message, 0, message.length, this.#id, this.#asked.message, this.#asked.questionEnd);
  }

  #fail(error: string): void {
    this.close();
    this.#owner.onFailure(this, error);
  }
}
