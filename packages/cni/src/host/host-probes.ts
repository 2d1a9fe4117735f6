// Lets the kubelet's probes through to enrolled pods: on the node their source becomes an address that the rules in the
// pods do not capture. Holds what ought to be in the kernel's sets, so that it can be proven and put back. A machine
// without a kubelet has none of this: then the agent is given no HostProbes at all.
import { isIP } from 'node:net';
import { type NetNs, runNft } from '@ambit/native';
import { CniError } from '../errors.ts';
import type { ProbeSet } from '../agent/probe-set.ts';
import type { NftProgram } from '../redirect/nft-json.ts';
import type { ListedTables } from '../redirect/nft-listing.ts';
import { currentDrift, referenceTables } from '../redirect/nft-tables.ts';
import type { Drift } from '../redirect/redirect-plan.ts';
import { orThrow, textOf } from '../redirect/visit.ts';
import { addBranchRules, type BranchRules, mayHaveBranchInterfaces, removeBranchRules } from './branch-eni.ts';
import { findKubeletUid } from './kubelet-uid.ts';
import {
  ipFamilyOf,
  PROBE_TABLE,
  type ProbeEntry,
  type ProbePlan,
  probeComment,
  probeFamilies,
  readProbeSet,
  renderProbeAdd,
  renderProbeDelete,
  renderProbeList,
  renderProbeRemoval,
  renderProbeRules,
} from './probe-rules.ts';

export interface HostProbesOptions {
  /** The node's own namespace; stays the caller's and open. */
  readonly node: NetNs;
  /** Where the node's processes are seen, such as `/host/proc`. */
  readonly procRoot: string;
  readonly snat: ProbePlan['snat'];
  readonly ipv6: boolean;
  /** Serve AWS's pods with an interface of their own too (branch-eni.ts); costs nothing on other nodes. */
  readonly branchInterfaces: boolean;
  /** An address that was to be cleared, and that the kernel says is another pod's. */
  readonly onForeign?: (ip: string, owner: string) => void;
}

/** Differences told at a time. */
const MAX_TOLD = 8;

export class HostProbes implements ProbeSet {
  readonly #options: HostProbesOptions;
  readonly #plan: ProbePlan;
  /** UID by address, as it ought to be. */
  readonly #wanted = new Map<string, string>();
  readonly #hasBranches: boolean;
  /** By address; only of pods with an interface of their own. */
  readonly #branches = new Map<string, BranchRules>();
  #reference: ListedTables | undefined;

  private constructor(options: HostProbesOptions, kubeletUid: number) {
    this.#options = options;
    this.#plan = { snat: options.snat, ipv6: options.ipv6, kubeletUid };
    this.#hasBranches = options.branchInterfaces && options.node.run(() => mayHaveBranchInterfaces(options.procRoot));
  }

  /**
   * Programs the rules, with the sets as they were left. Whoever starts then calls `prune` with what there is.
   * @throws CniError enrol.probes: no kubelet (the caller tries again), nft refuses
   */
  static start(options: HostProbesOptions): HostProbes {
    const kubeletUid = findKubeletUid(options.procRoot);
    if (kubeletUid === undefined) {
      throw new CniError('enrol.probes', `no kubelet runs in ${options.procRoot}, so probes cannot be told apart`, {
        where: options.procRoot,
        next: "mount the node's /proc there, or switch probes off on a machine without a kubelet",
      });
    }
    const probes = new HostProbes(options, kubeletUid);
    probes.#run('the rules for probes cannot be loaded', renderProbeRules(probes.#plan));
    return probes;
  }

  async set(uid: string, ips: readonly string[]): Promise<void> {
    const entries = this.#ours(ips).map(ip => ({ ip, uid }));
    this.#eachFamily(entries, ofFamily => {
      for (const { ip } of ofFamily) this.#wanted.set(ip, uid);
      this.#run(`addresses of pod ${uid} cannot be added`, renderProbeAdd(ofFamily));
      this.#addBranches(ofFamily);
    });
  }

  async clear(uid: string, ips: readonly string[]): Promise<void> {
    const entries = this.#ours(ips).map(ip => ({ ip, uid }));
    for (const { ip } of entries) {
      if (this.#wanted.get(ip) === uid) this.#wanted.delete(ip);
    }
    this.#eachFamily(entries, ofFamily => this.#clearOwn(ofFamily));
  }

  async prune(members: ReadonlyMap<string, readonly string[]>, isComplete: boolean): Promise<void> {
    for (const [uid, ips] of members) {
      for (const ip of this.#ours(ips)) this.#wanted.set(ip, uid);
    }
    if (isComplete) {
      const kept = new Set([...members.values()].flat());
      for (const ip of this.#wanted.keys()) {
        if (!kept.has(ip)) this.#wanted.delete(ip);
      }
    }
    this.#settle(isComplete);
  }

  async repair(): Promise<void> {
    // From nothing, in one transaction: what others put into the table, or a table put to sleep, does not survive.
    const entries = Array.from(this.#wanted, ([ip, uid]) => ({ ip, uid }));
    const programs = [renderProbeRemoval(), renderProbeRules(this.#plan), renderProbeAdd(entries)];
    this.#run('the rules for probes cannot be loaded', { nftables: programs.flatMap(({ nftables }) => nftables) });
  }

  /** What of the node's rules and sets is not as it ought to be; empty: all is. @throws CniError enrol.probes */
  async verify(): Promise<readonly Drift[]> {
    this.#reference ??= orThrow('enrol.probes', 'the rules for probes cannot be tried in an empty namespace', () =>
      referenceTables(renderProbeRules(this.#plan), [PROBE_TABLE]),
    );
    const expected = this.#reference;
    const ofTable = this.#inside('the rules for probes cannot be listed', () => currentDrift(expected, [PROBE_TABLE]));
    if (ofTable.length > 0) return ofTable;
    return this.#entryDrift(this.#inside('addresses of probes cannot be listed', () => this.#listed()));
  }

  /** Removes the table with everything in it. Closing twice is fine. @throws CniError enrol.probes */
  close(): void {
    this.#wanted.clear();
    this.#removeBranches([...this.#branches.keys()]);
    this.#run('the rules for probes cannot be removed', renderProbeRemoval());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #ours(ips: readonly string[]): readonly string[] {
    return this.#plan.ipv6 ? ips : ips.filter(ip => ipFamilyOf(ip) === 4);
  }

  /** Each family on its own, so that one that fails does not keep the other from its probes. */
  #eachFamily(entries: readonly ProbeEntry[], f: (entries: readonly ProbeEntry[]) => void): void {
    const failures: CniError[] = [];
    for (const family of probeFamilies(this.#plan)) {
      const ofFamily = entries.filter(({ ip }) => ipFamilyOf(ip) === family);
      try {
        // nft would look a name up.
        const wrong = ofFamily.find(({ ip }) => isIP(ip) === 0);
        if (wrong !== undefined) throw new CniError('enrol.probes', `${JSON.stringify(wrong.ip)} is not an IP address`);
        if (ofFamily.length > 0) f(ofFamily);
      } catch (error) {
        failures.push(
          error instanceof CniError ? error : new CniError('enrol.probes', textOf(error), { cause: error }),
        );
      }
    }
    const [first, second] = failures;
    if (first === undefined) return;
    throw second === undefined
      ? first
      : new CniError('enrol.probes', `${first.message}; ${second.message}`, { cause: first });
  }

  #clearOwn(entries: readonly ProbeEntry[]): void {
    const listed = this.#inside('addresses of probes cannot be listed', () => this.#listed());
    const own = entries.filter(({ ip, uid }) => {
      const owner = listed.get(ip);
      if (owner !== undefined && owner !== probeComment(uid)) this.#options.onForeign?.(ip, owner);
      return owner === probeComment(uid);
    });
    if (own.length === 0) return;
    this.#removeBranches(own.map(({ ip }) => ip));
    this.#run('addresses of probes cannot be removed', renderProbeDelete(own.map(({ ip }) => ip)));
  }

  #addBranches(entries: readonly ProbeEntry[]): void {
    if (!this.#hasBranches) return;
    for (const { ip } of entries) {
      const rules = this.#inside(`rules for the interface of ${ip} cannot be added`, () => addBranchRules(ip));
      if (rules !== undefined) this.#branches.set(ip, rules);
    }
  }

  #removeBranches(ips: readonly string[]): void {
    for (const ip of ips) {
      const rules = this.#branches.get(ip);
      this.#branches.delete(ip);
      if (rules !== undefined) this.#inside(`rules for ${ip} cannot be removed`, () => removeBranchRules(rules));
    }
  }

  /** Brings the sets to what is wanted, touching only what differs. */
  #settle(removesOthers: boolean): void {
    const listed = this.#inside('addresses of probes cannot be listed', () => this.#listed());
    const missing = Array.from(this.#wanted, ([ip, uid]) => ({ ip, uid })).filter(
      ({ ip, uid }) => listed.get(ip) !== probeComment(uid),
    );
    const others = removesOthers ? [...listed.keys()].filter(ip => !this.#wanted.has(ip)) : [];
    this.#eachFamily(missing, entries => {
      this.#run('addresses of pods cannot be added', renderProbeAdd(entries));
    });
    this.#eachFamily(
      Array.from(this.#wanted, ([ip, uid]) => ({ ip, uid })),
      entries => this.#addBranches(entries),
    );
    if (others.length > 0) this.#run('addresses of probes cannot be removed', renderProbeDelete(others));
  }

  /** Owner by address, in the namespace the thread is in. */
  #listed(): ReadonlyMap<string, string> {
    return new Map(probeFamilies(this.#plan).flatMap(family => [...readProbeSet(runNft(renderProbeList(family)))]));
  }

  #entryDrift(listed: ReadonlyMap<string, string>): readonly Drift[] {
    const told: string[] = [];
    for (const [ip, uid] of this.#wanted) {
      const owner = listed.get(ip);
      if (owner === undefined) told.push(`address ${ip} is missing among those whose probes are let through`);
      else if (owner !== probeComment(uid)) told.push(`address ${ip} is let through for another pod`);
    }
    for (const ip of listed.keys()) {
      if (!this.#wanted.has(ip)) told.push(`address ${ip} of no member is among those whose probes are let through`);
    }
    const rest = told.length - MAX_TOLD;
    const shown = rest > 0 ? [...told.slice(0, MAX_TOLD), `and ${rest} more addresses differ`] : told;
    return shown.map(what => ({ part: 'rules', what }));
  }

  #run(what: string, program: NftProgram): void {
    this.#inside(what, () => runNft(program));
  }

  #inside<T>(what: string, f: () => T): T {
    return orThrow('enrol.probes', what, () => this.#options.node.run(f));
  }
}
