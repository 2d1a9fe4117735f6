// What the mesh says to names, as one worker was told: compiled to bytes, kept until the main thread takes it back. Pods of
// one namespace and network share the decisions. Bounded twice: no namespace can crowd out another's, and all together end.
import { type DnsDecision, type DnsQuestion, ipToBytes, isStaleName, type StaleNames } from '@ambit/mesh';
import type { AddressAnswer } from './codec/answer.ts';
import { encodeName } from './codec/names.ts';

/** A decision in the form that answers are written from. */
export type CompiledDecision =
  | { readonly kind: 'forward' }
  | { readonly kind: 'unknown_client' }
  | { readonly kind: 'answer'; readonly answer: AddressAnswer };

interface Kept {
  readonly name: string;
  readonly decision: CompiledDecision;
}

interface Asking {
  /** undefined: who asks is unknown, so nobody else may use the answer. */
  readonly client: string | undefined;
  readonly key: string;
  readonly name: string;
  readonly waitKey: string;
  readonly waiting: Array<(decision: CompiledDecision) => void>;
}

/** Decisions kept for one namespace and network. */
const MAX_OF_CLIENT = 1024;
const MAX_KEPT = 16_384;

export class NameDecisions {
  readonly #kept = new Map<string, Map<string, Kept>>();
  readonly #asking = new Map<number, Asking>();
  readonly #waiting = new Map<string, Asking>();
  readonly #ask: (id: number, uid: string, question: DnsQuestion) => void;
  #size = 0;
  #nextId = 1;

  constructor(ask: (id: number, uid: string, question: DnsQuestion) => void) {
    this.#ask = ask;
  }

  /** Decisions kept. */
  get size(): number {
    return this.#size;
  }

  /** Questions under way. */
  get askingCount(): number {
    return this.#asking.size;
  }

  /** `client` and `key` stand for namespace and network, and for name and type. */
  get(client: string, key: string): CompiledDecision | undefined {
    return this.#kept.get(client)?.get(key)?.decision;
  }

  /** Asks the main thread, unless the same pod has asked already; `then` hears the answer. */
  ask(
    uid: string,
    client: string | undefined,
    key: string,
    question: DnsQuestion,
    then: (decision: CompiledDecision) => void,
  ): void {
    // By pod: the answer to a pod that is removed meanwhile is not the others'.
    const waitKey = `${uid}\n${client ?? ''}\n${key}`;
    const same = this.#waiting.get(waitKey);
    if (same !== undefined) {
      same.waiting.push(then);
      return;
    }
    const id = this.#nextId++;
    const asking: Asking = { client, key, name: question.name, waitKey, waiting: [then] };
    this.#asking.set(id, asking);
    this.#waiting.set(waitKey, asking);
    this.#ask(id, uid, question);
  }

  /** The main thread answered. */
  answer(id: number, decision: DnsDecision): void {
    const asking = this.#asking.get(id);
    if (asking === undefined) return;
    this.#asking.delete(id);
    this.#waiting.delete(asking.waitKey);
    const compiled = compile(decision);
    if (asking.client !== undefined && compiled.kind !== 'unknown_client') {
      this.#keep(asking.client, asking.key, { name: asking.name, decision: compiled });
    }
    for (const then of asking.waiting) then(compiled);
  }

  forget(stale: StaleNames): void {
    for (const [client, names] of this.#kept) {
      for (const [key, { name }] of names) {
        if (!isStaleName(stale, name)) continue;
        names.delete(key);
        this.#size--;
      }
      if (names.size === 0) this.#kept.delete(client);
    }
  }

  #keep(client: string, key: string, kept: Kept): void {
    let names = this.#kept.get(client);
    if (names === undefined) this.#kept.set(client, (names = new Map<string, Kept>()));
    else if (names.delete(key)) this.#size--;
    names.set(key, kept);
    this.#size++;
    if (names.size > MAX_OF_CLIENT) this.#dropOldest(names);
    else if (this.#size > MAX_KEPT) this.#dropOldest(this.#largest());
  }

  #largest(): Map<string, Kept> | undefined {
    let largest: Map<string, Kept> | undefined;
    for (const names of this.#kept.values()) if (names.size > (largest?.size ?? 0)) largest = names;
    return largest;
  }

  #dropOldest(names: Map<string, Kept> | undefined): void {
    const oldest = names?.keys().next();
    if (names === undefined || oldest === undefined || oldest.done === true) return;
    names.delete(oldest.value);
    this.#size--;
  }
}

function compile(decision: DnsDecision): CompiledDecision {
  if (decision.kind !== 'answer') return { kind: decision.kind };
  const { canonical, addresses, ttlSeconds } = decision;
  const alias = canonical === undefined ? undefined : encodeName(canonical);
  return { kind: 'answer', answer: { canonical: alias, addresses: addresses.map(ip => ipToBytes(ip)), ttlSeconds } };
}
