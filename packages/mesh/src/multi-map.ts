// A map from a key to one or several values that stores the single value directly. Nearly all keys of the mesh's indexes
// have exactly one value, and an array around each of 100 000 would cost more than the values.

export class MultiMap<K, V extends object> {
  readonly #entries = new Map<K, V | V[]>();

  add(key: K, value: V): void {
    const present = this.#entries.get(key);
    if (present === undefined) this.#entries.set(key, value);
    else if (Array.isArray(present)) present.push(value);
    else this.#entries.set(key, [present, value]);
  }

  /** Removes that very object; others under the key stay, in their order. */
  delete(key: K, value: V): void {
    const present = this.#entries.get(key);
    if (present === value) this.#entries.delete(key);
    else if (Array.isArray(present)) {
      const rest = present.filter(other => other !== value);
      const [only] = rest;
      if (only === undefined) this.#entries.delete(key);
      else this.#entries.set(key, rest.length === 1 ? only : rest);
    }
  }

  /**
   * As deleting one value and adding another, which then counts as the newest. A single value is exchanged in place:
   * deleting and setting a key of a `Map` over and over makes V8 walk all its dead entries until the next rehash.
   */
  replace(key: K, previous: V, next: V): void {
    if (this.#entries.get(key) === previous) {
      this.#entries.set(key, next);
      return;
    }
    this.delete(key, previous);
    this.add(key, next);
  }

  /** In insertion order. */
  get(key: K): readonly V[] {
    const present = this.#entries.get(key);
    if (present === undefined) return [];
    return Array.isArray(present) ? present : [present];
  }

  get size(): number {
    return this.#entries.size;
  }
}

/** A MultiMap per network, so that no key has to be glued together from network and address. */
export class NetworkMultiMap<K, V extends object> {
  readonly #networks = new Map<string, MultiMap<K, V>>();

  add(network: string, key: K, value: V): void {
    let entries = this.#networks.get(network);
    if (entries === undefined) {
      entries = new MultiMap();
      this.#networks.set(network, entries);
    }
    entries.add(key, value);
  }

  delete(network: string, key: K, value: V): void {
    const entries = this.#networks.get(network);
    if (entries === undefined) return;
    entries.delete(key, value);
    if (entries.size === 0) this.#networks.delete(network);
  }

  replace(network: string, key: K, previous: V, next: V): void {
    const entries = this.#networks.get(network);
    if (entries === undefined) this.add(network, key, next);
    else entries.replace(key, previous, next);
  }

  get(network: string, key: K): readonly V[] {
    return this.#networks.get(network)?.get(key) ?? [];
  }
}
