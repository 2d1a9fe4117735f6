// Every object of the mesh, by kind, namespace and name, with what was made of it. It knows nothing about meaning.
import type { Diagnostic } from '../diagnostic.ts';
import type { Kind, KubeObject, ObjectOf, ObjectRef } from '../objects/types.ts';
import type { HostClaim } from './host-table.ts';
import type { XdsResource } from './resource.ts';

/** One object and its products. Mutable, and owned by the model: nothing outside keeps one. */
export interface Entry<K extends Kind = Kind> {
  object: ObjectOf<K>;
  resources: readonly XdsResource[];
  diagnostics: readonly Diagnostic[];
  /** The host names a Service or ServiceEntry claims; empty for others. */
  claims: readonly HostClaim[];
}

/** An entry of some kind, told apart by `object.kind`. */
export type AnyEntry = { readonly [K in Kind]: Entry<K> }[Kind];

type EntryOf<K extends Kind> = K extends Kind ? Entry<K> : never;
type NameMap<K extends Kind> = Map<string, Entry<K>>;
type Table = { readonly [K in Kind]: Map<string, NameMap<K>> };

const NOTHING: readonly never[] = [];

export class ObjectStore {
  readonly #table: Table = {
    Namespace: new Map(),
    Node: new Map(),
    ServiceAccount: new Map(),
    Pod: new Map(),
    Service: new Map(),
    EndpointSlice: new Map(),
    WorkloadEntry: new Map(),
    ServiceEntry: new Map(),
    AuthorizationPolicy: new Map(),
    PeerAuthentication: new Map(),
    Gateway: new Map(),
    GatewayClass: new Map(),
    HTTPRoute: new Map(),
    GRPCRoute: new Map(),
  };
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get<K extends Kind>(kind: K, namespace: string, name: string): Entry<K> | undefined {
    return this.#names(kind).get(namespace)?.get(name);
  }

  entry({ kind, namespace, name }: ObjectRef): AnyEntry | undefined {
    return this.#table[kind].get(namespace)?.get(name);
  }

  /** Gives an entry a new state of its object. */
  assign(entry: AnyEntry, object: KubeObject): void {
    // Entries are found by kind and name, so the new state has the kind of the old one; the checker cannot know.
    (entry as { object: KubeObject }).object = object;
  }

  /** A new entry for an object whose place is free. */
  add(object: KubeObject): AnyEntry {
    const { namespace, name } = object.metadata;
    // The map of a kind takes entries of that kind; the checker does not see that through the union.
    const namespaces = this.#table[object.kind] as Map<string, Map<string, AnyEntry>>;
    const entry = { object, resources: NOTHING, diagnostics: NOTHING, claims: NOTHING } as AnyEntry;
    let names = namespaces.get(namespace);
    if (names === undefined) namespaces.set(namespace, (names = new Map<string, AnyEntry>()));
    names.set(name, entry);
    this.#size++;
    return entry;
  }

  remove({ kind, namespace, name }: ObjectRef): void {
    const namespaces = this.#table[kind];
    const names = namespaces.get(namespace);
    if (names?.delete(name) !== true) return;
    this.#size--;
    if (names.size === 0) namespaces.delete(namespace);
  }

  /** All entries of a kind in one namespace. */
  in<K extends Kind>(kind: K, namespace: string): Iterable<EntryOf<K>> {
    // Of one kind or another, as the caller asked; the checker does not distribute it by itself.
    return (this.#names(kind).get(namespace)?.values() ?? NOTHING) as Iterable<EntryOf<K>>;
  }

  /** Namespaces that have an object of the kind. */
  namespaces(kind: Kind): Iterable<string> {
    return this.#table[kind].keys();
  }

  *all<K extends Kind>(kind: K): Iterable<EntryOf<K>> {
    for (const namespace of this.namespaces(kind)) yield* this.in(kind, namespace);
  }

  *entries(): Iterable<AnyEntry> {
    for (const namespaces of Object.values(this.#table)) for (const names of namespaces.values()) yield* names.values();
  }

  object(ref: ObjectRef): KubeObject | undefined {
    return this.#table[ref.kind].get(ref.namespace)?.get(ref.name)?.object;
  }

  #names<K extends Kind>(kind: K): Map<string, NameMap<K>> {
    return this.#table[kind];
  }
}
