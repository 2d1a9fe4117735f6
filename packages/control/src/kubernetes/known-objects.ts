// What one reflector has delivered so far, and what it could not read. It turns "this is what the server says" into
// changes for the sink: nothing twice (by resourceVersion), deletions only of what was delivered, and an object that
// no longer reads keeps its last good version. The objects themselves are not kept here.
import { errorText } from '@ambit/log';
import type { Diagnostic } from '../diagnostic.ts';
import type { Kind, KubeObject, ObjectChange, ObjectRef } from '../objects/types.ts';
import { isObject, textAt } from './json.ts';

/**
 * Reads one object of the API, whole or not at all; an object that was read may have problems too (warnings).
 * `hint` says what it is: the items of built-in lists carry neither apiVersion nor kind.
 */
export type ReadObject = (
  raw: unknown,
  hint: { readonly apiVersion: string; readonly kind: string },
) =>
  | { readonly object: KubeObject; readonly problems?: readonly Diagnostic[] }
  | { readonly problems: readonly Diagnostic[] };

export class KnownObjects {
  readonly #kind: Kind;
  readonly #read: ReadObject;
  readonly #emit: (change: ObjectChange) => void;
  /** Key to the resourceVersion that was looked at last, readable or not. */
  readonly #versions = new Map<string, string>();
  readonly #delivered = new Map<string, ObjectRef>();
  readonly #problems = new Map<string, readonly Diagnostic[]>();
  /** Keys seen in the list that is being read; undefined between lists. */
  #seen: Set<string> | undefined;

  constructor(kind: Kind, read: ReadObject, emit: (change: ObjectChange) => void) {
    this.#kind = kind;
    this.#read = read;
    this.#emit = emit;
  }

  get count(): number {
    return this.#delivered.size;
  }

  /** What is wrong with objects as they are now, read or not. */
  *problems(): Iterable<Diagnostic> {
    for (const list of this.#problems.values()) yield* list;
  }

  /** A whole list begins: until `endList`, what is not put counts as gone. A list that broke off is begun again. */
  beginList(): void {
    this.#seen = new Set();
  }

  endList(): void {
    const seen = this.#seen;
    this.#seen = undefined;
    if (seen === undefined) return;
    for (const key of this.#versions.keys()) if (!seen.has(key)) this.#drop(key);
  }

  /** @param apiVersion of the collection; an object's own goes before it. */
  put(raw: unknown, apiVersion: string): void {
    const name = textAt(raw, 'metadata', 'name');
    if (!isObject(raw) || name === '') return; // not an object of the API
    const namespace = textAt(raw, 'metadata', 'namespace');
    const key = `${namespace}/${name}`;
    this.#seen?.add(key);
    const version = textAt(raw, 'metadata', 'resourceVersion');
    if (version !== '' && this.#versions.get(key) === version) return;
    this.#versions.set(key, version);
    const ref: ObjectRef = { kind: this.#kind, namespace, name };
    const result = this.#readSafely(raw, apiVersion, ref);
    if (result.problems === undefined || result.problems.length === 0) this.#problems.delete(key);
    else this.#problems.set(key, result.problems);
    if (!('object' in result)) return;
    this.#delivered.set(key, ref);
    this.#emit({ ref, object: result.object });
  }

  remove(raw: unknown): void {
    this.#drop(`${textAt(raw, 'metadata', 'namespace')}/${textAt(raw, 'metadata', 'name')}`);
  }

  /** The resource itself is gone, and so is everything of it. */
  clear(): void {
    this.#seen = undefined;
    for (const key of this.#versions.keys()) this.#drop(key);
  }

  #drop(key: string): void {
    this.#versions.delete(key);
    this.#problems.delete(key);
    const ref = this.#delivered.get(key);
    if (ref === undefined) return;
    this.#delivered.delete(key);
    this.#emit({ ref, object: undefined });
  }

  /** A reader with a bug must cost one object, not the source. */
  #readSafely(raw: unknown, apiVersion: string, ref: ObjectRef): ReturnType<ReadObject> {
    try {
      return this.#read(raw, { apiVersion, kind: this.#kind });
    } catch (error) {
      return {
        problems: [
          {
            code: 'config.unreadable',
            severity: 'error',
            message: `the object cannot be read: ${errorText(error)}`,
            remedy: 'report this as a bug, with the object',
            ref,
          },
        ],
      };
    }
  }
}
