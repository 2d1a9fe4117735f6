// One question to one resolver over UDP, on a connected socket of its own. Whatever is not the answer is counted and ignored,
// a bounded number of times.
import {
  Errno,
  errnoName,
  EventMask,
  type EventHandler,
  type Fd,
  recv,
  type Registration,
  send,
  startConnect,
} from '@ambit/native';
import { answersQuery } from './codec/response.ts';
import type { Resolver } from './dns-messages.ts';
import { type ExchangeEvents, failureText, type ForwarderDeps } from './exchange.ts';

/** A guesser gets this many guesses, then the question is asked anew from another port with another id. */
const MAX_UNSOLICITED = 16;

export class UdpExchange implements EventHandler {
  readonly #deps: ForwarderDeps;
  readonly #fd: Fd;
  readonly #query: Buffer;
  readonly #questionEnd: number;
  readonly #id: number;
  readonly #events: ExchangeEvents;
  readonly #registration: Registration;
  #unsolicited = 0;

  private constructor(
    deps: ForwarderDeps,
    fd: Fd,
    query: Buffer,
    questionEnd: number,
    id: number,
    events: ExchangeEvents,
  ) {
    this.#deps = deps;
    this.#fd = fd;
    this.#query = query;
    this.#questionEnd = questionEnd;
    this.#id = id;
    this.#events = events;
    this.#registration = deps.engine.reactor.add(fd, this);
  }

  /** Sends the query, whose id is set. No event before this returns. @returns what went wrong, as text */
  static begin(
    deps: ForwarderDeps,
    resolver: Resolver,
    query: Buffer,
    questionEnd: number,
    id: number,
    events: ExchangeEvents,
  ): UdpExchange | string {
    let fd: Fd | undefined;
    try {
      fd = deps.openUdp(resolver);
      const { scratch } = deps.engine;
      const connected = startConnect(fd, resolver);
      query.copy(scratch.bytes, 0);
      const sent = connected < 0 ? connected : send(fd, scratch, 0, query.length);
      if (sent >= 0) return new UdpExchange(deps, fd, query, questionEnd, id, events);
      fd.close();
      return failureText(resolver, -sent);
    } catch (error) {
      fd?.close();
      return error instanceof Error ? error.message : String(error);
    }
  }

  onEvents(mask: number): void {
    if ((mask & (EventMask.IN | EventMask.ERR)) === 0) return;
    const { scratch } = this.#deps.engine;
    while (this.#fd.isOpen) {
      const n = recv(this.#fd, scratch, 0, scratch.size);
      if (n === -Errno.EAGAIN) return;
      if (n < 0) {
        this.#fail(`a resolver is not there: ${errnoName(-n)}`);
        return;
      }
      if (answersQuery(scratch.bytes, 0, n, this.#id, this.#query, this.#questionEnd)) {
        this.close();
        this.#events.onAnswer(scratch.bytes, n);
        return;
      }
      this.#deps.onUnsolicited();
      if (++this.#unsolicited >= MAX_UNSOLICITED) this.#fail('answers that are none came to the port of a question');
    }
  }

  close(): void {
    if (!this.#fd.isOpen) return;
    this.#deps.engine.reactor.remove(this.#registration);
    this.#fd.close();
  }

  #fail(error: string): void {
    this.close();
    this.#events.onFailure(error);
  }
}
