// The protocol state of one connected client: pure, no I/O, no clock. Requests and changes of the store go in; `next` says
// which response to send now. What is due is kept as names, so a slow client costs at most the names there are.
// https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
import { ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL } from '@ambit/wire/resources';
import { type DeltaRequest, GrpcError } from '@ambit/wire/grpc-server';
import type { ResourceType, StoreChanges, XdsStore } from './store.ts';
import { Watch, type WatchUpdate } from './watch.ts';

export const TYPE_URLS: Readonly<Record<ResourceType, string>> = {
  address: ADDRESS_TYPE_URL,
  authorization: AUTHORIZATION_TYPE_URL,
};
const TYPES: readonly ResourceType[] = ['address', 'authorization'];
const MAX_UNKNOWN_TYPES = 16;
const MAX_NACK_CHARS = 1_024;

export interface SessionOptions {
  /** Makes this session's nonces its own. */
  readonly tag: string;
  /** The client's node, whose workloads it is always told of; empty when it did not say. */
  readonly node: string;
  /** Names that an on-demand client may hold; more is resource_exhausted. */
  readonly maxNames: number;
}

export interface SessionResponse extends WatchUpdate {
  /** Undefined for a type that we do not serve. */
  readonly type: ResourceType | undefined;
  readonly typeUrl: string;
  readonly nonce: string;
}

export interface Nack {
  readonly nonce: string;
  /** What the client said, cut. */
  readonly message: string;
}

export type RequestOutcome =
  | { readonly kind: 'none' }
  | { readonly kind: 'nack'; readonly typeUrl: string; readonly nack: Nack }
  | { readonly kind: 'unknown_type'; readonly typeUrl: string };

export interface TypeStatus {
  readonly typeUrl: string;
  readonly mode: 'wildcard' | 'on_demand';
  readonly subscribed: number;
  readonly nonceSent: string;
  readonly nonceAcked: string;
  /** Whether something is due that was not sent yet. */
  readonly isPending: boolean;
}

interface TypeState {
  readonly watch: Watch;
  sent: number;
  /** The last response answered, by ACK or NACK. */
  answered: number;
  acked: number;
}

export class DeltaSession {
  readonly #store: XdsStore;
  readonly #options: SessionOptions;
  readonly #types = new Map<ResourceType, TypeState>();
  readonly #unknown = new Map<string, 'due' | 'answered'>();
  #lastNonce = 0;

  constructor(store: XdsStore, options: SessionOptions) {
    this.#store = store;
    this.#options = options;
  }

  /**
   * Takes one request.
   * @throws GrpcError invalid_argument for too many unknown types, resource_exhausted for too many names
   */
  request(request: DeltaRequest): RequestOutcome {
    const type = TYPES.find(known => TYPE_URLS[known] === request.typeUrl);
    if (type === undefined) return this.#unknownType(request.typeUrl);
    const subscription = {
      subscribe: request.resourceNamesSubscribe,
      unsubscribe: request.resourceNamesUnsubscribe,
    };
    const state = this.#types.get(type);
    if (state === undefined) {
      // A nonce in the first request is one of an earlier stream: it says nothing here.
      const reported = new Map(Object.entries(request.initialResourceVersions));
      const watch = new Watch(type, this.#store, this.#options.node, subscription, reported);
      this.#types.set(type, { watch, sent: 0, answered: 0, acked: 0 });
      this.#checkNames(watch);
      return { kind: 'none' };
    }
    // Subscriptions count whatever the nonce: a client may change them while a response is under way.
    state.watch.change(subscription);
    this.#checkNames(state.watch);
    const number = this.#numberOf(request.responseNonce);
    // A stale nonce is one answered already, or not one of this type's.
    if (number === undefined || number <= state.answered || number > state.sent) return { kind: 'none' };
    state.answered = number;
    if (request.errorDetail === undefined) {
      state.acked = number;
      return { kind: 'none' };
    }
    const message = request.errorDetail.message.slice(0, MAX_NACK_CHARS);
    return { kind: 'nack', typeUrl: request.typeUrl, nack: { nonce: request.responseNonce, message } };
  }

  /** Whether the next response holds the whole store. */
  get wantsEverything(): boolean {
    return [...this.#types.values()].some(({ watch }) => watch.wantsEverything);
  }

  storeChanged(changes: StoreChanges): void {
    for (const [type, { watch }] of this.#types) watch.storeChanged(changes[type]);
  }

  /**
   * The response to send now, if any; send them one after the other. New policies go before the addresses that may refer
   * to them (a receiver denies what it cannot judge), removed ones after.
   */
  next(): SessionResponse | undefined {
    for (const [typeUrl, answer] of this.#unknown) {
      if (answer === 'answered') continue;
      this.#unknown.set(typeUrl, 'answered');
      this.#lastNonce++;
      const nonce = this.#nonce(this.#lastNonce);
      return { type: undefined, typeUrl, nonce, resources: [], removed: [], withAliases: false };
    }
    const authorization = this.#types.get('authorization')?.watch;
    if (authorization?.hasNew === true && this.#types.get('address')?.watch.isPending === true) {
      const first = this.#take('authorization', true);
      if (first !== undefined) return first;
    }
    return this.#take('address', false) ?? this.#take('authorization', false);
  }

  status(): readonly TypeStatus[] {
    return [...this.#types].map(([type, { watch, sent, acked }]) => ({
      typeUrl: TYPE_URLS[type],
      mode: watch.mode,
      subscribed: watch.subscribedCount,
      nonceSent: sent === 0 ? '' : this.#nonce(sent),
      nonceAcked: acked === 0 ? '' : this.#nonce(acked),
      isPending: watch.isPending,
    }));
  }

  #take(type: ResourceType, keepRemovals: boolean): SessionResponse | undefined {
    const state = this.#types.get(type);
    if (state === undefined || !state.watch.isPending) return undefined;
    const update = state.watch.take({ keepRemovals });
    if (update === undefined) return undefined;
    this.#checkNames(state.watch);
    this.#lastNonce++;
    state.sent = this.#lastNonce;
    return { ...update, type, typeUrl: TYPE_URLS[type], nonce: this.#nonce(this.#lastNonce) };
  }

  #unknownType(typeUrl: string): RequestOutcome {
    if (this.#unknown.has(typeUrl)) return { kind: 'none' };
    if (this.#unknown.size >= MAX_UNKNOWN_TYPES) throw new GrpcError('invalid_argument', 'too many unknown types');
    this.#unknown.set(typeUrl, 'due');
    return { kind: 'unknown_type', typeUrl };
  }

  #checkNames(watch: Watch): void {
    if (watch.rememberedCount <= this.#options.maxNames) return;
    throw new GrpcError('resource_exhausted', `a client may follow at most ${this.#options.maxNames} names`);
  }

  #nonce(number: number): string {
    return `${this.#options.tag}-${number}`;
  }

  #numberOf(nonce: string): number | undefined {
    const { tag } = this.#options;
    if (!nonce.startsWith(`${tag}-`)) return undefined;
    const number = Number(nonce.slice(tag.length + 1));
    return Number.isSafeInteger(number) && number > 0 ? number : undefined;
  }
}
