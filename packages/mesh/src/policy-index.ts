// Policies by key and by what they apply to. It also remembers, within a bound, which keys were taken away on purpose:
// a workload that still names one is waiting for its own update, while a key never seen is a gap in our knowledge.
import type { Policy } from './policy.ts';

/** Enough for the deletions of one rollout; beyond it the oldest is forgotten and counts as never seen. */
const REMEMBERED_REMOVALS = 10_000;
const GLOBAL_BUCKET = '';

export class PolicyIndex {
  readonly #byKey = new Map<string, Policy>();
  readonly #buckets = new Map<string, Map<string, Policy>>();
  readonly #removed = new Set<string>();

  upsert(key: string, policy: Policy): void {
    this.#unbucket(key);
    this.#removed.delete(key);
    this.#byKey.set(key, policy);
    const name = bucketOf(policy);
    if (name === undefined) return;
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      bucket = new Map();
      this.#buckets.set(name, bucket);
    }
    bucket.set(key, policy);
  }

  remove(key: string): boolean {
    if (!this.#byKey.has(key)) return false;
    this.#unbucket(key);
    this.#byKey.delete(key);
    this.#removed.add(key);
    if (this.#removed.size > REMEMBERED_REMOVALS) {
      const [oldest] = this.#removed;
      if (oldest !== undefined) this.#removed.delete(oldest);
    }
    return true;
  }

  get(key: string): Policy | undefined {
    return this.#byKey.get(key);
  }

  global(): Iterable<Policy> {
    return this.#buckets.get(GLOBAL_BUCKET)?.values() ?? [];
  }

  ofNamespace(namespace: string): Iterable<Policy> {
    return this.#buckets.get(namespace)?.values() ?? [];
  }

  wasRemoved(key: string): boolean {
    return this.#removed.has(key);
  }

  entries(): Iterable<readonly [string, Policy]> {
    return this.#byKey.entries();
  }

  get size(): number {
    return this.#byKey.size;
  }

  #unbucket(key: string): void {
    const previous = this.#byKey.get(key);
    const name = previous === undefined ? undefined : bucketOf(previous);
    if (name === undefined) return;
    const bucket = this.#buckets.get(name);
    bucket?.delete(key);
    if (bucket?.size === 0) this.#buckets.delete(name);
  }
}

function bucketOf(policy: Policy): string | undefined {
  switch (policy.scope) {
    case 'Global':
      return GLOBAL_BUCKET;
    case 'Namespace':
      return policy.namespace;
    case 'WorkloadSelector':
      return undefined;
  }
}
