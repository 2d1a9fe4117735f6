export { CniError, type CniErrorCode } from './errors.ts';
export { type AgentPod, podName, type PodNamespace } from './pod/agent-pod.ts';
export {
  type PodSource,
  type PodSourceEvents,
  REDIRECTION_ANNOTATION,
  type RedirectionStatus,
} from './sources/pod-source.ts';
export type { RedirectBackend, RedirectPlan } from './redirect/redirect-plan.ts';
export { DEFAULT_SELECTORS, type EnablementSelector, type LabelSelector, readSelectors } from './pod/label-selector.ts';
export {
  isZtunnelPod,
  type MembershipAnswer,
  type MembershipPod,
  type MembershipRules,
  membership,
  namespaceEnables,
} from './pod/membership.ts';
export { type PlanDefaults, type PlanWithWarnings, redirectPlanOf } from './pod/overrides.ts';
export { renderRules } from './redirect/render-rules.ts';
export { HeldNetns } from './netns/held-netns.ts';
export { ZdsServer, type ZdsServerOptions, type ZdsEvents } from './zds/zds-server.ts';
