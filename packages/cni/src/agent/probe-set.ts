// What the agent asks of the host's rules that tell the kubelet's probes from other traffic of the node.
import type { Drift } from '../redirect/redirect-plan.ts';

export interface ProbeSet {
  /** Probes to these addresses are recognised; what is there already becomes this pod's. @throws CniError enrol.probes */
  readonly set: (uid: string, ips: readonly string[]) => Promise<void>;
  /** Only where the address is still this pod's. @throws CniError enrol.probes */
  readonly clear: (uid: string, ips: readonly string[]) => Promise<void>;
  /**
   * At start: sets the members' addresses, and removes all others if the list is complete; a pod without an address yet
   * would lose its probes otherwise. @throws CniError enrol.probes
   */
  readonly prune: (members: ReadonlyMap<string, readonly string[]>, isComplete: boolean) => Promise<void>;
  /** What is not as it ought to be; empty: all is. @throws CniError enrol.probes */
  readonly verify: () => Promise<readonly Drift[]>;
  /** Puts the rules back as they should be. @throws CniError enrol.probes */
  readonly repair: () => Promise<void>;
}
