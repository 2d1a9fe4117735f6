// How many streams one caller may hold, whatever it calls its nodes: any workload of the mesh can prove itself, and must not
// take the places of all node proxies. A proof that is bound to a pod or a node is one proxy's, which needs one stream and
// during a hand-over two; one that is not may be shared by all replicas of a gateway.
import type { Caller } from '../auth/caller.ts';

export interface PlaceLimits {
  readonly ofBound: number;
  readonly ofUnbound: number;
}

export class CallerPlaces {
  readonly #limits: PlaceLimits;
  readonly #taken = new Map<string, number>();

  constructor(limits: PlaceLimits) {
    this.#limits = limits;
  }

  /** Takes one place; returns how to leave it, to be called once, or undefined when the caller has too many. */
  take({ identity, node, pod }: Caller): (() => void) | undefined {
    const isBound = node !== undefined || pod !== undefined;
    const key = `${identity.namespace}/${identity.serviceAccount} ${node ?? ''}/${pod?.uid ?? ''}`;
    const taken = this.#taken.get(key) ?? 0;
    if (taken >= (isBound ? this.#limits.ofBound : this.#limits.ofUnbound)) return undefined;
    this.#taken.set(key, taken + 1);
    return () => {
      const left = (this.#taken.get(key) ?? 1) - 1;
      if (left === 0) this.#taken.delete(key);
      else this.#taken.set(key, left);
    };
  }
}
