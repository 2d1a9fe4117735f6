// Authorization of one connection at its destination. Fails closed: a DENY that matches wins, ALLOW policies that exist
// must be met, an invalid value never lets more through, and a policy that is assigned but not known refuses new
// connections. Enforced only on the receiving side.
import type { Ip } from './address.ts';
import { formatPrincipal, type SpiffeId } from './identity.ts';
import { createMatch, type Policy, type PolicyAction, policyKey } from './policy.ts';
import type { ReasonCode } from './reasons.ts';
import { type ConnectionFacts, compileRule, RuleIndex } from './rule-compiler.ts';
import { type Step, step } from './step.ts';
import { probeAddress } from './value-sets.ts';
import type { MeshView } from './view.ts';
import type { Workload } from './workload.ts';

/** What is known of a connection when it is authorized. */
export interface AuthorizationRequest {
  /** Peer of the tunnel, or of the plain connection. */
  readonly sourceIp: Ip;
  readonly sourcePort?: number;
  /** From the client's certificate; undefined for plain text. */
  readonly identity: SpiffeId | undefined;
  /** The destination workload's own address. */
  readonly destinationIp: Ip;
  /** The final port, after service and application tunnel. */
  readonly destinationPort: number;
}

export interface DryRunResult {
  /** `namespace/name`. */
  readonly policy: string;
  readonly action: PolicyAction;
  readonly matched: boolean;
}

export type PolicyReason = Extract<ReasonCode, 'policy.denied_by' | 'policy.no_allow_match' | 'policy.unknown'>;

interface VerdictCommon {
  /** `namespace/name` of the policy that decided. */
  readonly policy: string | undefined;
  /** Every dry-run policy that applies, and whether it matched. They have no effect. */
  readonly dryRun: readonly DryRunResult[];
  readonly steps: readonly Step[];
}

export type Verdict =
  | (VerdictCommon & { readonly allowed: true })
  | (VerdictCommon & {
      readonly allowed: false;
      readonly reason: PolicyReason;
      /** Upstream's wording, for the access log. */
      readonly error: string;
      /**
       * False when the refusal comes only from not knowing a policy yet. Whoever re-checks live connections must leave
       * them alone then: the policy may well allow them when it arrives.
       */
      readonly cutsLive: boolean;
    });

/** Policies ready to be evaluated. Make one for each workload and keep it until its policies change. */
export class PolicySet {
  readonly #deny = new Ruleset('Deny');
  readonly #allow = new Ruleset('Allow');
  readonly #dryRun: readonly { readonly policy: string; readonly action: PolicyAction; readonly rules: RuleIndex }[];
  readonly #denied: readonly Verdict[];
  readonly #allowed: readonly Verdict[];
  readonly #fallback: Verdict;

  constructor(policies: readonly Policy[]) {
    const sorted = sortedUnique(policies);
    const dryRun: { policy: string; action: PolicyAction; rules: RuleIndex }[] = [];
    const missing: string[] = [];
    for (const policy of sorted) {
      if (policy.isPlaceholder === true) missing.push(policyKey(policy));
      else if (policy.dryRun) {
        const single = new Ruleset(policy.action);
        single.add(policy);
        dryRun.push({ policy: policyKey(policy), action: policy.action, rules: single.rules });
      } else if (policy.action === 'Deny') this.#deny.add(policy);
      else this.#allow.add(policy);
    }
    this.#dryRun = dryRun;
    // Every verdict this set can give is made now; evaluating one allocates nothing but the facts.
    const denySteps = [this.#deny.missedStep()];
    this.#denied = this.#deny.names.map(name => deniedBy(name));
    const [unknown] = missing;
    this.#allowed = this.#allow.names.map(name =>
      unknown === undefined ? allowedBy(name, denySteps) : refusedByUnknown(unknown, denySteps),
    );
    if (this.#allow.names.length > 0) this.#fallback = noAllowMatch([...denySteps, this.#allow.missedStep()]);
    else if (unknown !== undefined) this.#fallback = refusedByUnknown(unknown, denySteps);
    else this.#fallback = allowedByDefault(denySteps);
  }

  evaluate(request: AuthorizationRequest): Verdict {
    const facts = factsOf(request);
    const verdict = this.#enforced(facts);
    if (this.#dryRun.length === 0) return verdict;
    const dryRun = this.#dryRun.map(({ policy, action, rules }) => ({
      policy,
      action,
      matched: rules.firstMatch(facts) !== undefined,
    }));
    return { ...verdict, dryRun, steps: [...verdict.steps, ...dryRun.map(describeDryRun)] };
  }

  #enforced(facts: ConnectionFacts): Verdict {
    const denying = this.#deny.rules.firstMatch(facts);
    const denied = denying === undefined ? undefined : this.#denied[denying];
    if (denied !== undefined) return denied;
    const allowing = this.#allow.rules.firstMatch(facts);
    const allowed = allowing === undefined ? undefined : this.#allowed[allowing];
    return allowed ?? this.#fallback;
  }
}

/** Compiles policies. Order and duplicates do not matter; of several that match, the first by name is reported. */
export function compilePolicies(policies: readonly Policy[]): PolicySet {
  return new PolicySet(policies);
}

/** Decides one connection. Allocates little and touches only rules that could match. */
export function authorize(set: PolicySet, request: AuthorizationRequest): Verdict {
  return set.evaluate(request);
}

export interface ApplicablePolicies {
  /** Without duplicates; placeholders stand for unknown keys. */
  readonly policies: readonly Policy[];
  /** Keys the workload names that were never received. */
  readonly unknownKeys: readonly string[];
}

export interface PoliciesForOptions {
  /** `deny` (default) adds a placeholder that refuses new connections; `ignore` is what upstream does. */
  readonly unknown?: 'deny' | 'ignore';
}

/**
 * The policies that apply to a workload: those of its namespace, global ones, and those it names. A key that was known
 * and has been removed is skipped, since the workload's own update is on its way; a key never seen is a gap.
 */
export function policiesFor(view: MeshView, workload: Workload, options: PoliciesForOptions = {}): ApplicablePolicies {
  const policies = new Set<Policy>(view.namespacePolicies(workload.namespace));
  for (const policy of view.globalPolicies()) policies.add(policy);
  const unknownKeys: string[] = [];
  for (const key of new Set(workload.authorizationPolicies)) {
    const policy = view.policy(key);
    if (policy !== undefined) policies.add(policy);
    else if (!view.wasPolicyRemoved(key)) {
      unknownKeys.push(key);
      if (options.unknown !== 'ignore')
        policies.add(isFromPeerAuthentication(key) ? plaintextRefused(key) : placeholder(key));
    }
  }
  return { policies: [...policies], unknownKeys };
}

/**
 * What istiod makes of PeerAuthentications can refuse connections without an identity and no others. While such a policy is
 * missing, refusing just those is as safe as refusing everything. It may be missing for good: istiod attaches one that it
 * never sends (a permissive object with STRICT ports in a STRICT mesh).
 */
function isFromPeerAuthentication(key: string): boolean {
  const name = key.slice(key.indexOf('/') + 1);
  return name.startsWith('converted_peer_authentication_') || name === 'istio_converted_static_strict';
}

function plaintextRefused(key: string): Policy {
  const noIdentity = createMatch({ notPrincipals: [{ kind: 'presence' }] });
  return { ...placeholder(key), rules: [[[noIdentity]]], isPlaceholder: false };
}

function placeholder(key: string): Policy {
  const slash = key.indexOf('/');
  return {
    namespace: slash < 0 ? '' : key.slice(0, slash),
    name: key.slice(slash + 1),
    scope: 'WorkloadSelector',
    action: 'Deny',
    dryRun: false,
    // One empty rule: also whoever ignores the mark below denies everything.
    rules: [[]],
    isPlaceholder: true,
  };
}

/** The policies of one action, numbered in order of name. */
class Ruleset {
  readonly #action: PolicyAction;
  readonly names: string[] = [];
  readonly rules = new RuleIndex();

  constructor(action: PolicyAction) {
    this.#action = action;
  }

  add(policy: Policy): void {
    const index = this.names.push(policyKey(policy)) - 1;
    for (const rule of policy.rules) {
      const compiled = compileRule(rule, policy.action, index);
      if (compiled !== undefined) this.rules.add(compiled);
    }
  }

  missedStep(): Step {
    const count = this.names.length;
    const what =
      count === 1 ? `1 ${this.#action.toUpperCase()} policy` : `${count} ${this.#action.toUpperCase()} policies`;
    return step(
      'R',
      count === 0 ? `no ${this.#action.toUpperCase()} policy applies` : `${what} looked at, none matches`,
    );
  }
}

function sortedUnique(policies: readonly Policy[]): readonly Policy[] {
  return [...new Set(policies)]
    .map(policy => ({ policy, key: policyKey(policy) }))
    .toSorted((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)))
    .map(entry => entry.policy);
}

/** What policies may ask, from what is known. */
export function factsOf(request: AuthorizationRequest): ConnectionFacts {
  const { identity } = request;
  return {
    source: probeAddress(request.sourceIp),
    destination: probeAddress(request.destinationIp),
    destinationPort: request.destinationPort,
    namespace: identity?.namespace ?? '',
    serviceAccount: identity === undefined ? undefined : `${identity.namespace}/${identity.serviceAccount}`,
    principal: identity === undefined ? undefined : formatPrincipal(identity),
  };
}

const REJECTION = 'connection closed due to policy rejection';

function deniedBy(name: string): Verdict {
  return {
    allowed: false,
    policy: name,
    reason: 'policy.denied_by',
    error: `${REJECTION}: explicitly denied by: ${name}`,
    cutsLive: true,
    dryRun: [],
    steps: [step('R', `DENY policy ${name} matches`)],
  };
}

function noAllowMatch(steps: readonly Step[]): Verdict {
  return {
    allowed: false,
    policy: undefined,
    reason: 'policy.no_allow_match',
    error: `${REJECTION}: allow policies exist, but none allowed`,
    cutsLive: true,
    dryRun: [],
    steps,
  };
}

function refusedByUnknown(name: string, before: readonly Step[]): Verdict {
  return {
    allowed: false,
    policy: name,
    reason: 'policy.unknown',
    error: `${REJECTION}: policy ${name} applies but is not known yet`,
    cutsLive: false,
    dryRun: [],
    steps: [...before, step('R', `policy ${name} is assigned to the workload and has not been received`)],
  };
}

function allowedBy(name: string, before: readonly Step[]): Verdict {
  return { allowed: true, policy: name, dryRun: [], steps: [...before, step('R', `ALLOW policy ${name} matches`)] };
}

function allowedByDefault(before: readonly Step[]): Verdict {
  const steps = [...before, step('R', 'no ALLOW policy applies, so the connection is allowed')];
  return { allowed: true, policy: undefined, dryRun: [], steps };
}

function describeDryRun(result: DryRunResult): Step {
  const outcome = result.matched ? 'matches' : 'does not match';
  return step('R', `dry run: ${result.action.toUpperCase()} policy ${result.policy} ${outcome}`);
}
