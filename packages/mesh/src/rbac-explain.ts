// Why a connection was or was not let through, policy by policy and rule by rule. For people (`ambit why`, the console),
// not for the data path: it compiles every rule for one question. It decides nothing; `authorize` does.
import { formatCidr } from './address.ts';
import { type Clause, type Match, type Policy, type PolicyAction, policyKey, type StringMatch } from './policy.ts';
import { type AuthorizationRequest, factsOf } from './rbac.ts';
import { type ConnectionFacts, compileRule } from './rule-compiler.ts';

export interface RuleExplanation {
  readonly matched: boolean;
  /** What the first condition that failed asks for; empty when the rule matches. */
  readonly wants: string;
}

export interface PolicyExplanation {
  /** `namespace/name`. */
  readonly policy: string;
  readonly action: PolicyAction;
  readonly dryRun: boolean;
  /** The stand-in for a policy that has not been received. */
  readonly isPlaceholder: boolean;
  readonly matched: boolean;
  /** In the order of the policy. A policy without rules matches nothing. */
  readonly rules: readonly RuleExplanation[];
}

const VALUES_SHOWN = 3;

/** One explanation for each policy, DENY before ALLOW and then by name. */
export function explainPolicies(
  policies: readonly Policy[],
  request: AuthorizationRequest,
): readonly PolicyExplanation[] {
  const facts = factsOf(request);
  return policies
    .map(policy => explainPolicy(policy, facts))
    .toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : Number(sortKey(a) > sortKey(b))));
}

function sortKey(explanation: PolicyExplanation): string {
  return `${explanation.action === 'Deny' ? 0 : 1}${explanation.policy}`;
}

function explainPolicy(policy: Policy, facts: ConnectionFacts): PolicyExplanation {
  const rules = policy.rules.map(rule => {
    const failing = rule.find(clause => !clauseMatches(clause, policy.action, facts));
    return { matched: failing === undefined, wants: failing === undefined ? '' : describeClause(failing) };
  });
  return {
    policy: policyKey(policy),
    action: policy.action,
    dryRun: policy.dryRun,
    isPlaceholder: policy.isPlaceholder === true,
    matched: rules.some(rule => rule.matched),
    rules,
  };
}

function clauseMatches(clause: Clause, action: PolicyAction, facts: ConnectionFacts): boolean {
  return compileRule([clause], action, 0)?.matches(facts) ?? false;
}

function describeClause(clause: Clause): string {
  return clause.map(describeMatch).join(', or ');
}

function describeMatch(match: Match): string {
  const fields = [
    describeList('namespace', match.namespaces.map(describeText)),
    describeList('namespace not', match.notNamespaces.map(describeText)),
    describeList('principal', match.principals.map(describeText)),
    describeList('principal not', match.notPrincipals.map(describeText)),
    describeList(
      'service account',
      match.serviceAccounts.map(account => `${account.namespace}/${account.serviceAccount}`),
    ),
    describeList(
      'service account not',
      match.notServiceAccounts.map(account => `${account.namespace}/${account.serviceAccount}`),
    ),
    describeList('source', match.sourceIps.map(describeBlock)),
    describeList('source not', match.notSourceIps.map(describeBlock)),
    describeList('destination', match.destinationIps.map(describeBlock)),
    describeList('destination not', match.notDestinationIps.map(describeBlock)),
    describeList('port', match.destinationPorts.map(String)),
    describeList('port not', match.notDestinationPorts.map(String)),
  ].filter(field => field !== '');
  return fields.length === 0 ? 'nothing (an empty match never matches)' : fields.join(' and ');
}

function describeList(label: string, values: readonly string[]): string {
  if (values.length === 0) return '';
  const shown = values.slice(0, VALUES_SHOWN).join(' or ');
  const more = values.length - VALUES_SHOWN;
  return more > 0 ? `${label} ${shown} or ${more} more` : `${label} ${shown}`;
}

function describeText(match: StringMatch): string {
  switch (match.kind) {
    case 'exact':
      return match.value === '' ? '(empty)' : match.value;
    case 'prefix':
      return `${match.value}*`;
    case 'suffix':
      return `*${match.value}`;
    case 'presence':
      return '(any)';
    case 'invalid':
      return `(invalid: ${match.text})`;
  }
}

function describeBlock(block: Match['sourceIps'][number]): string {
  return 'kind' in block ? `(invalid: ${block.text})` : formatCidr(block);
}
