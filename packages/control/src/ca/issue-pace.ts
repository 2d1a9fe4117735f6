// How often one caller is given certificates. Every one is kept until it expires, recorded, and listed if it is revoked: a
// caller in a loop would fill the account, push older audit lines out, and make the revocation list larger than its readers
// take. The burst covers all pods of a large node at once; the rate, their renewals many times over.
import type { Caller } from '../auth/caller.ts';
import { TokenBucket } from '../token-bucket.ts';

export interface IssuePaceOptions {
  /** Milliseconds; never goes back. */
  readonly now: () => number;
  readonly limits?: Partial<IssueLimits>;
}

export interface IssueLimits {
  /** At once, by a caller that asks for others' identities. Default 2 000. */
  readonly nodeBurst: number;
  /** Default 5. */
  readonly nodePerSecond: number;
  /** At once, by a caller for itself; pods that prove no more than their account ask as one. Default 500. */
  readonly ownBurst: number;
  /** Default 0.2. */
  readonly ownPerSecond: number;
  /** Callers that are told apart; the longest unseen are forgotten, and begin anew. Default 20 000. */
  readonly maxCallers: number;
}

const DEFAULTS: IssueLimits = {
  nodeBurst: 2_000,
  nodePerSecond: 5,
  ownBurst: 500,
  ownPerSecond: 0.2,
  maxCallers: 20_000,
};

export class IssuePace {
  readonly #now: () => number;
  readonly #limits: IssueLimits;
  readonly #allowances = new Map<string, TokenBucket>();

  constructor({ now, limits }: IssuePaceOptions) {
    this.#now = now;
    this.#limits = { ...DEFAULTS, ...limits };
  }

  /** Takes one from the caller's allowance; false when there is none left. */
  take(caller: Caller, isOwn: boolean): boolean {
    const { nodeBurst, nodePerSecond, ownBurst, ownPerSecond } = this.#limits;
    const [burst, perSecond] = isOwn ? [ownBurst, ownPerSecond] : [nodeBurst, nodePerSecond];
    const { namespace, serviceAccount } = caller.identity;
    const proof = `${caller.node ?? ''}/${caller.pod?.uid ?? ''}`;
    const key = `${isOwn ? 'own' : 'node'} ${namespace}/${serviceAccount} ${proof}`;
    const nowMs = this.#now();
    const allowance = this.#allowances.get(key) ?? new TokenBucket(perSecond, burst, nowMs);
    // Taken out and put in again: the map's order is then that of use.
    this.#allowances.delete(key);
    this.#allowances.set(key, allowance);
    const [oldest] = this.#allowances.keys();
    if (this.#allowances.size > this.#limits.maxCallers && oldest !== undefined) this.#allowances.delete(oldest);
    return allowance.take(nowMs) !== undefined;
  }
}
