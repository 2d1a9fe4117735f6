// A map from a key to a set of members; a key without members is not kept, and one member costs no set. Members are no sets.

export class GroupMap<T> {
  readonly #groups = new Map<string, T | Set<T>>();

  add(key: string, member: T): void {
    const group = this.#groups.get(key);
    if (group === undefined) this.#groups.set(key, member);
    else if (group instanceof Set) group.add(member);
    else if (group !== member) this.#groups.set(key, new Set([group, member]));
  }

  remove(key: string, member: T): void {
    const group = this.#groups.get(key);
    if (group === member) this.#groups.delete(key);
    else if (group instanceof Set && group.delete(member) && group.size === 0) this.#groups.delete(key);
  }

  get(key: string): Iterable<T> {
    const group = this.#groups.get(key);
    if (group === undefined) return NOTHING;
    return group instanceof Set ? group : [group];
  }

  get isEmpty(): boolean {
    return this.#groups.size === 0;
  }
}

const NOTHING: readonly never[] = [];
