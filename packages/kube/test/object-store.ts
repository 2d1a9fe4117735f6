// What an API server keeps: objects by resource, one growing resourceVersion for all of them, a window of past events
// for watches (older versions are expired), and snapshots for continue tokens (which can expire too). Same rules as
// https://kubernetes.io/docs/reference/using-api/api-concepts/. No HTTP here.
import { randomUUID } from 'node:crypto';

export interface StoredObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

export interface StoreEvent {
  readonly version: number;
  /** `group/plural`. */
  readonly resource: string;
  readonly object: StoredObject | undefined;
  /** The object before; undefined: it is new. */
  readonly previous: StoredObject | undefined;
}

export class ObjectStore {
  readonly #objects = new Map<string, Map<string, StoredObject>>();
  readonly #listeners = new Set<(event: StoreEvent) => void>();
  readonly #snapshots = new Map<string, { readonly version: number; readonly rest: readonly StoredObject[] }>();
  #history: StoreEvent[] = [];
  #version = 1000;
  /** Watches may start at this version or later. */
  #oldest = 1000;

  get version(): number {
    return this.#version;
  }

  get(resource: string, namespace: string, name: string): StoredObject | undefined {
    return this.#objects.get(resource)?.get(`${namespace}/${name}`);
  }

  all(resource: string): readonly StoredObject[] {
    const found = [...(this.#objects.get(resource)?.entries() ?? [])];
    return found.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  put(resource: string, object: StoredObject): StoredObject {
    const key = `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
    const objects = this.#objects.get(resource) ?? new Map<string, StoredObject>();
    this.#objects.set(resource, objects);
    const previous = objects.get(key);
    this.#version += 1;
    const uid = previous?.metadata.uid ?? object.metadata.uid ?? randomUUID();
    const stored = { ...object, metadata: { ...object.metadata, uid, resourceVersion: String(this.#version) } };
    objects.set(key, stored);
    this.#record({ version: this.#version, resource, object: stored, previous });
    return stored;
  }

  remove(resource: string, namespace: string, name: string): boolean {
    const previous = this.get(resource, namespace, name);
    if (previous === undefined) return false;
    this.#objects.get(resource)?.delete(`${namespace}/${name}`);
    this.#version += 1;
    this.#record({ version: this.#version, resource, object: undefined, previous });
    return true;
  }

  /** Events after `version`, or undefined when that is no longer known. */
  since(version: number, resource: string): readonly StoreEvent[] | undefined {
    if (version < this.#oldest) return undefined;
    return this.#history.filter(event => event.version > version && event.resource === resource);
  }

  /** Forgets past events: watches from before now are expired. */
  compact(): void {
    this.#version += 1;
    this.#oldest = this.#version;
    this.#history = [];
  }

  listen(listener: (event: StoreEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Keeps the rest of a list for its next page. */
  saveSnapshot(version: number, rest: readonly StoredObject[]): string {
    const token = Buffer.from(randomUUID()).toString('base64url');
    this.#snapshots.set(token, { version, rest });
    return token;
  }

  snapshot(token: string): { readonly version: number; readonly rest: readonly StoredObject[] } | undefined {
    return this.#snapshots.get(token);
  }

  expireSnapshots(): void {
    this.#snapshots.clear();
  }

  #record(event: StoreEvent): void {
    this.#history.push(event);
    for (const listener of this.#listeners) listener(event);
  }
}
