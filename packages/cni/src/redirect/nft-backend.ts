// The back end that programs nftables inside this process. Applying is one transaction that leaves exactly the plan's
// rules, or none when they are there; two at a time, or one after another, leave the same. Verifying compares with what the
// kernel lists for the same plan in an empty namespace, so it does not depend on how a version of nft writes its rules. It
// does not see what others do to the traffic in tables of their own: the canary does.
import { type NetNs, runNft } from '@ambit/native';
import { BoundedCache } from './bounded-cache.ts';
import { iptablesLeftovers, leftoverDrift, renderLeftoverRemoval } from './iptables-leftovers.ts';
import type { NftProgram } from './nft-json.ts';
import type { ListedTables } from './nft-listing.ts';
import { REDIRECT_TABLES, renderNftRedirect, renderNftRemoval } from './nft-redirect.ts';
import { areAbsent, currentDrift, largeDrift, referenceTables } from './nft-tables.ts';
import type { Drift, RedirectBackend, RedirectPlan, Verification, VerifyStamp } from './redirect-plan.ts';
import { addRedirectRoutes, removeRedirectRoutes, routingDrift, routingState } from './redirect-routes.ts';
import { sameStamp, takeStamp } from './verify-stamp.ts';
import { orThrow, visit } from './visit.ts';

/** Plans differ by few flags and by virtual interfaces, which are rare; a listing takes some 10 KB. */
const MAX_REFERENCES = 64;
const NOTHING: ListedTables = new Map();

export class NftablesBackend implements RedirectBackend {
  readonly name = 'nftables';
  /** By plan, as JSON. */
  readonly #references = new BoundedCache<ListedTables>(MAX_REFERENCES);

  async apply(netns: NetNs, plan: RedirectPlan): Promise<void> {
    const isDone = visit(netns, () => {
      // The way back must be there before the first reply can be marked.
      addRedirectRoutes(plan);
      // Taking tables away costs the kernel some 10 ms, and a new pod has none.
      return isClear() && loadFirst(plan);
    });
    const expected = isDone ? NOTHING : this.#reference(JSON.stringify(plan), plan);
    visit(netns, () => {
      if (!isDone && driftFrom(expected).length > 0) load(renderNftRedirect(plan));
      // Last, so that the pod is captured all the while.
      removeLeftovers();
    });
  }

  async remove(netns: NetNs): Promise<void> {
    visit(netns, () => {
      if (!isClear()) load(renderNftRemoval());
      removeLeftovers();
      removeRedirectRoutes();
    });
  }

  /** An unchanged namespace costs one question for the generation and four short dumps. */
  async verify(netns: NetNs, plan: RedirectPlan | undefined, stamp: VerifyStamp | undefined): Promise<Verification> {
    const key = plan === undefined ? '' : JSON.stringify(plan);
    if (stamp !== undefined) {
      const now = visit(netns, () => takeStamp(netns, key, routingState()));
      if (sameStamp(now, stamp)) return { drift: [], stamp };
    }
    const expected = plan === undefined ? NOTHING : this.#reference(key, plan);
    return visit(netns, () => {
      const routing = routingState();
      // Before the listing: whatever changes after it makes the stamp stale.
      const fresh = takeStamp(netns, key, routing);
      const drift = [...driftFrom(expected), ...routingDrift(routing, plan)];
      return { drift, stamp: drift.length === 0 ? fresh : undefined };
    });
  }

  #reference(key: string, plan: RedirectPlan): ListedTables {
    const known = this.#references.get(key);
    if (known !== undefined) return known;
    const listed = orThrow('enrol.rules', 'the rules cannot be tried in an empty namespace', () =>
      referenceTables(renderNftRedirect(plan, 'first'), REDIRECT_TABLES),
    );
    this.#references.set(key, listed);
    return listed;
  }
}

function isClear(): boolean {
  return orThrow('enrol.rules', 'tables cannot be listed', () => areAbsent(REDIRECT_TABLES));
}

function driftFrom(expected: ListedTables): readonly Drift[] {
  return orThrow('enrol.rules', 'tables cannot be listed', () => {
    const large = largeDrift(REDIRECT_TABLES);
    if (large.length > 0) return large;
    return [...currentDrift(expected, REDIRECT_TABLES), ...leftoverDrift(iptablesLeftovers())];
  });
}

function removeLeftovers(): void {
  orThrow('enrol.rules', 'rules of an iptables back end cannot be removed', () => {
    const leftovers = iptablesLeftovers();
    if (leftovers.length > 0) runNft(renderLeftoverRemoval(leftovers));
  });
}

function load(program: NftProgram): void {
  orThrow('enrol.rules', 'nftables refused the redirect rules', () => runNft(program));
}

/** @returns false when somebody was quicker */
function loadFirst(plan: RedirectPlan): boolean {
  try {
    runNft(renderNftRedirect(plan, 'first'));
    return true;
  } catch {
    return false; // whatever else it was, the other program meets it too and says it
  }
}
