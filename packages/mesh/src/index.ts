// The public surface of @ambit/mesh. Anything not exported here is internal.
export {
  type Cidr,
  cidrContains,
  formatCidr,
  formatIpPort,
  formatSocketAddress,
  type Ip,
  type IpFamily,
  ipFamily,
  ipFromBytes,
  ipToBytes,
  isLoopback,
  isPrefixLength,
  loopbackLike,
  maxPrefixLength,
  parseCidr,
  parseIp,
  parsePort,
  parseSocketAddress,
  type SocketAddress,
} from './address.ts';
export { parseHboneAuthority } from './authority.ts';
export { type Baggage, formatBaggage, parseBaggage } from './baggage.ts';
export { type Rank, rankWorkload, tierByLocality } from './balancing.ts';
export {
  CANARY_ADDRESSES,
  CANARY_PORT,
  type CanaryAnswer,
  type CanaryFailure,
  isCanary,
  isCanaryAuthority,
} from './canary.ts';
export { resolveName } from './dns/resolve-name.ts';
export type { ServiceNames } from './dns/service-names.ts';
export { isStaleName } from './dns/stale-names.ts';
export type { DnsClient, DnsDecision, DnsQuestion, DnsSettings, DnsStep, StaleNames } from './dns/types.ts';
export { parseDurationMs } from './duration.ts';
export {
  type ConnectionExplanation,
  type ExplainedDestination,
  type ExplainedSource,
  type ExplainQuestion,
  type ExplainReason,
  type ExplainVerdict,
  explainConnection,
} from './explain.ts';
export type { HopExplanation, HopTransport } from './explain-hop.ts';
export { formatForwarded, parseForwardedHost } from './forwarded.ts';
export {
  formatGatewayDestination,
  type GatewayAddress,
  type GatewayDestination,
  parseGatewayDestination,
  type WeightedWaypoint,
} from './gateway.ts';
export { formatPrincipal, formatSpiffeId, parseSpiffeId, type SpiffeId, sameSpiffeId } from './identity.ts';
export {
  guessService,
  type InboundClient,
  type InboundContext,
  type InboundInput,
  type PassthroughInput,
  planInbound,
  planPassthrough,
  resolveInbound,
  resolvePassthrough,
} from './inbound.ts';
export type {
  DeliverRoute,
  HboneAuthority,
  InboundDenial,
  InboundPlan,
  InboundRoute,
  ServiceCandidate,
} from './inbound-route.ts';
export { nearestName } from './nearest.ts';
export { HBONE_PORT, type OutboundInput, planOutbound, resolveOutbound } from './outbound.ts';
export { pickHop, resolveHop } from './pick.ts';
export {
  type Clause,
  createMatch,
  type InvalidValue,
  type IpMatch,
  type Match,
  type Policy,
  type PolicyAction,
  type PolicyScope,
  policyKey,
  type Rule,
  type ServiceAccountMatch,
  type StringMatch,
} from './policy.ts';
export {
  type ApplicablePolicies,
  type AuthorizationRequest,
  authorize,
  compilePolicies,
  type DryRunResult,
  type PoliciesForOptions,
  type PolicyReason,
  PolicySet,
  policiesFor,
  type Verdict,
} from './rbac.ts';
export { explainPolicies, type PolicyExplanation, type RuleExplanation } from './rbac-explain.ts';
export {
  isReasonCode,
  REASONS,
  type Reason,
  type ReasonCode,
  type ResponseFlag,
  reasonOf,
  responseFlagOf,
} from './reasons.ts';
export type {
  CompiledRouteInput,
  Denial,
  DenyRoute,
  DialByName,
  Hop,
  HopGroup,
  HopProtocol,
  HopsRoute,
  OutboundRoute,
  PassthroughRoute,
  Plan,
} from './route.ts';
export {
  createService,
  type Endpoint,
  type HealthPolicy,
  type IpFamilies,
  type LoadBalancer,
  type LoadBalancerMode,
  type NetworkAddress,
  type NetworkCidr,
  type RoutingScope,
  type Service,
  type ServiceFields,
  type ServiceSummary,
  serviceKey,
  summarizeService,
  type Visibility,
} from './service.ts';
export {
  type BatchOutcome,
  type KeyedPolicy,
  type MeshBatch,
  type MeshContent,
  MeshState,
  type MeshStateOptions,
} from './state.ts';
export { type Step, step } from './step.ts';
export { formatTraceparent, parseTraceparent, type Traceparent } from './traceparent.ts';
export type { AddressOwner, MeshView, PodKey, ServiceEndpoint } from './view.ts';
export {
  type ApplicationTunnel,
  createWorkload,
  describeWorkload,
  type HealthStatus,
  type Locality,
  type NetworkMode,
  type PortMap,
  summarizeWorkload,
  type Workload,
  type WorkloadFields,
  type WorkloadProtocol,
  type WorkloadSummary,
  workloadIdentity,
  workloadSpiffeText,
} from './workload.ts';
