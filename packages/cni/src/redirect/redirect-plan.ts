// What is wanted inside a pod's network namespace, and what a back end that programs it can do. The plan is a value that
// two parties compare: whoever enrols and whoever audits.
import type { NetNs } from '@ambit/native';

export interface RedirectPlan {
  /** Lead the pod's DNS to 15053. */
  readonly dnsCapture: boolean;
  /** Leave inbound traffic alone (`ambient.istio.io/bypass-inbound-capture`). */
  readonly bypassInbound: boolean;
  /** Interfaces of machines nested in the pod, whose inbound TCP counts as outbound; a last `+` or `*` is any rest. */
  readonly virtualInterfaces: readonly string[];
  /** Program IPv6 too. */
  readonly ipv6: boolean;
  /** Source of the kubelet's probes after the node's translation. */
  readonly probeSnat: { readonly ip: string; readonly ip6: string };
}

export interface Drift {
  /** What differs, such as `rule 3 of 7 in istio-output is missing`; one line, no secrets. */
  readonly what: string;
  readonly part: 'rules' | 'route' | 'routing-rule';
}

/** All operations may be repeated at any time and leave the same state. */
export interface RedirectBackend {
  readonly name: 'nftables' | 'iptables';
  /** Does once, in a namespace of its own, what makes the first pods of this plan quick. Not inside a visit. @throws CniError enrol.rules */
  readonly prepare?: (plan: RedirectPlan) => void;
  /** @throws CniError enrol.rules, enrol.routes, enrol.netns_gone */
  readonly apply: (netns: NetNs, plan: RedirectPlan) => Promise<void>;
  /** Leaves nothing of ours, whatever plan it was programmed by. @throws CniError enrol.rules */
  readonly remove: (netns: NetNs) => Promise<void>;
  /**
   * How the namespace differs from the plan; empty: byte-equal. `undefined` as plan: nothing of ours may be there.
   * `stamp` is what the last clean verification returned, so that an unchanged namespace costs a few microseconds.
   */
  readonly verify: (
    netns: NetNs,
    plan: RedirectPlan | undefined,
    stamp: VerifyStamp | undefined,
  ) => Promise<Verification>;
}

/** Opaque proof of a clean state: the ruleset's generation and what else was compared. */
export type VerifyStamp = { readonly generation: number; readonly digest: string };

export interface Verification {
  readonly drift: readonly Drift[];
  readonly stamp: VerifyStamp | undefined;
}
