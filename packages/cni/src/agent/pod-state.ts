// How a pod stands with the agent. See the README's picture: every change of `state` goes through `setState` of pod-steps.ts.
import type { HeldNetns } from '../netns/held-netns.ts';
import type { AgentPod } from '../pod/agent-pod.ts';
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import type { CniError, CniErrorCode } from '../errors.ts';

export type PodState =
  /** Nothing of ours is in it. Its namespace may be held all the same, to see that it stays so. */
  | { readonly kind: 'outside'; readonly held: HeldNetns | undefined }
  /** Rules in place, ztunnel does not serve it yet: its traffic is refused. */
  | { readonly kind: 'captured'; readonly held: HeldNetns; readonly plan: RedirectPlan }
  /** Rules in place, ztunnel serves. */
  | { readonly kind: 'served'; readonly held: HeldNetns; readonly plan: RedirectPlan }
  /** Fail-open only: a member whose rules were lifted while no ztunnel is there. */
  | { readonly kind: 'lifted'; readonly held: HeldNetns; readonly plan: RedirectPlan };

/** What the agent keeps for a pod; mutable, and only enrolment's. */
export interface PodEntry {
  readonly uid: string;
  /** As last heard of. */
  pod: AgentPod;
  state: PodState;
  /** When it got into this state. */
  since: Date;
  /** Why it is not as it should be; undefined: it is. */
  problem: CniError | undefined;
  /** Addresses in the host's probe set. */
  probed: readonly string[];
  /** One thing at a time happens to a pod: the end of the last that was begun. */
  tail: Promise<void>;
  /** Ends what is being waited for now. */
  abort: AbortController;
  isQueued: boolean;
  failures: number;
  timer: NodeJS.Timeout | undefined;
}

export function newEntry(pod: AgentPod, now: Date): PodEntry {
  return {
    uid: pod.uid,
    pod,
    state: { kind: 'outside', held: undefined },
    since: now,
    problem: undefined,
    probed: [],
    tail: Promise.resolve(),
    abort: new AbortController(),
    isQueued: false,
    failures: 0,
    timer: undefined,
  };
}

/** What waiting helps with. The rest is tried again when something about the pod changes, or when the audit asks. */
const RETRYABLE: ReadonlySet<CniErrorCode> = new Set<CniErrorCode>([
  'enrol.no_ztunnel',
  'enrol.refused',
  'enrol.disconnected',
  'enrol.protocol',
  'enrol.timeout',
  'enrol.probes',
  'enrol.limit',
]);

export function isRetryable(error: CniError): boolean {
  return RETRYABLE.has(error.code);
}

export function isTerminated({ phase }: AgentPod): boolean {
  return phase === 'Succeeded' || phase === 'Failed';
}
