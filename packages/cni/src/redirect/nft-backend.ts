// The back end that programs nftables inside this process. Applying is one transaction that leaves exactly the plan's
// rules, or none when they are there; two at a time, or one after another, leave the same. Verifying compares with what the
// kernel lists for the same plan in an empty namespace, so it does not depend on how a version of nft writes its rules. It
// does not see what others do to the traffic in tables of their own: the canary does.
import { type NetNs, runNft } from '@ambit/native';
import { BoundedCache } from './bounded-cache.ts';
import { iptablesLeftovers, leftoverDrift, renderLeftoverRemoval } from './iptables-leftovers.ts';
import type { NftCopy } from './nft-copy.ts';
import type { NftProgram } from './nft-json.ts';
import { REDIRECT_TABLES, renderNftRedirect, renderNftRemoval } from './nft-redirect.ts';
import { type NftTableEntry, nftTables } from './nft-table-list.ts';
import { areAbsent, currentDrift, largeDrift, NOTHING, type Reference, referenceOf } from './nft-tables.ts';
import type { Drift, RedirectBackend, RedirectPlan, Verification, VerifyStamp } from './redirect-plan.ts';
import { addRedirectRoutes, removeRedirectRoutes, routingDrift, routingState } from './redirect-routes.ts';
import { sameStamp, takeStamp } from './verify-stamp.ts';
import { orThrow, visit } from './visit.ts';

/** Plans differ by few flags and by virtual interfaces, which are rare; one takes some 20 KB. */
const MAX_REFERENCES = 64;

export class NftablesBackend implements RedirectBackend {
  readonly name = 'nftables';
  /** By plan, as JSON. */
  readonly #references = new BoundedCache<Reference>(MAX_REFERENCES);

  prepare(plan: RedirectPlan): void {
    this.#reference(JSON.stringify(plan), plan);
  }

  async apply(netns: NetNs, plan: RedirectPlan): Promise<void> {
    const key = JSON.stringify(plan);
    const copy = this.#references.get(key)?.copy;
    const isDone = visit(netns, () => {
      // The way back must be there before the first reply can be marked.
      addRedirectRoutes(plan);
      const tables = tablesHere();
      // Taking tables away costs the kernel some 10 ms, and a new pod has none.
      if (!areAbsent(REDIRECT_TABLES, tables) || !loadFirst(plan, copy)) return false;
      // Last, so that the pod is captured all the while.
      removeLeftovers(tables);
      return true;
    });
    if (isDone) return;
    const expected = this.#reference(key, plan);
    visit(netns, () => {
      if (driftFrom(expected).length > 0) load(renderNftRedirect(plan));
      removeLeftovers(tablesHere());
    });
  }

  async remove(netns: NetNs): Promise<void> {
    visit(netns, () => {
      const tables = tablesHere();
      if (!areAbsent(REDIRECT_TABLES, tables)) load(renderNftRemoval());
      removeLeftovers(tables);
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

  #reference(key: string, plan: RedirectPlan): Reference {
    const known = this.#references.get(key);
    if (known !== undefined) return known;
    const reference = orThrow('enrol.rules', 'the rules cannot be tried in an empty namespace', () =>
      referenceOf(renderNftRedirect(plan, 'first'), REDIRECT_TABLES),
    );
    this.#references.set(key, reference);
    return reference;
  }
}

function tablesHere(): readonly NftTableEntry[] {
  return orThrow('enrol.rules', 'tables cannot be listed', () => nftTables());
}

function driftFrom({ listed, copy }: Reference): readonly Drift[] {
  return orThrow('enrol.rules', 'tables cannot be listed', () => {
    // What is equal in the kernel's words needs no listing, which is only for those of people.
    if (copy?.isHere() === true) return leftoverDrift(iptablesLeftovers());
    const large = largeDrift(REDIRECT_TABLES);
    if (large.length > 0) return large;
    return [...currentDrift(listed, REDIRECT_TABLES), ...leftoverDrift(iptablesLeftovers())];
  });
}

/** @param tables what there is */
function removeLeftovers(tables: readonly NftTableEntry[]): void {
  orThrow('enrol.rules', 'rules of an iptables back end cannot be removed', () => {
    const leftovers = iptablesLeftovers(tables);
    if (leftovers.length > 0) runNft(renderLeftoverRemoval(leftovers));
  });
}

function load(program: NftProgram): void {
  orThrow('enrol.rules', 'nftables refused the redirect rules', () => runNft(program));
}

/** @returns false when somebody was quicker */
function loadFirst(plan: RedirectPlan, copy: NftCopy | undefined): boolean {
  try {
    if (copy === undefined) runNft(renderNftRedirect(plan, 'first'));
    else copy.load();
    return true;
  } catch {
    return false; // whatever else it was, the other program meets it too and says it
  }
}
