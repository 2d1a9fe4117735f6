// The back end that programs nftables inside this process. Applying is one transaction that leaves exactly the plan's
// rules; two at a time, or one after another, leave the same. Verifying compares with what the kernel lists for the same
// plan in an empty namespace, so it does not depend on how a version of nft writes its rules. It does not see what others
// do to the traffic in tables of their own: the canary does.
import { hash } from 'node:crypto';
import { createNetNs, type NetNs, nftGeneration, runNft } from '@ambit/native';
import { NFT_FAMILY } from './nft-json.ts';
import { type ListedTables, listedTableNames, readTable, tablesDrift } from './nft-listing.ts';
import { REDIRECT_TABLES, renderNftRedirect, renderNftRemoval } from './nft-redirect.ts';
import type { RedirectBackend, RedirectPlan, Verification, VerifyStamp } from './redirect-plan.ts';
import {
  addRedirectRoutes,
  removeRedirectRoutes,
  type RoutingState,
  routingDrift,
  routingState,
} from './redirect-routes.ts';
import { orThrow, visit } from './visit.ts';

/** Plans differ by few flags and by virtual interfaces, which are rare; a listing takes some 10 KB. */
const MAX_REFERENCES = 64;
const NOTHING: ListedTables = new Map();

export class NftablesBackend implements RedirectBackend {
  readonly name = 'nftables';
  /** By plan, as JSON; least recently made first. */
  readonly #references = new Map<string, ListedTables>();

  async apply(netns: NetNs, plan: RedirectPlan): Promise<void> {
    visit(netns, () => {
      // The way back must be there before the first reply can be marked.
      addRedirectRoutes(plan);
      orThrow('enrol.rules', 'the redirect rules cannot be loaded', () => runNft(renderNftRedirect(plan)));
    });
  }

  async remove(netns: NetNs): Promise<void> {
    visit(netns, () => {
      orThrow('enrol.rules', 'the redirect rules cannot be removed', () => runNft(renderNftRemoval()));
      removeRedirectRoutes();
    });
  }

  /** An unchanged namespace costs one question for the generation and four short dumps. */
  async verify(netns: NetNs, plan: RedirectPlan | undefined, stamp: VerifyStamp | undefined): Promise<Verification> {
    const key = plan === undefined ? '' : JSON.stringify(plan);
    if (stamp !== undefined) {
      const now = visit(netns, () => stampOf(netns, key, routingState()));
      if (now.generation === stamp.generation && now.digest === stamp.digest) return { drift: [], stamp };
    }
    const expected = plan === undefined ? NOTHING : this.#reference(key, plan);
    return visit(netns, () => {
      const routing = routingState();
      // Before the listing: whatever changes after it makes the stamp stale.
      const fresh = stampOf(netns, key, routing);
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
        orThrow('enrol.rules', 'the redirect rules cannot be loaded', () => runNft(renderNftRedirect(plan)));
        return listTables();
      });
      if (this.#references.size >= MAX_REFERENCES) {
        for (const oldest of this.#references.keys()) {
          this.#references.delete(oldest);
          break;
        }
      }
      this.#references.set(key, listed);
      return listed;
    } finally {
      scratch.close();
    }
  }
}

/** Ours of the current namespace. */
function listTables(): ListedTables {
  return orThrow('enrol.rules', 'the redirect rules cannot be listed', () => {
    const names = listedTableNames(list({ tables: null }));
    const found = new Map<string, NonNullable<ReturnType<typeof readTable>>>();
    for (const name of REDIRECT_TABLES) {
      if (!names.includes(name)) continue;
      const table = readTable(list({ table: { family: NFT_FAMILY, name } }));
      if (table !== undefined) found.set(name, table);
    }
    return found;
  });
}

function list(what: object): unknown {
  return runNft({ nftables: [{ list: what }] }, { stateless: true });
}

function stampOf(netns: NetNs, key: string, routing: RoutingState): VerifyStamp {
  const generation = orThrow('enrol.rules', 'the generation of the rules cannot be read', () => nftGeneration());
  // With the namespace's identity: another one may have the same generation and routes.
  const { dev, ino } = netns.identity;
  return { generation, digest: hash('sha256', `${dev}:${ino}\n${key}\n${JSON.stringify(routing)}`) };
}
