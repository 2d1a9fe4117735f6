// What one reflector has delivered so far, and what it could not read. It turns "this is what the server says" into
// changes: nothing twice (by resourceVersion), deletions only of what was delivered, and an object that no longer reads
// keeps its last good version. The objects themselves are not kept here.
import { errorText } from '@ambit/log';
import { isObject, textAt } from './json.ts';
import type { KubeProblem } from './problem.ts';
import type { ObjectSink } from './reflector.ts';

/** Which object of a resource. */
export interface ObjectName {
  /** Empty where the resource has no namespaces. */
  readonly namespace: string;
  readonly name: string;
}

/**
 * Reads one object of the API, whole or not at all; an object that was read may have problems too (warnings).
 * `hint` says what it is: the items of built-in lists carry neither apiVersion nor kind.
 */
export type ReadObject<O, P, K extends string = string> = (
  raw: unknown,
  hint: { readonly apiVersion: string; readonly kind: K },
) => { readonly object: O; readonly problems?: readonly P[] } | { readonly problems: readonly P[] };

export interface KnownObjectsOptions<O, P, K extends string> {
  readonly kind: K;
  readonly read: ReadObject<O, P, K>;
  /** An object is new or changed; undefined: it is gone. */
  readonly emit: (name: ObjectName, object: O | undefined) => void;
}

/** A reader threw, which it should not. */
export interface UnreadableObject<K extends string = string> extends KubeProblem {
  readonly ref: ObjectName & { readonly kind: K };
}

type Read<O, P, K extends string> =
  | { readonly object: O; readonly problems?: readonly P[] }
  | { readonly problems: readonly (P | UnreadableObject<K>)[] };

/** `O`: what objects are read as; `P`: what is said of those that do not read. */
export class KnownObjects<O, P, K extends string = string> implements ObjectSink {
  readonly #options: KnownObjectsOptions<O, P, K>;
  /** Key to the resourceVersion that was looked at last, readable or not. */
  readonly #versions = new Map<string, string>();
  readonly #delivered = new Map<string, ObjectName>();
  readonly #problems = new Map<string, readonly (P | UnreadableObject<K>)[]>();
  /** Keys seen in the list that is being read; undefined between lists. */
  #seen: Set<string> | undefined;

  constructor(options: KnownObjectsOptions<O, P, K>) {
    this.#options = options;
  }

  get count(): number {
    return this.#delivered.size;
  }

  /** What is wrong with objects as they are now, read or not. */
  *problems(): Iterable<P | UnreadableObject<K>> {
    for (const list of this.#problems.values()) yield* list;
  }

  beginList(): void {
    this.#seen = new Set();
  }

  endList(): void {
    const seen = this.#seen;
    this.#seen = undefined;
    if (seen === undefined) return;
    for (const key of this.#versions.keys()) if (!seen.has(key)) this.#drop(key);
  }

  put(raw: unknown, apiVersion: string): void {
    const name = textAt(raw, 'metadata', 'name');
    if (!isObject(raw) || name === '') return; // not an object of the API
    const namespace = textAt(raw, 'metadata', 'namespace');
    const key = `${namespace}/${name}`;
    this.#seen?.add(key);
    const version = textAt(raw, 'metadata', 'resourceVersion');
    if (version !== '' && this.#versions.get(key) === version) return;
    this.#versions.set(key, version);
    const object: ObjectName = { namespace, name };
    const result = this.#readSafely(raw, apiVersion, object);
    if (result.problems === undefined || result.problems.length === 0) this.#problems.delete(key);
    else this.#problems.set(key, result.problems);
    if (!('object' in result)) return;
    this.#delivered.set(key, object);
    this.#options.emit(object, result.object);
  }

  remove(raw: unknown): void {
    this.#drop(`${textAt(raw, 'metadata', 'namespace')}/${textAt(raw, 'metadata', 'name')}`);
  }

  clear(): void {
    this.#seen = undefined;
    for (const key of this.#versions.keys()) this.#drop(key);
  }

  #drop(key: string): void {
    this.#versions.delete(key);
    this.#problems.delete(key);
    const name = this.#delivered.get(key);
    if (name === undefined) return;
    this.#delivered.delete(key);
    this.#options.emit(name, undefined);
  }

  /** A reader with a bug must cost one object, not the source. */
  #readSafely(raw: unknown, apiVersion: string, name: ObjectName): Read<O, P, K> {
    try {
      return this.#options.read(raw, { apiVersion, kind: this.#options.kind });
    } catch (error) {
      return { problems: [unreadable(this.#options.kind, name, error)] };
    }
  }
}

function unreadable<K extends string>(kind: K, name: ObjectName, error: unknown): UnreadableObject<K> {
  return {
    code: 'config.unreadable',
    severity: 'error',
    message: `the object cannot be read: ${errorText(error)}`,
    remedy: 'report this as a bug, with the object',
    ref: { kind, ...name },
  };
}
