// The host's rules for the kubelet's probes, as the agent keeps them: begun with patience, since a kubelet may start later than
// the agent, and with routing rules for pods behind branch interfaces of AWS where there are such.
import { setTimeout as delay } from 'node:timers/promises';
import type { NetNs } from '@ambit/native';
import { errorText, type Log } from '@ambit/log';
import { CniError } from '../../errors.ts';
import { addBranchRules, type BranchRules, mayHaveBranchInterfaces, removeBranchRules } from '../../host/branch-eni.ts';
import { HostProbes, type HostProbesOptions } from '../../host/host-probes.ts';
import type { ProbeSet } from '../probe-set.ts';

const TRIES = 11;
const BETWEEN_TRIES_MS = 2_000;

/** @throws CniError enrol.probes after a while */
export async function startNodeProbes(
  options: HostProbesOptions,
  hasBranchRules: boolean,
  log: Log,
  signal: AbortSignal,
): Promise<NodeProbes> {
  for (let tries = 1; ; tries++) {
    try {
      const probes = HostProbes.start(options);
      const isBranched = hasBranchRules && mayHaveBranchInterfaces(options.procRoot);
      return new NodeProbes(probes, isBranched ? options.node : undefined, log);
    } catch (error) {
      if (tries === TRIES || signal.aborted) throw error;
      log.warn('The rules for probes cannot be made yet', { error: errorText(error), tries });
      await delay(BETWEEN_TRIES_MS, undefined, { signal });
    }
  }
}

export class NodeProbes implements ProbeSet {
  readonly #probes: HostProbes;
  /** The node's namespace; undefined: there are no branch interfaces here. */
  readonly #branchNode: NetNs | undefined;
  readonly #log: Log;
  /** By address. */
  readonly #branchRules = new Map<string, BranchRules>();

  constructor(probes: HostProbes, branchNode: NetNs | undefined, log: Log) {
    this.#probes = probes;
    this.#branchNode = branchNode;
    this.#log = log;
  }

  async set(uid: string, ips: readonly string[]): Promise<void> {
    await this.#probes.set(uid, ips);
    for (const ip of ips) this.#addBranch(ip);
  }

  async clear(uid: string, ips: readonly string[]): Promise<void> {
    await this.#probes.clear(uid, ips);
    for (const ip of ips) this.#removeBranch(ip);
  }

  async prune(members: ReadonlyMap<string, readonly string[]>, isComplete: boolean): Promise<void> {
    await this.#probes.prune(members, isComplete);
    for (const ips of members.values()) for (const ip of ips) this.#addBranch(ip);
  }

  async verify(): ReturnType<HostProbes['verify']> {
    return this.#probes.verify();
  }

  async repair(): Promise<void> {
    await this.#probes.repair();
  }

  /** Takes everything off the node: for an agent that no other follows. */
  removeAll(): void {
    for (const ip of this.#branchRules.keys()) this.#removeBranch(ip);
    this.#probes.close();
  }

  #addBranch(ip: string): void {
    if (this.#branchNode === undefined || this.#branchRules.has(ip)) return;
    try {
      const rules = this.#branchNode.run(() => addBranchRules(ip));
      if (rules !== undefined) this.#branchRules.set(ip, rules);
    } catch (cause) {
      throw new CniError('enrol.probes', `no routing rule for probes of ${ip}: ${errorText(cause)}`, { cause });
    }
  }

  #removeBranch(ip: string): void {
    const rules = this.#branchRules.get(ip);
    if (rules === undefined) return;
    this.#branchRules.delete(ip);
    try {
      this.#branchNode?.run(() => removeBranchRules(rules));
    } catch (error) {
      this.#log.warn('Routing rules of a pod that left stay behind', { ip, error: errorText(error) });
    }
  }
}
