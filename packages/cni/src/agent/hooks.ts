// What the CNI plugin's requests ask of the node agent. The plugin's half knows CNI and nothing of enrolment; the agent's
// half knows enrolment and nothing of CNI.
import type { AgentPod } from '../pod/agent-pod.ts';

export type Membership =
  /** Must be enrolled before it starts. */
  | { readonly kind: 'member'; readonly pod: AgentPod }
  | { readonly kind: 'outsider'; readonly why: string }
  /** Not in the caches yet, or the source is not reachable: nobody may be let in on a guess. */
  | { readonly kind: 'unknown'; readonly why: string };

export interface CniHooks {
  /** Waits a bounded time for a pod that the source has not told of yet. With its UID, an older one of that name is not meant. */
  readonly lookup: (namespace: string, name: string, signal: AbortSignal, uid?: string) => Promise<Membership>;
  /** Resolves when the pod's rules are in place and ztunnel serves it. @throws CniError */
  readonly enrol: (pod: AgentPod, ips: readonly string[], netnsPath: string, signal: AbortSignal) => Promise<void>;
  /** Resolves when the pod is as it should be; what is wrong otherwise. */
  readonly check: (pod: AgentPod, netnsPath: string) => Promise<readonly string[]>;
  /** The attachments that the runtime still has; whatever else we hold may go. */
  readonly collect: (validContainerIds: readonly string[]) => Promise<void>;
  /** undefined: an ADD would succeed now; otherwise why not. */
  readonly notReady: () => string | undefined;
}
