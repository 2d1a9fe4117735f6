// What to tell the author of a policy that asks for more than a ztunnel can see. Upstream puts the same into the
// condition ZtunnelAccepted with the reason UnsupportedValue. Only words: what happens to the rule is decided elsewhere.
import type { PolicyRule } from '../objects/types.ts';
import type { Findings } from './findings.ts';
import type { Action, PartContext, Translated } from './match.ts';

/** Keys of `when` that Istio defines and a ztunnel cannot evaluate. */
const WAYPOINT_KEYS: ReadonlySet<string> = new Set([
  'connection.sni',
  'remote.ip',
  'request.auth.audiences',
  'request.auth.presenter',
  'request.auth.principal',
  'source.serviceAccount',
  'source.trustDomain',
]);
const WAYPOINT_KEY_FORMS: readonly RegExp[] = [
  /^request\.headers\[[^\]]+\]$/,
  /^request\.auth\.claims(\[[^\]]+\])+$/,
  /^experimental\.envoy\.filters\.[^[]+\[[^\]]+\]$/,
];
const TO_WAYPOINT = 'attach the policy to a waypoint with targetRefs, or ask only for ports, addresses and identities';

export interface RuleParts {
  readonly to: readonly Translated[];
  readonly from: readonly Translated[];
  readonly when: readonly Translated[];
}

/**
 * @param isOmitted the rule is not sent at all
 * @param isDead what is sent can never match
 */
export function reportRule(
  rule: PolicyRule,
  { to, from, when }: RuleParts,
  { action, findings, path }: PartContext,
  isOmitted: boolean,
  isDead: boolean,
): void {
  for (const [index, { key }] of rule.when.entries()) {
    if (when[index]?.unseen.length === 0 || isKnownKey(key)) continue;
    const message = `there is no condition "${key}"`;
    const remedy =
      'use source.ip, source.namespace, source.principal, destination.ip or destination.port; others need a waypoint';
    findings.add('error', 'policy.unknown_condition', `${path}.when[${index}].key`, message, remedy);
  }
  const unseen = [...to, ...from, ...when].flatMap(part => part.unseen);
  const [first] = unseen;
  if (first !== undefined) {
    const names = unseen.map(attribute => nameOf(attribute, rule, path)).join(', ');
    const effect = isOmitted
      ? 'so this rule allows nobody'
      : isDead
        ? 'so this rule denies nothing'
        : 'so this rule denies without asking for it';
    const code = action === 'ALLOW' ? 'policy.l7_in_allow' : 'policy.l7_in_deny';
    findings.add('error', code, first, `ztunnels cannot evaluate ${names}, ${effect}`, TO_WAYPOINT);
  }
  if (isDead && !isOmitted) {
    const message = `this ${action} rule has a part that asks for nothing a ztunnel can match, so it never matches`;
    findings.add(
      'error',
      'policy.no_effect',
      path,
      message,
      first === undefined ? 'give every part a valid value' : TO_WAYPOINT,
    );
  }
}

export function reportWholePolicy(action: Action, rules: number, omitted: number, findings: Findings): void {
  if (action === 'DENY' && rules === 0) {
    const message = 'a DENY policy without rules denies nothing';
    findings.add('warning', 'policy.no_effect', 'spec.rules', message, 'write a rule; `- {}` matches everything');
  }
  if (omitted > 0 && omitted === rules) {
    const message = 'no rule of this ALLOW policy is left, so it denies every connection that no other policy allows';
    findings.add('error', 'policy.l7_in_allow', 'spec.rules', message, TO_WAYPOINT);
  }
}

function isKnownKey(key: string): boolean {
  return WAYPOINT_KEYS.has(key) || WAYPOINT_KEY_FORMS.some(form => form.test(key));
}

/** `methods`, or the key of a condition. */
function nameOf(attribute: string, rule: PolicyRule, path: string): string {
  const index = attribute.startsWith(`${path}.when[`) ? Number.parseInt(attribute.slice(path.length + 6), 10) : -1;
  return rule.when[index]?.key ?? attribute.slice(attribute.lastIndexOf('.') + 1);
}
