// Where the node agent learns of this node's pods. A source keeps a cache that is complete once `start` has resolved, and
// tells of every change after it, in order, on the event loop's thread.
import type { AgentPod, PodNamespace } from '../pod/agent-pod.ts';

/** `enabled`: rules in place and ztunnel serves; `pending`: rules in place only; undefined: not enrolled. */
export type RedirectionStatus = 'enabled' | 'pending' | undefined;

export interface PodSourceEvents {
  readonly onPod: (pod: AgentPod, before: AgentPod | undefined) => void;
  readonly onPodGone: (pod: AgentPod) => void;
  readonly onNamespace: (namespace: PodNamespace, before: PodNamespace | undefined) => void;
}

export interface PodSource {
  /** Resolves when the cache holds everything there is; events begin after that. @throws CniError cni.kubernetes */
  readonly start: (events: PodSourceEvents, signal: AbortSignal) => Promise<void>;
  readonly pods: () => Iterable<AgentPod>;
  readonly pod: (namespace: string, name: string) => AgentPod | undefined;
  readonly namespace: (name: string) => PodNamespace | undefined;
  /** Notes on the pod how it stands (annotation `ambient.istio.io/redirection`). A pod that is gone is no error. */
  readonly setStatus: (pod: AgentPod, status: RedirectionStatus) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** The annotation by which control planes see that a pod is a member. */
export const REDIRECTION_ANNOTATION = 'ambient.istio.io/redirection';
