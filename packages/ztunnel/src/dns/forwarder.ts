// Asks resolvers, byte for byte what the client asked; what keeps forged answers out is told in resolver-sockets.ts. Several
// resolvers are tried in turn, the first answer wins, and one that failed is asked last for a while.
import { isLoopback } from '@ambit/mesh';
import type { Fd } from '@ambit/native';
import type { Engine, Timer } from '@ambit/proxy';
import { Rcode } from './codec/numbers.ts';
import { isTruncated, rcodeOf } from './codec/response.ts';
import type { Resolver, ResolverSet } from './dns-messages.ts';
import type { AskedMessage, Exchange, ExchangeOwner } from './exchange.ts';
import type { NodeShare } from './node-share.ts';
import { ResolverSockets } from './resolver-sockets.ts';
import { TcpExchange } from './tcp-exchange.ts';

export interface ForwarderDeps {
  readonly engine: Engine;
  /** Sockets that reach the resolver, not connected. @throws SysError */
  readonly openUdp: (resolver: Resolver) => Fd;
  readonly openTcp: (resolver: Resolver) => Fd;
  readonly onUnsolicited: () => void;
  /** For resolvers on loopback, which all pods ask from the node's network: sockets they share, and one pod's part. */
  readonly node?: { readonly sockets: ResolverSockets; readonly share: NodeShare };
}

/** One question to be asked. */
export interface ForwardedQuestion extends AskedMessage {
  /** Whether an answer that was cut off is asked for again over TCP. */
  readonly wantsWhole: boolean;
}

export type ForwardOutcome =
  /** `bytes` are good during the call only, and begin with the id that was sent. */
  | { readonly kind: 'answer'; readonly bytes: Buffer; readonly length: number }
  | {
      readonly kind: 'failed';
      readonly error: string;
      /** Not asked at all: the pod has its share of the node's sockets. */
      readonly isRefused: boolean;
    };

/** Another resolver (or the same one) is asked when there is no answer yet, while the first may still answer. */
const NEXT_MS = 1500;
/** A resolver that failed is asked last for this long. */
const BAD_MS = 30_000;

export class Forwarder {
  readonly #deps: ForwarderDeps;
  readonly #sockets: ResolverSockets;
  readonly #badUntil = new Map<Resolver, number>();
  readonly #running = new Set<Forward>();
  #set: ResolverSet | undefined;
  #turn = 0;

  constructor(deps: ForwarderDeps, set: ResolverSet | undefined) {
    this.#deps = deps;
    this.#sockets = new ResolverSockets(deps);
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
    this.#sockets.renew();
  }

  /** Asks; `then` is called once, perhaps before this returns. */
  ask(question: ForwardedQuestion, then: (outcome: ForwardOutcome) => void): void {
    const set = this.#set;
    if (set === undefined || set.resolvers.length === 0) {
      then({ kind: 'failed', error: 'no resolver is known', isRefused: false });
      return;
    }
    const forward = new Forward(this.#deps, this.#sockets, question, this.#order(set), set, {
      onBad: resolver => this.#badUntil.set(resolver, this.#deps.engine.nowMs + BAD_MS),
      onGood: resolver => this.#badUntil.delete(resolver),
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
    this.#sockets.close();
  }

  #order({ resolvers, rotate }: ResolverSet): readonly Resolver[] {
    if (resolvers.length === 1) return resolvers;
    const first = rotate ? this.#turn++ % resolvers.length : 0;
    const order = [...resolvers.slice(first), ...resolvers.slice(0, first)];
    if (this.#badUntil.size === 0) return order;
    const now = this.#deps.engine.nowMs;
    const isBad = (resolver: Resolver): boolean => (this.#badUntil.get(resolver) ?? 0) > now;
    return [...order.filter(resolver => !isBad(resolver)), ...order.filter(isBad)];
  }
}

interface ForwardEvents {
  readonly onBad: (resolver: Resolver) => void;
  readonly onGood: (resolver: Resolver) => void;
  readonly onEnd: (outcome: ForwardOutcome) => void;
}

/** One question on its way. All exchanges that were begun may still answer until one did. */
class Forward implements ExchangeOwner {
  readonly #deps: ForwarderDeps;
  readonly #sockets: ResolverSockets;
  readonly #question: ForwardedQuestion;
  readonly #resolvers: readonly Resolver[];
  readonly #set: ResolverSet;
  readonly #events: ForwardEvents;
  #exchanges: Exchange[] = [];
  #step = 0;
  #timer: Timer | undefined;
  /** A resolver's refusal, for the case that no other says more. */
  #refusal: Buffer | undefined;
  #error = 'no resolver answered';
  #hasAsked = false;
  #isRefused = false;
  #isOver = false;

  constructor(
    deps: ForwarderDeps,
    sockets: ResolverSockets,
    question: ForwardedQuestion,
    resolvers: readonly Resolver[],
    set: ResolverSet,
    events: ForwardEvents,
  ) {
    this.#deps = deps;
    this.#sockets = sockets;
    this.#question = question;
    this.#resolvers = resolvers;
    this.#set = set;
    this.#events = events;
  }

  start(): void {
    this.#next();
  }

  fail(error: string): void {
    this.#end({ kind: 'failed', error, isRefused: this.#isRefused && !this.#hasAsked });
  }

  onAnswer(exchange: Exchange, bytes: Buffer, length: number): void {
    this.#forget(exchange);
    const { resolver } = exchange;
    const isCut = !(exchange instanceof TcpExchange) && isTruncated(bytes, 0);
    if (isCut && this.#question.wantsWhole) this.#beginTcp(resolver);
    else this.#take(resolver, bytes, length);
  }

  onFailure(exchange: Exchange, error: string): void {
    this.#forget(exchange);
    this.#error = error;
    this.#events.onBad(exchange.resolver);
    if (!this.#isOver) this.#next();
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
      engine.timers.cancel(this.#timer);
      if (this.#isOver) return;
      const waitMs = this.#step < steps ? Math.min(NEXT_MS, this.#set.timeoutMs) : this.#set.timeoutMs;
      this.#timer = engine.timers.at(engine.nowMs + waitMs, () => this.#onQuiet());
      return;
    }
    if (this.#isOver) return;
    if (this.#exchanges.length === 0) this.#giveUp();
    else this.#timer = engine.timers.at(engine.nowMs + this.#set.timeoutMs, () => this.#giveUp());
  }

  #onQuiet(): void {
    if (this.#step >= this.#resolvers.length * this.#set.attempts) this.#giveUp();
    else this.#next();
  }

  #giveUp(): void {
    for (const { resolver } of this.#exchanges) this.#events.onBad(resolver);
    const refusal = this.#refusal;
    if (refusal === undefined) this.fail(this.#error);
    else this.#end({ kind: 'answer', bytes: refusal, length: refusal.length });
  }

  #beginUdp(resolver: Resolver): boolean {
    const { openUdp, node } = this.#deps;
    const sockets = node !== undefined && isLoopback(resolver.ip) ? node.sockets : this.#sockets;
    return this.#begin(resolver, () => sockets.begin(resolver, openUdp, this.#question, this));
  }

  #beginTcp(resolver: Resolver): void {
    const { engine, openTcp } = this.#deps;
    engine.timers.cancel(this.#timer);
    const hasBegun = this.#begin(resolver, () => TcpExchange.begin(engine, resolver, openTcp, this.#question, this));
    if (hasBegun) this.#timer = engine.timers.at(engine.nowMs + this.#set.timeoutMs, () => this.#onQuiet());
    else this.#next();
  }

  #begin(resolver: Resolver, begin: () => Exchange | string): boolean {
    const share = this.#shareFor(resolver);
    // No fault of the resolver, which is as good as before.
    if (share?.take() === false) {
      this.#error = 'too many questions of the pod are under way in the network of the node';
      this.#isRefused = true;
      return false;
    }
    const exchange = begin();
    if (typeof exchange !== 'string' && this.#isOver) {
      // An earlier exchange failed on the same socket meanwhile, and was the last hope.
      exchange.close();
      share?.give();
      return true;
    }
    if (typeof exchange !== 'string') {
      this.#hasAsked = true;
      this.#exchanges.push(exchange);
      return true;
    }
    share?.give();
    this.#error = exchange;
    this.#hasAsked = true;
    this.#events.onBad(resolver);
    return false;
  }

  #take(resolver: Resolver, bytes: Buffer, length: number): void {
    const rcode = rcodeOf(bytes, 0);
    const isRefusal = rcode === Rcode.SERVFAIL || rcode === Rcode.REFUSED || rcode === Rcode.NOTIMP;
    if (isRefusal && (this.#step < this.#resolvers.length || this.#exchanges.length > 0)) {
      this.#refusal ??= Buffer.from(bytes.subarray(0, length));
      this.#next();
      return;
    }
    for (const { resolver: silent } of this.#exchanges) if (silent !== resolver) this.#events.onBad(silent);
    this.#events.onGood(resolver);
    this.#end({ kind: 'answer', bytes, length });
  }

  #shareFor(resolver: Resolver): NodeShare | undefined {
    return isLoopback(resolver.ip) ? this.#deps.node?.share : undefined;
  }

  /** It is over. */
  #forget(exchange: Exchange): void {
    const at = this.#exchanges.indexOf(exchange);
    if (at < 0) return;
    this.#exchanges.splice(at, 1);
    this.#shareFor(exchange.resolver)?.give();
  }

  #end(outcome: ForwardOutcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#deps.engine.timers.cancel(this.#timer);
    const exchanges = this.#exchanges;
    this.#exchanges = [];
    for (const exchange of exchanges) {
      exchange.close();
      this.#shareFor(exchange.resolver)?.give();
    }
    this.#events.onEnd(outcome);
  }
}
