// A map from a key to a set of members; a key without members is not kept.

export class GroupMap<T> {
  readonly #groups = new Map<string, Set<T>>();

  add(key: string, member: T): void {
    const group = this.#groups.get(key);
    if (group === undefined) this.#groups.set(key, new Set([member]));
    else group.add(member);
  }

  remove(key: string, member: T): void {
    const group = this.#groups.get(key);
    if (group?.delete(member) === true && group.size === 0) this.#groups.delete(key);
  }

  get(key: string): Iterable<T> {
    return this.#groups.get(key) ?? NOTHING;
  }
}

const NOTHING: readonly never[] = [];
