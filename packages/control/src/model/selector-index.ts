// Which selectors match a set of labels, without trying them all: every selector waits under one of its own label pairs,
// so a look-up tries only those whose pair the labels have.
import type { Labels } from '../objects/types.ts';

export class SelectorIndex<T> {
  readonly #byPair = new Map<string, Map<T, Labels>>();
  readonly #matchAll = new Set<T>();

  /** An empty selector matches everything. An owner has at most one selector. */
  add(owner: T, selector: Labels): void {
    const pair = pairOf(selector);
    if (pair === undefined) {
      this.#matchAll.add(owner);
      return;
    }
    const waiting = this.#byPair.get(pair);
    if (waiting === undefined) this.#byPair.set(pair, new Map([[owner, selector]]));
    else waiting.set(owner, selector);
  }

  /** `selector` is the one that the owner was added with. */
  remove(owner: T, selector: Labels): void {
    const pair = pairOf(selector);
    if (pair === undefined) {
      this.#matchAll.delete(owner);
      return;
    }
    const waiting = this.#byPair.get(pair);
    if (waiting?.delete(owner) === true && waiting.size === 0) this.#byPair.delete(pair);
  }

  get isEmpty(): boolean {
    return this.#byPair.size === 0 && this.#matchAll.size === 0;
  }

  /** Owners whose selector matches, in no particular order. */
  matching(labels: Labels): T[] {
    const found = [...this.#matchAll];
    for (const name in labels) {
      const waiting = this.#byPair.get(`${name}=${labels[name] ?? ''}`);
      if (waiting === undefined) continue;
      for (const [owner, selector] of waiting) if (matches(selector, labels)) found.push(owner);
    }
    return found;
  }
}

/** Whether the labels have every pair of the selector. */
export function matches(selector: Labels, labels: Labels): boolean {
  for (const name in selector) if (labels[name] !== selector[name]) return false;
  return true;
}

/** The last pair by name: selectors that share a common first label (`app.kubernetes.io/...`) spread better so. */
function pairOf(selector: Labels): string | undefined {
  let last: string | undefined;
  for (const name in selector) if (last === undefined || name > last) last = name;
  return last === undefined ? undefined : `${last}=${selector[last] ?? ''}`;
}
