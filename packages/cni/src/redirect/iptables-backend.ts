// The back end for nodes whose rules are iptables': programs iptables-save and iptables-restore are run inside the pod.
// What is there and right is left alone; anything else of ours is replaced table by table, each at once. Verifying compares
// with what iptables-save says of the same plan in an empty namespace. The legacy variant has no cheap proof that nothing
// changed, so each verification runs the programs again (a few milliseconds of two processes).
import { createNetNs, type NetNs } from '@ambit/native';
import { CniError } from '../errors.ts';
import { BoundedCache } from './bounded-cache.ts';
import { type IptablesBinary, runIptables } from './iptables-binary.ts';
import { type IptablesState, iptablesDrift, iptablesInput, isEmptyState, readIptablesSave } from './iptables-state.ts';
import { nftLeftoverDrift, removeNftLeftovers } from './nft-leftovers.ts';
import type { Drift, RedirectBackend, RedirectPlan, Verification, VerifyStamp } from './redirect-plan.ts';
import { addRedirectRoutes, removeRedirectRoutes, routingDrift, routingState } from './redirect-routes.ts';
import { familiesOf, type IpFamily } from './redirect-rules.ts';
import { sameStamp, takeStamp } from './verify-stamp.ts';
import { orThrow, visit } from './visit.ts';

const MAX_REFERENCES = 64;
/** Somebody else may program the same namespace between our look and our write, which then fails as a whole. */
const MAX_ATTEMPTS = 3;
const NOTHING: IptablesState = new Map();

export class IptablesBackend implements RedirectBackend {
  readonly name = 'iptables';
  readonly binary: IptablesBinary;
  readonly #references = new BoundedCache<Promise<IptablesState>>(MAX_REFERENCES);

  /** @param binary what `chooseIptables` found */
  constructor(binary: IptablesBinary) {
    this.binary = binary;
  }

  async apply(netns: NetNs, plan: RedirectPlan): Promise<void> {
    this.#refuseIpv6(plan);
    // The way back must be there before the first reply can be marked.
    visit(netns, () => addRedirectRoutes(plan));
    for (const family of familiesOf(plan)) {
      const expected = await this.#reference(family, plan);
      await this.#change(netns, family, state =>
        iptablesDrift(family, expected, state).length === 0 ? undefined : iptablesInput(state, plan, family),
      );
    }
    // Last, so that the pod is captured all the while.
    visit(netns, removeNftLeftovers);
  }

  async remove(netns: NetNs): Promise<void> {
    for (const family of this.#families()) {
      await this.#change(netns, family, state =>
        isEmptyState(state) ? undefined : iptablesInput(state, undefined, family),
      );
    }
    visit(netns, () => {
      removeNftLeftovers();
      removeRedirectRoutes();
    });
  }

  async verify(netns: NetNs, plan: RedirectPlan | undefined, stamp: VerifyStamp | undefined): Promise<Verification> {
    const key = `iptables\n${plan === undefined ? '' : JSON.stringify(plan)}`;
    // Taken before anything is compared: whatever changes later makes it stale.
    const { others, fresh } = visit(netns, () => {
      const routing = routingState();
      return {
        others: [...nftLeftoverDrift(), ...routingDrift(routing, plan)],
        fresh: this.#stamp(netns, key, routing),
      };
    });
    if (stamp !== undefined && fresh !== undefined && sameStamp(fresh, stamp)) return { drift: [], stamp };
    const drift: Drift[] = [];
    for (const family of plan === undefined ? this.#families() : familiesOf(plan)) {
      const expected = plan === undefined ? NOTHING : await this.#reference(family, plan);
      drift.push(...iptablesDrift(family, expected, await this.#state(netns, family)));
    }
    drift.push(...others);
    return { drift, stamp: drift.length === 0 ? fresh : undefined };
  }

  #families(): readonly IpFamily[] {
    return this.binary.hasIpv6 ? [4, 6] : [4];
  }

  #refuseIpv6(plan: RedirectPlan): void {
    if (!plan.ipv6 || this.binary.hasIpv6) return;
    throw new CniError('cni.unsupported', `${this.binary.names[6]} does not work here, and the plan has IPv6`, {
      next: 'install ip6tables, or switch IPv6 off',
    });
  }

  #stamp(netns: NetNs, key: string, routing: ReturnType<typeof routingState>): VerifyStamp | undefined {
    return this.binary.variant === 'nft' ? takeStamp(netns, key, routing) : undefined;
  }

  async #state(netns: NetNs, family: IpFamily): Promise<IptablesState> {
    return readIptablesSave(await runIptables(netns, this.binary, family, 'save'));
  }

  /** Looks and writes what `input` wants to change, again while somebody else is writing too. */
  async #change(netns: NetNs, family: IpFamily, input: (state: IptablesState) => string | undefined): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const text = input(await this.#state(netns, family));
      if (text === undefined) return;
      try {
        await runIptables(netns, this.binary, family, 'restore', text);
        return;
      } catch (error) {
        if (attempt >= MAX_ATTEMPTS) throw error;
      }
    }
  }

  async #reference(family: IpFamily, plan: RedirectPlan): Promise<IptablesState> {
    const key = `${family} ${JSON.stringify(plan)}`;
    const known = this.#references.get(key);
    if (known !== undefined) return known;
    const making = this.#makeReference(family, plan);
    this.#references.set(key, making);
    try {
      return await making;
    } catch (error) {
      this.#references.delete(key); // the next one may be luckier
      throw error;
    }
  }

  async #makeReference(family: IpFamily, plan: RedirectPlan): Promise<IptablesState> {
    const scratch = orThrow('enrol.rules', 'no namespace to compare with can be made', () => createNetNs());
    try {
      await runIptables(scratch, this.binary, family, 'restore', iptablesInput(NOTHING, plan, family));
      return await this.#state(scratch, family);
    } finally {
      scratch.close();
    }
  }
}
