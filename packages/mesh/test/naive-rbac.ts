// The slowest possible reading of the policy specification: no compilation, no index, straight loops over the words of
// the document. Only an oracle for tests; it shares nothing with the code it judges but the types.
import type { AuthorizationRequest, Cidr, IpMatch, Match, Policy, StringMatch } from '../src/index.ts';
import { ipToBytes, policyKey } from '../src/index.ts';

export interface NaiveVerdict {
  readonly allowed: boolean;
  readonly policy: string | undefined;
  readonly reason: string | undefined;
}

export function naiveAuthorize(policies: readonly Policy[], request: AuthorizationRequest): NaiveVerdict {
  const sorted = policies.toSorted((a, b) => (policyKey(a) < policyKey(b) ? -1 : 1));
  const enforced = sorted.filter(policy => !policy.dryRun);
  const denies = enforced.filter(policy => policy.action === 'Deny');
  const allows = enforced.filter(policy => policy.action === 'Allow');
  const deny = denies.find(policy => policyMatches(policy, request));
  if (deny !== undefined) return { allowed: false, policy: policyKey(deny), reason: 'policy.denied_by' };
  if (allows.length === 0) return { allowed: true, policy: undefined, reason: undefined };
  const allow = allows.find(policy => policyMatches(policy, request));
  if (allow !== undefined) return { allowed: true, policy: policyKey(allow), reason: undefined };
  return { allowed: false, policy: undefined, reason: 'policy.no_allow_match' };
}

export function policyMatches(policy: Policy, request: AuthorizationRequest): boolean {
  return policy.rules.some(rule =>
    rule.every(clause => clause.length === 0 || clause.some(match => matchMatches(match, request, policy.action))),
  );
}

function matchMatches(match: Match, request: AuthorizationRequest, action: Policy['action']): boolean {
  const everyList = Object.values(match) as readonly (readonly unknown[])[];
  if (everyList.every(list => list.length === 0)) return false;
  const { identity } = request;
  const whenInvalid = action === 'Deny';
  const text = (value: StringMatch, subject: string, otherwise: boolean): boolean => {
    if (value.kind === 'invalid') return otherwise;
    if (value.kind === 'presence') return subject !== '';
    if (value.kind === 'exact') return subject === value.value;
    return value.kind === 'prefix' ? subject.startsWith(value.value) : subject.endsWith(value.value);
  };
  const block = (value: IpMatch, subject: AuthorizationRequest['sourceIp'], otherwise: boolean): boolean =>
    'kind' in value ? otherwise : contains(value, subject, otherwise);
  const port = (value: number, otherwise: boolean): boolean =>
    value < 0 || value > 65535 || !Number.isInteger(value) ? otherwise : value === request.destinationPort;
  // Each pair: the positive list must be empty or have a hit; the negative one must have none.
  const pair = <V>(
    positive: readonly V[],
    negative: readonly V[],
    hit: (value: V, otherwise: boolean) => boolean,
  ): boolean =>
    (positive.length === 0 || positive.some(value => hit(value, whenInvalid))) &&
    !negative.some(value => hit(value, !whenInvalid));
  const principal =
    identity === undefined
      ? undefined
      : `${identity.trustDomain}/ns/${identity.namespace}/sa/${identity.serviceAccount}`;
  return (
    pair(match.namespaces, match.notNamespaces, (value, otherwise) =>
      text(value, identity?.namespace ?? '', otherwise),
    ) &&
    pair(match.principals, match.notPrincipals, (value, otherwise) =>
      principal === undefined ? noIdentity(value, otherwise) : text(value, principal, otherwise),
    ) &&
    pair(
      match.serviceAccounts,
      match.notServiceAccounts,
      value => identity?.namespace === value.namespace && identity.serviceAccount === value.serviceAccount,
    ) &&
    pair(match.sourceIps, match.notSourceIps, (value, otherwise) => block(value, request.sourceIp, otherwise)) &&
    pair(match.destinationIps, match.notDestinationIps, (value, otherwise) =>
      block(value, request.destinationIp, otherwise),
    ) &&
    pair(match.destinationPorts, match.notDestinationPorts, port)
  );
}

/** An invalid value counts the same with and without an identity; a valid one never matches without. */
function noIdentity(value: StringMatch, otherwise: boolean): boolean {
  return value.kind === 'invalid' ? otherwise : false;
}

function contains(cidr: Cidr, ip: AuthorizationRequest['sourceIp'], otherwise: boolean): boolean {
  const [network, subject] = [ipToBytes(cidr.ip), ipToBytes(ip)];
  if (cidr.length < 0 || cidr.length > network.length * 8) return otherwise;
  if (network.length !== subject.length) return false;
  for (let bit = 0; bit < cidr.length; bit++) {
    const [index, mask] = [bit >> 3, 0x80 >> (bit & 7)];
    if (((network[index] ?? 0) & mask) !== ((subject[index] ?? 0) & mask)) return false;
  }
  return true;
}
