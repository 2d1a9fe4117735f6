// Asks resolvers, byte for byte what the client asked. Each question goes out from a socket of its own, so from a random port,
// with a random id, and only an answer with that id and that question counts (RFC 5452): the kernel drops what comes from
// elsewhere. Several resolvers are tried in turn, the first answer wins, and one that failed is asked last for a while.
import { randomFillSync } from 'node:crypto';
import type { Timer } from '@ambit/proxy';
import { Rcode } from './codec/numbers.ts';
import { isTruncated, rcodeOf } from './codec/response.ts';
import type { Resolver, ResolverSet } from './dns-messages.ts';
import type { ForwarderDeps } from './exchange.ts';
import { TcpExchange } from './tcp-exchange.ts';
import { UdpExchange } from './udp-exchange.ts';

/** One question to be asked. */
export interface ForwardedQuestion {
  /** The query; its first two bytes are overwritten. */
  readonly message: Buffer;
  readonly questionEnd: number;
  /** Whether an answer that was cut off is asked for again over TCP. */
  readonly wantsWhole: boolean;
}

export type ForwardOutcome =
  /** `bytes` are good during the call only, and begin with the id that was sent. */
  | { readonly kind: 'answer'; readonly bytes: Buffer; readonly length: number }
  | { readonly kind: 'failed'; readonly error: string };

/** Another resolver (or the same one) is asked when there is no answer yet, while the first may still answer. */
const NEXT_MS = 1500;
/** A resolver that failed is asked last for this long. */
const BAD_MS = 30_000;

export class Forwarder {
  readonly #deps: ForwarderDeps;
  readonly #badUntil = new Map<string, number>();
  readonly #running = new Set<Forward>();
  #set: ResolverSet | undefined;
  #turn = 0;

  constructor(deps: ForwarderDeps, set: ResolverSet | undefined) {
    this.#deps = deps;
    this.#set = set;
  }

  /** Questions under way. */
  get size(): number {
    return this.#running.size;
  }

  /** For questions from now on. */
  setResolvers(set: ResolverSet): void {
    this.#set = set;
    this.#badUntil.clear();
  }

  /** Asks; `then` is called once, perhaps before this returns. */
  ask(question: ForwardedQuestion, then: (outcome: ForwardOutcome) => void): void {
    const set = this.#set;
    if (set === undefined || set.resolvers.length === 0) {
      then({ kind: 'failed', error: 'no resolver is known' });
      return;
    }
    const forward = new Forward(this.#deps, question, this.#order(set), set, {
      onBad: resolver => this.#badUntil.set(keyOf(resolver), this.#deps.engine.nowMs + BAD_MS),
      onGood: resolver => this.#badUntil.delete(keyOf(resolver)),
      onEnd: outcome => {
        this.#running.delete(forward);
        then(outcome);
      },
    });
    this.#running.add(forward);
    forward.start();
  }

  /** Ends all questions. */
  close(error: string): void {
    for (const forward of Array.from(this.#running)) forward.fail(error);
  }

  #order({ resolvers, rotate }: ResolverSet): readonly Resolver[] {
    const first = rotate ? this.#turn++ % resolvers.length : 0;
    const order = [...resolvers.slice(first), ...resolvers.slice(0, first)];
    if (this.#badUntil.size === 0) return order;
    const now = this.#deps.engine.nowMs;
    const isBad = (resolver: Resolver): boolean => (this.#badUntil.get(keyOf(resolver)) ?? 0) > now;
    return [...order.filter(resolver => !isBad(resolver)), ...order.filter(isBad)];
  }
}

function keyOf({ ip, port }: Resolver): string {
  return `${ip} ${port}`;
}

const ids = new Uint16Array(1024);
let idsUsed = ids.length;

function randomId(): number {
  if (idsUsed === ids.length) {
    randomFillSync(ids);
    idsUsed = 0;
  }
  return ids[idsUsed++] ?? 0;
}

interface ForwardEvents {
  readonly onBad: (resolver: Resolver) => void;
  readonly onGood: (resolver: Resolver) => void;
  readonly onEnd: (outcome: ForwardOutcome) => void;
}

/** One question on its way. All exchanges that were begun may still answer until one did. */
class Forward {
  readonly #deps: ForwarderDeps;
  readonly #question: ForwardedQuestion;
  readonly #resolvers: readonly Resolver[];
  readonly #set: ResolverSet;
  readonly #events: ForwardEvents;
  readonly #exchanges = new Map<UdpExchange | TcpExchange, Resolver>();
  #step = 0;
  #timer: Timer | undefined;
  /** A resolver's refusal, for the case that no other says more. */
  #refusal: Buffer | undefined;
  #error = 'no resolver answered';
  #isOver = false;

  constructor(
    deps: ForwarderDeps,
    question: ForwardedQuestion,
    resolvers: readonly Resolver[],
    set: ResolverSet,
    events: ForwardEvents,
  ) {
    this.#deps = deps;
    this.#question = question;
    this.#resolvers = resolvers;
    this.#set = set;
    this.#events = events;
  }

  start(): void {
    this.#next();
  }

  fail(error: string): void {
    this.#end({ kind: 'failed', error });
  }

  /** Begins exchanges until one is under way; without any left, the end. */
  #next(): void {
    const { engine } = this.#deps;
    const steps = this.#resolvers.length * this.#set.attempts;
    engine.timers.cancel(this.#timer);
    while (!this.#isOver && this.#step < steps) {
      const resolver = this.#resolvers[this.#step % this.#resolvers.length];
      this.#step++;
      if (resolver === undefined || !this.#beginUdp(resolver)) continue;
      const waitMs = this.#step < steps ? Math.min(NEXT_MS, this.#set.timeoutMs) : this.#set.timeoutMs;
      this.#timer = engine.timers.at(engine.nowMs + waitMs, () => this.#onQuiet());
      return;
    }
    if (this.#isOver) return;
    if (this.#exchanges.size === 0) this.#giveUp();
    else this.#timer = engine.timers.at(engine.nowMs + this.#set.timeoutMs, () => this.#giveUp());
  }

  #onQuiet(): void {
    if (this.#step >= this.#resolvers.length * this.#set.attempts) this.#giveUp();
    else this.#next();
  }

  #giveUp(): void {
    for (const resolver of this.#exchanges.values()) this.#events.onBad(resolver);
    const refusal = this.#refusal;
    if (refusal === undefined) this.fail(this.#error);
    else this.#end({ kind: 'answer', bytes: refusal, length: refusal.length });
  }

  #beginUdp(resolver: Resolver): boolean {
    const { message, questionEnd } = this.#question;
    const id = randomId();
    message.writeUInt16BE(id, 0);
    const exchange: UdpExchange | string = UdpExchange.begin(this.#deps, resolver, message, questionEnd, id, {
      onAnswer: (bytes, length) => this.#onUdpAnswer(exchange, resolver, bytes, length),
      onFailure: error => this.#onFailure(exchange, resolver, error),
    });
    if (typeof exchange === 'string') {
      this.#error = exchange;
      this.#events.onBad(resolver);
      return false;
    }
    this.#exchanges.set(exchange, resolver);
    return true;
  }

  #onUdpAnswer(exchange: UdpExchange | string, resolver: Resolver, bytes: Buffer, length: number): void {
    if (typeof exchange !== 'string') this.#exchanges.delete(exchange);
    if (isTruncated(bytes, 0) && this.#question.wantsWhole) this.#beginTcp(resolver);
    else this.#onAnswer(resolver, bytes, length);
  }

  #onAnswer(resolver: Resolver, bytes: Buffer, length: number): void {
    const rcode = rcodeOf(bytes, 0);
    const isRefusal = rcode === Rcode.SERVFAIL || rcode === Rcode.REFUSED || rcode === Rcode.NOTIMP;
    if (isRefusal && (this.#step < this.#resolvers.length || this.#exchanges.size > 0)) {
      this.#refusal ??= Buffer.from(bytes.subarray(0, length));
      this.#next();
      return;
    }
    for (const [, silent] of this.#exchanges) if (silent !== resolver) this.#events.onBad(silent);
    this.#events.onGood(resolver);
    this.#end({ kind: 'answer', bytes, length });
  }

  #beginTcp(resolver: Resolver): void {
    const { engine } = this.#deps;
    const { message, questionEnd } = this.#question;
    engine.timers.cancel(this.#timer);
    const id = randomId();
    message.writeUInt16BE(id, 0);
    const exchange: TcpExchange | string = TcpExchange.begin(this.#deps, resolver, message, questionEnd, id, {
      onAnswer: (bytes, length) => {
        if (typeof exchange !== 'string') this.#exchanges.delete(exchange);
        this.#onAnswer(resolver, bytes, length);
      },
      onFailure: error => this.#onFailure(exchange, resolver, error),
    });
    if (typeof exchange === 'string') {
      this.#error = exchange;
      this.#next();
      return;
    }
    this.#exchanges.set(exchange, resolver);
    this.#timer = engine.timers.at(engine.nowMs + this.#set.timeoutMs, () => this.#onQuiet());
  }

  #onFailure(exchange: UdpExchange | TcpExchange | string, resolver: Resolver, error: string): void {
    if (typeof exchange !== 'string') this.#exchanges.delete(exchange);
    this.#error = error;
    this.#events.onBad(resolver);
    if (!this.#isOver) this.#next();
  }

  #end(outcome: ForwardOutcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#deps.engine.timers.cancel(this.#timer);
    for (const exchange of this.#exchanges.keys()) exchange.close();
    this.#exchanges.clear();
    this.#events.onEnd(outcome);
  }
}
