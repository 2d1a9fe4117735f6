// AuthorizationPolicy -> istio.security.Authorization, as istiod's ambient mode translates it: only what a ztunnel can see
// of a connection survives. In an ALLOW policy a rule that asks for more is left out (nobody is let in on half a check).
// In a DENY policy only the question is left out of its match; a match left empty stays and never matches. A policy without a resource (targetRefs, AUDIT, CUSTOM, dry run,
// another revision) is not for ztunnels, and says so in its diagnostics.
import type { AuthorizationInit } from '@ambit/wire/resources';
import { Action as WireAction, Scope } from '@ambit/wire/resources';
import type { Diagnostic } from '../diagnostic.ts';
import type { AuthorizationPolicyObject, PolicyRule } from '../objects/types.ts';
import type { MeshSettings } from '../settings.ts';
import { Findings } from './findings.ts';
import {
  type Action,
  type PartContext,
  type Translated,
  translateCondition,
  translateOperation,
  translateSource,
} from './match.ts';
import { isOurRevision } from './selector.ts';
import { reportRule, reportWholePolicy } from './unseen.ts';
import type { GroupInit, MatchInit, RulesInit } from './values.ts';

export interface PolicyResources {
  /** Undefined: nothing of it goes to ztunnels, and no workload may list it. */
  readonly authorization: AuthorizationInit | undefined;
  readonly diagnostics: readonly Diagnostic[];
}

const DRY_RUN_ANNOTATION = 'istio.io/dry-run';
// What Go's ParseBool takes for true; anything else is enforced.
const TRUE_TEXTS: ReadonlySet<string> = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);

export function policyResources(object: AuthorizationPolicyObject, settings: MeshSettings): PolicyResources {
  const findings = new Findings(object);
  const authorization = translate(object, settings, findings);
  return { authorization, diagnostics: findings.list };
}

function translate(
  object: AuthorizationPolicyObject,
  settings: MeshSettings,
  findings: Findings,
): AuthorizationInit | undefined {
  const { metadata, spec } = object;
  // A policy with targetRefs belongs to a waypoint, whatever else it says.
  if (!isOurRevision(metadata, settings) || spec.targetRefs.length > 0) return undefined;
  const action = supportedAction(spec.action, findings);
  if (action === undefined) return undefined;
  const dryRun = TRUE_TEXTS.has(metadata.annotations[DRY_RUN_ANNOTATION] ?? '');
  if (dryRun && !settings.dryRunPolicies) {
    const message = 'a dry-run policy is not sent to ztunnels, so nothing reports what it would do';
    const remedy = `turn dry-run policies on (AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY), or remove the annotation ${DRY_RUN_ANNOTATION} to enforce it`;
    findings.add('warning', 'policy.dry_run_ignored', `metadata.annotations["${DRY_RUN_ANNOTATION}"]`, message, remedy);
    return undefined;
  }
  const groups: GroupInit[] = [];
  let omitted = 0;
  for (const [index, rule] of spec.rules.entries()) {
    const group = translateRule(rule, {
      action,
      findings,
      path: `spec.rules[${index}]`,
      namespace: metadata.namespace,
    });
    if (group === undefined) omitted++;
    else groups.push(group);
  }
  reportWholePolicy(action, spec.rules.length, omitted, findings);
  return {
    name: metadata.name,
    namespace: metadata.namespace,
    scope: scopeOf(object, settings),
    action: action === 'DENY' ? WireAction.DENY : WireAction.ALLOW,
    groups,
    dryRun,
  };
}

function supportedAction(action: string, findings: Findings): Action | undefined {
  if (action === 'ALLOW' || action === 'DENY') return action;
  if (action === 'CUSTOM') {
    const message = 'ztunnels ask no external authorizer, so the policy has no effect';
    const remedy = 'attach it to a waypoint with targetRefs';
    findings.add('error', 'policy.custom_unsupported', 'spec.action', message, remedy);
  } else {
    const message = `ztunnels know the actions ALLOW and DENY, not ${action}, so the policy has no effect`;
    const remedy = action === 'AUDIT' ? 'attach it to a waypoint with targetRefs' : 'use ALLOW or DENY';
    findings.add('error', 'policy.unsupported_action', 'spec.action', message, remedy);
  }
  return undefined;
}

function scopeOf({ metadata, spec }: AuthorizationPolicyObject, settings: MeshSettings): Scope {
  if (spec.selector !== undefined) return Scope.WORKLOAD_SELECTOR;
  return metadata.namespace === settings.rootNamespace ? Scope.GLOBAL : Scope.NAMESPACE;
}

/** The conditions of one rule, all of which must hold; undefined when the rule must be left out. */
function translateRule(rule: PolicyRule, context: PartContext): GroupInit | undefined {
  const { action, path } = context;
  const to = rule.to.map((operation, index) =>
    translateOperation(operation, { ...context, path: `${path}.to[${index}].operation` }),
  );
  const from = rule.from.map((source, index) =>
    translateSource(source, { ...context, path: `${path}.from[${index}].source` }),
  );
  const when = rule.when.map((condition, index) =>
    translateCondition(condition, { ...context, path: `${path}.when[${index}]` }),
  );
  const isPartlyUnseen = [...to, ...from, ...when].some(part => part.unseen.length > 0);
  const isOmitted = action === 'ALLOW' && isPartlyUnseen;
  const clauses = [to, from, ...when.map(part => [part])].filter(parts => parts.length > 0);
  reportRule(rule, { to, from, when }, context, isOmitted, clauses.some(neverMatches));
  return isOmitted ? undefined : { rules: clauses.map(toRules) };
}

function toRules(parts: readonly Translated[]): RulesInit {
  return { matches: parts.map(part => part.match) };
}

/**
 * A match that asks for nothing never matches, so a clause of only those fails its rule: a DENY rule with one `when` about
 * HTTP denies nothing. Denying without that question would be the safe side, but istiod sends it so, and a ztunnel must
 * hear the same from both; `policy.no_effect` tells the author.
 */
function neverMatches(parts: readonly Translated[]): boolean {
  return parts.every(part => isEmptyMatch(part.match));
}

function isEmptyMatch(match: MatchInit): boolean {
  return Object.keys(match).length === 0;
}
