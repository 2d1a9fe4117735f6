// UDP sockets to resolvers, a few for each and used again, since making one costs more than a question (its namespace is
// entered, it is marked, connected, watched). What keeps forged answers out (RFC 5452):
//
// - Sockets are connected: the kernel drops what does not come from the resolver's address and port (9.1), and says to nobody
//   which ports are open.
// - Each question has an id of its own at random (9.2), and a socket at random among several whose ports the kernel chose at
//   random (9.2); after 128 questions or 10 s a socket takes no more, so a port is worth little to who finds it out. The
//   same question is not asked twice at once by a pod, save with other options (5, birthdays).
// - An answer counts only with the id and the question (9.1), letter case aside. 16 others, and all questions of that socket are
//   asked anew from another port.
import { Errno, errnoName, EventMask, type EventHandler, type Fd, recv, type Registration, send } from '@ambit/native';
import type { Engine, Timer } from '@ambit/proxy';
import { HEADER_BYTES } from './codec/numbers.ts';
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

export interface ResolverSocketsDeps {
  readonly engine: Engine;
  readonly onUnsolicited: () => void;
}

/** To one resolver, of those that take questions. */
const SOCKETS = 8;
const MAX_QUESTIONS = 128;
const MAX_AGE_MS = 10_000;
/** A guesser gets this many guesses at a port. */
const MAX_UNSOLICITED = 16;

export class ResolverSockets {
  readonly #deps: ResolverSocketsDeps;
  readonly #taking = new Map<Resolver, ResolverSocket[]>();
  readonly #all = new Set<ResolverSocket>();

  constructor(deps: ResolverSocketsDeps) {
    this.#deps = deps;
  }

  /** Sockets there are. */
  get size(): number {
    return this.#all.size;
  }

  /**
   * Sends the question to the resolver, from a socket that `open` makes when it takes a new one. No event of it before this
   * returns. @returns what went wrong, as text
   */
  begin(
    resolver: Resolver,
    open: (resolver: Resolver) => Fd,
    asked: AskedMessage,
    owner: ExchangeOwner,
  ): Exchange | string {
    const sockets = this.#taking.get(resolver) ?? [];
    const used = sockets.length < SOCKETS ? undefined : sockets[randomId() % sockets.length];
    if (used !== undefined) {
      const begun = used.ask(asked, owner);
      // It may have been told that the resolver is gone, which needs not be true any more.
      if (typeof begun !== 'string') return begun;
    }
    const fd = connectSocket(open, resolver);
    if (typeof fd === 'string') return fd;
    const socket = new ResolverSocket(this.#deps, resolver, fd, {
      onSpent: () => this.#remove(socket),
      onClosed: () => this.#all.delete(socket),
    });
    this.#all.add(socket);
    const list = this.#taking.get(resolver);
    if (list === undefined) this.#taking.set(resolver, [socket]);
    else list.push(socket);
    return socket.ask(asked, owner);
  }

  /** Takes no more questions with the sockets there are: each closes when it has no question under way. */
  renew(): void {
    for (const socket of Array.from(this.#all)) socket.spend();
  }

  /** Closes all. Questions under way hear nothing. */
  close(): void {
    for (const socket of Array.from(this.#all)) socket.close();
  }

  #remove(socket: ResolverSocket): void {
    const list = this.#taking.get(socket.resolver);
    const at = list?.indexOf(socket) ?? -1;
    if (list === undefined || at < 0) return;
    list.splice(at, 1);
    if (list.length === 0) this.#taking.delete(socket.resolver);
  }
}

interface SocketEvents {
  /** It takes no more questions. */
  readonly onSpent: () => void;
  readonly onClosed: () => void;
}

/** Life: taking --128 questions, 10 s, or a failure--> spent --no question under way--> closed. */
class ResolverSocket implements EventHandler {
  readonly resolver: Resolver;
  readonly #deps: ResolverSocketsDeps;
  readonly #fd: Fd;
  readonly #events: SocketEvents;
  readonly #registration: Registration;
  readonly #timer: Timer;
  /** By id; those that nobody waits for any more too, whose answer may still come and is no guess. */
  readonly #exchanges = new Map<number, UdpExchange>();
  #underWay = 0;
  #questions = 0;
  #unsolicited = 0;
  #isSpent = false;

  /** Owns `fd` from now on. */
  constructor(deps: ResolverSocketsDeps, resolver: Resolver, fd: Fd, events: SocketEvents) {
    const { engine } = deps;
    this.#deps = deps;
    this.resolver = resolver;
    this.#fd = fd;
    this.#events = events;
    this.#registration = engine.reactor.add(fd, this, 'reading');
    this.#timer = engine.timers.at(engine.nowMs + MAX_AGE_MS, () => this.spend());
  }

  /** @returns what went wrong, as text; the socket takes no more questions then */
  ask(asked: AskedMessage, owner: ExchangeOwner): Exchange | string {
    const { scratch } = this.#deps.engine;
    const { message } = asked;
    let id = randomId();
    while (this.#exchanges.has(id)) id = randomId();
    message.writeUInt16BE(id, 0);
    message.copy(scratch.bytes, 0);
    const sent = send(this.#fd, scratch, 0, message.length);
    if (sent < 0) {
      const error = failureText(this.resolver, -sent);
      // What came back from an earlier question is told once, here as well as to a read.
      if (sent === -Errno.EAGAIN) this.spend();
      else this.#fail(error);
      return error;
    }
    const exchange = new UdpExchange(this, id, asked, owner);
    this.#exchanges.set(id, exchange);
    this.#underWay++;
    if (++this.#questions >= MAX_QUESTIONS) this.spend();
    return exchange;
  }

  onEvents(mask: number): void {
    if ((mask & (EventMask.IN | EventMask.ERR)) === 0) return;
    const { scratch } = this.#deps.engine;
    while (this.#fd.isOpen) {
      const n = recv(this.#fd, scratch, 0, scratch.size);
      if (n === -Errno.EAGAIN) return;
      if (n < 0) this.#fail(`a resolver is not there: ${errnoName(-n)}`);
      else this.#take(scratch.bytes, n);
    }
  }

  /** Its owner waits no more. */
  onAbandoned(): void {
    this.#underWay--;
    this.#closeIfDone();
  }

  spend(): void {
    if (this.#isSpent) return;
    this.#isSpent = true;
    this.#events.onSpent();
    this.#closeIfDone();
  }

  close(): void {
    if (!this.#fd.isOpen) return;
    const { engine } = this.#deps;
    this.spend();
    engine.timers.cancel(this.#timer);
    engine.reactor.remove(this.#registration);
    this.#fd.close();
    this.#events.onClosed();
  }

  #take(bytes: Buffer, length: number): void {
    const exchange = length < HEADER_BYTES ? undefined : this.#exchanges.get(bytes.readUInt16BE(0));
    if (exchange?.isAnsweredBy(bytes, length) === true) {
      this.#exchanges.delete(exchange.id);
      if (!exchange.isOpen) return;
      exchange.isOpen = false;
      this.#underWay--;
      this.#closeIfDone();
      exchange.owner.onAnswer(exchange, bytes, length);
      return;
    }
    this.#deps.onUnsolicited();
    if (++this.#unsolicited >= MAX_UNSOLICITED) this.#fail('answers that are none came to the port of a question');
  }

  #fail(error: string): void {
    this.close();
    const exchanges = Array.from(this.#exchanges.values()).filter(({ isOpen }) => isOpen);
    this.#exchanges.clear();
    for (const exchange of exchanges) {
      // The failure of one may end another.
      if (!exchange.isOpen) continue;
      exchange.isOpen = false;
      exchange.owner.onFailure(exchange, error);
    }
  }

  #closeIfDone(): void {
    if (this.#isSpent && this.#underWay === 0) this.close();
  }
}

class UdpExchange implements Exchange {
  readonly id: number;
  readonly owner: ExchangeOwner;
  isOpen = true;
  readonly #socket: ResolverSocket;
  readonly #asked: AskedMessage;

  constructor(socket: ResolverSocket, id: number, asked: AskedMessage, owner: ExchangeOwner) {
    this.#socket = socket;
    this.id = id;
    this.#asked = asked;
    this.owner = owner;
  }

  get resolver(): Resolver {
    return this.#socket.resolver;
  }

  isAnsweredBy(bytes: Buffer, length: number): boolean {
    return answersQuery(bytes, 0, length, this.id, this.#asked.message, this.#asked.questionEnd);
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#socket.onAbandoned();
  }
}
