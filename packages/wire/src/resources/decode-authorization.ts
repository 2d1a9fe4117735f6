// Authorization resources -> policies of the mesh. An unknown scope or action refuses the resource. A matcher that makes
// no sense is kept as an *invalid* value and reported: upstream drops it, which can widen the rule it stood in; kept, it
// counts in whichever way lets less through (see Policy in @ambit/mesh). Extensions are ignored.
import {
  createMatch,
  type InvalidValue,
  type IpMatch,
  type Match,
  type Policy,
  type PolicyAction,
  type PolicyScope,
  type StringMatch,
} from '@ambit/mesh';
import {
  Action,
  type Address as AddressMessage,
  type Authorization as AuthorizationMessage,
  type Match as MatchMessage,
  Scope,
  type StringMatch as StringMatchMessage,
} from '../gen/authorization_pb.ts';
import { badResource, blockFromBytes, knownEnum } from './decode-value.ts';
import { decodeAuthorizationMessage } from './encoding.ts';

/** A value of a policy that could not be understood and was replaced by one that lets nothing more through. */
export interface DroppedValue {
  /** Where, such as `groups[0].rules[1].matches[0].source_ips[2]`. */
  readonly field: string;
  /** What was found, for people. */
  readonly text: string;
}

export interface DecodedPolicy {
  readonly policy: Policy;
  readonly dropped: readonly DroppedValue[];
}

const SCOPES: ReadonlyMap<number, PolicyScope> = new Map<number, PolicyScope>([
  [Scope.GLOBAL, 'Global'],
  [Scope.NAMESPACE, 'Namespace'],
  [Scope.WORKLOAD_SELECTOR, 'WorkloadSelector'],
]);
const ACTIONS: ReadonlyMap<number, PolicyAction> = new Map<number, PolicyAction>([
  [Action.ALLOW, 'Allow'],
  [Action.DENY, 'Deny'],
]);
const MAX_PORT = 0xffff;

/** The bytes of an Authorization resource. @throws xds.bad_resource */
export function decodeAuthorization(bytes: Uint8Array): DecodedPolicy {
  let message: AuthorizationMessage;
  try {
    message = decodeAuthorizationMessage(bytes);
  } catch (cause) {
    throw badResource('authorization', 'not an istio.security.Authorization message', cause);
  }
  return meshPolicy(message);
}

/** @throws xds.bad_resource for an unknown scope or action */
export function meshPolicy(message: AuthorizationMessage): DecodedPolicy {
  const dropped: DroppedValue[] = [];
  const policy: Policy = {
    name: message.name,
    namespace: message.namespace,
    scope: knownEnum('authorization.scope', message.scope, SCOPES),
    action: knownEnum('authorization.action', message.action, ACTIONS),
    dryRun: message.dryRun,
    rules: message.groups.map(({ rules }, group) =>
      rules.map(({ matches }, rule) =>
        matches.map((match, index) => meshMatch(`groups[${group}].rules[${rule}].matches[${index}]`, match, dropped)),
      ),
    ),
  };
  return { policy, dropped };
}

function meshMatch(at: string, message: MatchMessage, dropped: DroppedValue[]): Match {
  const invalid = (field: string, index: number, text: string): InvalidValue => {
    dropped.push({ field: `${at}.${field}[${index}]`, text });
    return { kind: 'invalid', text };
  };
  const strings = (field: string, values: readonly StringMatchMessage[]): StringMatch[] =>
    values.map((value, index) => stringMatch(value) ?? invalid(field, index, 'a string match of no known kind'));
  const blocks = (field: string, values: readonly AddressMessage[]): IpMatch[] =>
    values.map(
      ({ address, length }, index) =>
        blockFromBytes(address, length) ?? invalid(field, index, `/${length} of ${address.length} address bytes`),
    );
  // A port beyond 16 bits stays as it is: the mesh takes it for an invalid value.
  const ports = (field: string, values: readonly number[]): readonly number[] => {
    for (const [index, port] of values.entries()) if (port > MAX_PORT) invalid(field, index, `port ${port}`);
    return values;
  };
  return createMatch({
    namespaces: strings('namespaces', message.namespaces),
    notNamespaces: strings('not_namespaces', message.notNamespaces),
    principals: strings('principals', message.principals),
    notPrincipals: strings('not_principals', message.notPrincipals),
    serviceAccounts: message.serviceAccounts.map(serviceAccount),
    notServiceAccounts: message.notServiceAccounts.map(serviceAccount),
    sourceIps: blocks('source_ips', message.sourceIps),
    notSourceIps: blocks('not_source_ips', message.notSourceIps),
    destinationIps: blocks('destination_ips', message.destinationIps),
    notDestinationIps: blocks('not_destination_ips', message.notDestinationIps),
    destinationPorts: ports('destination_ports', message.destinationPorts),
    notDestinationPorts: ports('not_destination_ports', message.notDestinationPorts),
  });
}

/** Without the message's own type name: policies are plain data that is cloned to workers. */
function serviceAccount(message: { readonly namespace: string; readonly serviceAccount: string }) {
  return { namespace: message.namespace, serviceAccount: message.serviceAccount };
}

/** Undefined when nothing is set, or something of a later schema that we do not know. */
function stringMatch({ matchType }: StringMatchMessage): StringMatch | undefined {
  switch (matchType.case) {
    case 'exact':
    case 'prefix':
    case 'suffix':
      return { kind: matchType.case, value: matchType.value };
    case 'presence':
      return { kind: 'presence' };
    case undefined:
      return undefined;
  }
}
