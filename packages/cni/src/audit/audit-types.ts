// The words of the continuous proof: what is looked at, what may be found, and what the agent lets an auditor see and do.
import type { ReasonCode } from '@ambit/mesh';
import type { NetNs } from '@ambit/native';
import type { AgentPod } from '../pod/agent-pod.ts';
import type { Drift, RedirectPlan } from '../redirect/redirect-plan.ts';

/** Each has an entry in docs/reasons/audit.md. */
export type FindingCode = Extract<ReasonCode, `audit.${string}`>;

export interface Finding {
  readonly code: FindingCode;
  /** `namespace/name`, or `node` for what concerns all. */
  readonly pod: string;
  readonly uid: string | undefined;
  /** One line: what is wrong. */
  readonly what: string;
  /** One line: what to do, or what was done. */
  readonly remedy: string;
  readonly since: Date;
  readonly repaired: boolean;
}

/** A pod as the agent holds it. Namespaces stay the agent's: use them at once, close nothing. */
export interface AuditedPod {
  readonly pod: AgentPod;
  /** undefined: not known yet, so nothing may be concluded. */
  readonly shouldBeMember: boolean | undefined;
  /** undefined when the agent holds no namespace for it. */
  readonly netns: NetNs | undefined;
  /** undefined: not programmed. */
  readonly plan: RedirectPlan | undefined;
  readonly status: 'enabled' | 'pending' | 'none';
  /** When it got into this status. */
  readonly since: Date;
}

export interface AuditSubject {
  /** Every pod of this node that is not terminated and has its own network. */
  readonly pods: () => readonly AuditedPod[];
  /** Number of ztunnels that hold a snapshot now. */
  readonly ztunnels: () => number;
  /** Whether pods have a canary: Istio's ztunnel gives them none. */
  readonly hasCanary: () => boolean;
  /** Enrols anew: rules, routes, ADD to ztunnel. Resolves when done. @throws CniError */
  readonly enrolAgain: (uid: string) => Promise<void>;
  /** Removes what is ours from a pod that should not be a member. */
  readonly removeLeftovers: (uid: string) => Promise<void>;
  /** How the host's rules for probes differ from what they ought to be; empty where there are none. @throws CniError */
  readonly hostDrift: () => Promise<readonly Drift[]>;
  /** Host rules for probes put back. */
  readonly repairHost: () => Promise<void>;
}
