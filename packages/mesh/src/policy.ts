// Authorization policies as data (xDS `istio.security.Authorization`, local YAML, config_dump). Their meaning is in
// rbac.ts. A value that could not be decoded is kept as an *invalid* value instead of being dropped: dropping it, as
// upstream does, can silently widen a policy.
import type { Cidr } from './address.ts';

export type PolicyScope = 'Global' | 'Namespace' | 'WorkloadSelector';
export type PolicyAction = 'Allow' | 'Deny';

/** A value that made no sense where it was decoded; it counts in whichever way lets less through. */
export interface InvalidValue {
  readonly kind: 'invalid';
  /** What was found, for people. */
  readonly text: string;
}

export type StringMatch =
  | { readonly kind: 'exact'; readonly value: string }
  | { readonly kind: 'prefix'; readonly value: string }
  | { readonly kind: 'suffix'; readonly value: string }
  /** Any non-empty text. */
  | { readonly kind: 'presence' }
  | InvalidValue;

export type IpMatch = Cidr | InvalidValue;

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** An empty list means the field is not asked about. A port outside 0..65535 is an invalid value. */
export interface Match {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly sourceIps: readonly IpMatch[];
  readonly notSourceIps: readonly IpMatch[];
  readonly destinationIps: readonly IpMatch[];
  readonly notDestinationIps: readonly IpMatch[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

/** Alternatives: one matching object is enough. Empty matches everything. */
export type Clause = readonly Match[];
/** Conditions: all must hold. Empty matches everything. */
export type Rule = readonly Clause[];

export interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly scope: PolicyScope;
  readonly action: PolicyAction;
  readonly dryRun: boolean;
  /** Alternatives: one matching rule is enough. Empty never matches. */
  readonly rules: readonly Rule[];
  /**
   * Present and true on the stand-in for a policy that a workload names but nobody has sent: it denies new connections
   * (see `policiesFor`).
   */
  readonly isPlaceholder?: boolean;
}

/** `namespace/name`: how policies are named to people, and their key in a local file and at istiod. */
export function policyKey(policy: Pick<Policy, 'namespace' | 'name'>): string {
  return `${policy.namespace}/${policy.name}`;
}

/** A complete match object from the lists that are known. */
export function createMatch(lists: Partial<Match>): Match {
  return {
    namespaces: lists.namespaces ?? [],
    notNamespaces: lists.notNamespaces ?? [],
    principals: lists.principals ?? [],
    notPrincipals: lists.notPrincipals ?? [],
    serviceAccounts: lists.serviceAccounts ?? [],
    notServiceAccounts: lists.notServiceAccounts ?? [],
    sourceIps: lists.sourceIps ?? [],
    notSourceIps: lists.notSourceIps ?? [],
    destinationIps: lists.destinationIps ?? [],
    notDestinationIps: lists.notDestinationIps ?? [],
    destinationPorts: lists.destinationPorts ?? [],
    notDestinationPorts: lists.notDestinationPorts ?? [],
  };
}
