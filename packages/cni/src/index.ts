export { CniError, type CniErrorCode } from './errors.ts';
export { type AgentPod, podName, type PodNamespace } from './pod/agent-pod.ts';
export {
  type PodSource,
  type PodSourceEvents,
  REDIRECTION_ANNOTATION,
  type RedirectionStatus,
} from './sources/pod-source.ts';
export type { RedirectBackend, RedirectPlan } from './redirect/redirect-plan.ts';
