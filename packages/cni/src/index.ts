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
export { HostProbes, type HostProbesOptions } from './host/host-probes.ts';
export { IptablesBackend } from './redirect/iptables-backend.ts';
export { chooseIptables, type IptablesBinary, type IptablesWish } from './redirect/iptables-binary.ts';
export { NftablesBackend } from './redirect/nft-backend.ts';
export { DEFAULT_PROBE_SNAT } from './redirect/redirect-rules.ts';
export { type BackendChoice, type BackendWish, selectBackend } from './redirect/select-backend.ts';
export { renderRules } from './redirect/render-rules.ts';
export { HeldNetns } from './netns/held-netns.ts';
export { ZdsServer, type ZdsServerOptions, type ZdsEvents } from './zds/zds-server.ts';
export { handleCni, type CniRequest, type HandledCni } from './plugin/cni-requests.ts';
export { decodeFrame, encodeAnswer, encodeFrame, MAX_ANSWER_BYTES, MAX_FRAME_BYTES } from './plugin/frame.ts';
export { CMD_ADD_PATH, type CmdAdd, decodeCmdAdd, encodeCmdAdd, MAX_CMD_ADD_BYTES } from './plugin/cmd-add.ts';
export { decodeLogBatch, encodeLogBatch, LOG_PATH, MAX_LOG_BYTES, type PluginLogRecord } from './plugin/log-batch.ts';
export { pluginExecutable, type PluginExecutableOptions } from './plugin/elf/plugin-executable.ts';
export { install, type InstallResult, uninstall } from './install/install.ts';
export {
  DEFAULT_ALONE_NAME,
  DEFAULT_OWNED_NAME,
  type FallbackSource,
  type InstallMode,
  type InstallOptions,
  pluginSocketPath,
} from './install/install-options.ts';
export { Installer, type InstallerDeps, type InstallerOptions, type InstallState } from './install/installer.ts';
export { type KubeconfigOptions } from './install/kubeconfig.ts';
export { type PluginEntryOptions } from './install/plugin-entry.ts';
export { runAgent, type RunAgentOptions } from './main.ts';
export { fallbackSource } from './install/fallback-source.ts';
export { architectureOf, type InstallEnvironment, installOptionsFrom } from './install/install-environment.ts';
export { installerExtension } from './install/installer-extension.ts';
export { pluginStatus, type PluginStatus } from './install/plugin-status.ts';
export {
  type AdminAnswer,
  type AdminRequest,
  type AdminRoute,
} from './agent/admin.ts';
export { Agent, type AgentDeps, type AgentExtension, type AgentParts } from './agent/agent.ts';
export type { Metric, MetricSource, Sample } from './agent/metrics.ts';
export type { AgentConfig } from './config/config.ts';
export {
  flagOf as agentFlagOf,
  OPTIONS as AGENT_OPTIONS,
  type OptionName as AgentOptionName,
} from './config/options.ts';
export { becomeFrugal, FRUGAL_ENV, FRUGAL_FLAGS } from './frugal.ts';
export type { FindingCode } from './audit/audit-types.ts';
export type { AuditReport, CanaryReport, FindingReport, PodReport } from './audit/report.ts';
