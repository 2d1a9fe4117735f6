// The back end that programs nftables inside this process. Applying is one transaction that leaves exactly the plan's
// rules, or none when they are there; two at a time, or one after another, leave the same. Verifying compares with what the kernel lists for the same
// plan in an empty namespace, so it does not depend on how a version of nft writes its rules. It does not see what others
// do to the traffic in tables of their own: the canary does.
import { createNetNs, type NetNs, runNft } from '@ambit/native';
import { BoundedCache } from './bounded-cache.ts';
import { NFT_FAMILY, type NftProgram } from './nft-json.ts';
import { type ListedTable, type ListedTables, listedTableNames, readTable, tablesDrift } from './nft-listing.ts';
import { REDIRECT_TABLES, renderNftRedirect, renderNftRemoval } from './nft-redirect.ts';
import type { RedirectBackend, RedirectPlan, Verification, VerifyStamp } from './redirect-plan.ts';
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
      return ourTableNames().length === 0 && loadFirst(plan);
    });
    if (isDone) return;
    const expected = this.#reference(JSON.stringify(plan), plan);
    visit(netns, () => {
      if (tablesDrift(expected, listTables()).length > 0) load(renderNftRedirect(plan));
    });
  }

  async remove(netns: NetNs): Promise<void> {
    visit(netns, () => {
      if (ourTableNames().length > 0) load(renderNftRemoval());
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
      const drift = [...tablesDrift(expected, listTables()), ...routingDrift(routing, plan)];
      return { drift, stamp: drift.length === 0 ? fresh : undefined };
    });
  }

  /** What the kernel lists when nothing but the plan is programmed. */
  #reference(key: string, plan: RedirectPlan): ListedTables {
    const known = this.#references.get(key);
    if (known !== undefined) return known;
    const scratch = orThrow('enrol.rules', 'no namespace to compare with can be made', () => createNetNs());
    try {
      const listed = visit(scratch, () => {
        load(renderNftRedirect(plan, 'first'));
        return listTables();
      });
      this.#references.set(key, listed);
      return listed;
    } finally {
      scratch.close();
    }
  }
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

function ourTableNames(): readonly string[] {
  const names = listedTableNames(list({ tables: null }));
  return REDIRECT_TABLES.filter(name => names.includes(name));
}

/** Ours of the current namespace. */
function listTables(): ListedTables {
  const found = new Map<string, ListedTable>();
  for (const name of ourTableNames()) {
    const table = readTable(list({ table: { family: NFT_FAMILY, name } }));
    if (table !== undefined) found.set(name, table);
  }
  return found;
}

function list(what: object): unknown {
  return orThrow('enrol.rules', 'the redirect rules cannot be listed', () =>
    runNft({ nftables: [{ list: what }] }, { stateless: true }),
  );
}
