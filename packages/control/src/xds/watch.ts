// What one client watches of one type, and what it still has to be sent. Pure. A wildcard watcher costs nothing per
// resource: it is known to hold the store's state except for the names that changed since, each with the version it held.
// An on-demand watcher is remembered by name, up to a bound.
import type { XdsResource } from '../model/resource.ts';
import type { ResourceType, XdsStore } from './store.ts';

/** What to send; `everything`: the whole store, which is shared between clients and so not listed. */
export interface WatchUpdate {
  readonly resources: readonly XdsResource[] | 'everything';
  readonly removed: readonly string[];
  readonly withAliases: boolean;
}

export interface Subscription {
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
}

type Mode =
  | { readonly kind: 'wildcard' }
  /** `held`: versions of what the client was sent and is kept informed about. */
  | { readonly kind: 'on_demand'; readonly held: Map<string, string> };

export class Watch {
  readonly type: ResourceType;
  readonly #store: XdsStore;
  readonly #node: string;
  #mode: Mode;
  /** Names asked for, whatever they stand for now. */
  readonly #names = new Set<string>();
  /** Asked and not yet answered; a name in here is answered in full. */
  readonly #asked = new Set<string>();
  /** Changed since the client was last sent: name to the version it holds, undefined for none. */
  readonly #dirty = new Map<string, string | undefined>();
  /** What a client that has just become a wildcard watcher holds already. */
  #reported: ReadonlyMap<string, string> | undefined;
  #mustAnswer = true;

  /** The first request of a type; `reported` is what the client says it holds. */
  constructor(
    type: ResourceType,
    store: XdsStore,
    node: string,
    { subscribe, unsubscribe }: Subscription,
    reported: ReadonlyMap<string, string>,
  ) {
    this.type = type;
    this.#store = store;
    this.#node = node;
    const isWildcard = (subscribe.length === 0 || subscribe.includes('*')) && !unsubscribe.includes('*');
    for (const name of subscribe) if (name !== '*') this.#names.add(name);
    for (const name of unsubscribe) this.#names.delete(name);
    if (isWildcard) {
      this.#mode = { kind: 'wildcard' };
      this.#reported = reported;
      return;
    }
    const held = new Map<string, string>();
    this.#mode = { kind: 'on_demand', held };
    for (const name of this.#names) this.#asked.add(name);
    // As upstream: what an on-demand client lists, it wants to hear about. An empty version is a name that it waits for.
    for (const [name, version] of reported) {
      this.#names.add(name);
      if (version === '') this.#asked.add(name);
      else held.set(name, version);
      this.#dirty.set(name, version === '' ? undefined : version);
    }
    for (const { name } of store.onNode(node)) this.#dirty.set(name, held.get(name));
  }

  get mode(): Mode['kind'] {
    return this.#mode.kind;
  }

  get subscribedCount(): number {
    return this.#mode.kind === 'wildcard'
      ? this.#store.resources(this.type).size
      : new Set([...this.#names, ...this.#mode.held.keys()]).size;
  }

  /** Names that this watch remembers, for the bound on them. */
  get rememberedCount(): number {
    return this.#names.size + (this.#mode.kind === 'on_demand' ? this.#mode.held.size : 0);
  }

  /** Whether `take` will answer with everything. */
  get wantsEverything(): boolean {
    return this.#reported?.size === 0;
  }

  get isPending(): boolean {
    return this.#mustAnswer || this.#dirty.size > 0;
  }

  /** Whether a push to a client that had its answer would bring it a resource it does not hold. */
  get hasNew(): boolean {
    if (this.#mustAnswer) return false;
    const resources = this.#store.resources(this.type);
    for (const [name, held] of this.#dirty) if (held === undefined && resources.has(name)) return true;
    return false;
  }

  /** A later request of the type. */
  change({ subscribe, unsubscribe }: Subscription): void {
    for (const name of unsubscribe) this.#unsubscribe(name);
    // Looked for once: a request may hold a hundred thousand names on each side.
    const isCancelled = unsubscribe.includes('*');
    for (const name of subscribe) this.#subscribe(name, isCancelled);
  }

  /** Takes over what a batch changed in the store. */
  storeChanged(changes: ReadonlyMap<string, XdsResource | undefined>): void {
    if (this.#reported !== undefined) return; // all will be compared when the first answer is made
    const resources = this.#store.resources(this.type);
    for (const [name, before] of changes) {
      const after = resources.get(name);
      const held = this.#mode.kind === 'wildcard' ? before?.version : this.#mode.held.get(name);
      if (this.#mode.kind === 'on_demand' && held === undefined && (after === undefined || !this.#isWanted(after))) {
        this.#dirty.delete(name);
        continue;
      }
      if (!this.#dirty.has(name)) this.#dirty.set(name, held);
      if (this.#dirty.get(name) === after?.version) this.#dirty.delete(name);
    }
  }

  /** What the client is to be sent now; from here on it is taken to hold it. Undefined when nothing is due. */
  take(options: { readonly keepRemovals: boolean } = { keepRemovals: false }): WatchUpdate | undefined {
    if (this.#reported !== undefined) return this.#takeFirst(this.#reported);
    const resources = this.#store.resources(this.type);
    const found = new Map<string, XdsResource>();
    const removed = new Set<string>();
    for (const name of this.#asked) {
      const answers = this.#store.lookup(this.type, name);
      if (answers.length === 0) removed.add(name);
      for (const answer of answers) found.set(answer.name, answer);
    }
    const kept = new Map<string, string | undefined>();
    for (const [name, held] of this.#dirty) {
      const now = resources.get(name);
      if (now === undefined && held !== undefined && options.keepRemovals) kept.set(name, held);
      else if (now === undefined && held !== undefined) removed.add(name);
      else if (now !== undefined && now.version !== held) found.set(name, now);
    }
    const mustAnswer = this.#mustAnswer;
    this.#asked.clear();
    this.#dirty.clear();
    this.#mustAnswer = false;
    for (const [name, held] of kept) this.#dirty.set(name, held);
    const { held } = this.#mode.kind === 'on_demand' ? this.#mode : { held: undefined };
    for (const name of removed) held?.delete(name);
    for (const { name, version } of found.values()) held?.set(name, version);
    if (held !== undefined) this.#bringEndpoints(found, held);
    if (!mustAnswer && found.size + removed.size === 0) return undefined;
    return { resources: [...found.values()], removed: [...removed], withAliases: held !== undefined };
  }

  #takeFirst(reported: ReadonlyMap<string, string>): WatchUpdate {
    this.#reported = undefined;
    this.#mustAnswer = false;
    this.#asked.clear();
    this.#dirty.clear();
    const resources = this.#store.resources(this.type);
    const removed = [...reported.keys(), ...this.#names].filter(name => !resources.has(name));
    if (reported.size === 0) return { resources: 'everything', removed, withAliases: false };
    const changed = [...resources.values()].filter(({ name, version }) => reported.get(name) !== version);
    return { resources: changed, removed: [...new Set(removed)], withAliases: false };
  }

  #subscribe(name: string, isCancelled: boolean): void {
    if (name === '*') {
      if (isCancelled || this.#mode.kind === 'wildcard') return;
      this.#reported = this.#mode.held;
      this.#mode = { kind: 'wildcard' };
    } else {
      this.#names.add(name);
      this.#asked.add(name);
    }
    this.#mustAnswer = true;
  }

  #unsubscribe(name: string): void {
    if (name !== '*') {
      this.#names.delete(name);
      this.#asked.delete(name);
      if (this.#mode.kind === 'on_demand' && this.#mode.held.delete(name)) this.#dirty.delete(name);
      return;
    }
    if (this.#mode.kind === 'on_demand') return;
    // What was named stays; the rest of the world is forgotten. Named resources are sent again, so that nothing needs to
    // be remembered of wildcard watchers.
    this.#mode = { kind: 'on_demand', held: new Map() };
    this.#reported = undefined;
    this.#dirty.clear();
    for (const named of this.#names) this.#asked.add(named);
    for (const local of this.#store.onNode(this.#node)) this.#dirty.set(local.name, undefined);
    this.#mustAnswer ||= this.#asked.size > 0;
  }

  /** Whether an on-demand client has to hear of a resource that it does not hold. */
  #isWanted(resource: XdsResource): boolean {
    if (this.#names.has(resource.name) || resource.aliases.some(alias => this.#names.has(alias))) return true;
    if (resource.kind !== 'workload') return false;
    if (resource.node !== '' && resource.node === this.#node) return true;
    const { held } = this.#mode.kind === 'on_demand' ? this.#mode : { held: undefined };
    return resource.services.some(service => held?.has(service) === true);
  }

  /** A service comes with its workloads, also when it is pushed and not asked for. */
  #bringEndpoints(found: Map<string, XdsResource>, held: Map<string, string>): void {
    for (const service of [...found.values()].filter(({ kind }) => kind === 'service')) {
      for (const answer of this.#store.lookup('address', service.name)) {
        if (held.get(answer.name) === answer.version) continue;
        held.set(answer.name, answer.version);
        found.set(answer.name, answer);
      }
    }
  }
}
