// Compiles the rules of policies into tests on one connection's facts, and files each rule under a value it cannot match
// without (a principal, a service account, a namespace, a port), so that a connection meets only rules that could match.
//
// Invalid values fail closed: in a DENY they match, in an ALLOW they never do, and behind `not` the other way round.
import { type Cidr, isPrefixLength } from './address.ts';
import type { Clause, IpMatch, Match, PolicyAction, Rule, ServiceAccountMatch, StringMatch } from './policy.ts';
import { CidrSet, type ProbeAddress, StringSet } from './value-sets.ts';

/** What policies may ask about a connection. */
export interface ConnectionFacts {
  readonly source: ProbeAddress;
  readonly destination: ProbeAddress;
  readonly destinationPort: number;
  /** Empty without an identity. */
  readonly namespace: string;
  /** `namespace/service account`; undefined without an identity. */
  readonly serviceAccount: string | undefined;
  /** Without `spiffe://`; undefined without an identity. */
  readonly principal: string | undefined;
}

/** One list of a match: not asked about, unsatisfiable, or a set. */
type Compiled<S> = 'unasked' | 'never' | S;

class CompiledMatch {
  readonly ports: ReadonlySet<number> | undefined;
  readonly notPorts: ReadonlySet<number> | undefined;
  readonly sourceIps: CidrSet | undefined;
  readonly notSourceIps: CidrSet | undefined;
  readonly destinationIps: CidrSet | undefined;
  readonly notDestinationIps: CidrSet | undefined;
  readonly namespaces: StringSet | undefined;
  readonly notNamespaces: StringSet | undefined;
  readonly serviceAccounts: ReadonlySet<string> | undefined;
  readonly notServiceAccounts: ReadonlySet<string> | undefined;
  readonly principals: StringSet | undefined;
  readonly notPrincipals: StringSet | undefined;
  readonly isImpossible: boolean;

  constructor(match: Match, action: PolicyAction) {
    let isImpossible = !isDeclared(match);
    const take = <S>(compiled: Compiled<S>): S | undefined => {
      if (compiled === 'never') isImpossible = true;
      return compiled === 'never' || compiled === 'unasked' ? undefined : compiled;
    };
    const lists = <V, S>(
      positive: readonly V[],
      negative: readonly V[],
      isValid: (value: V) => boolean,
      build: (values: readonly V[]) => S,
    ): readonly [S | undefined, S | undefined] => [
      take(compileList(positive, isValid, build, action === 'Deny')),
      take(compileNegatedList(negative, isValid, build, action === 'Deny')),
    ];
    [this.ports, this.notPorts] = lists(match.destinationPorts, match.notDestinationPorts, isPort, toSet);
    [this.sourceIps, this.notSourceIps] = lists(match.sourceIps, match.notSourceIps, isBlock, toCidrSet);
    [this.destinationIps, this.notDestinationIps] = lists(
      match.destinationIps,
      match.notDestinationIps,
      isBlock,
      toCidrSet,
    );
    [this.namespaces, this.notNamespaces] = lists(match.namespaces, match.notNamespaces, isText, toStringSet);
    [this.serviceAccounts, this.notServiceAccounts] = lists(
      match.serviceAccounts,
      match.notServiceAccounts,
      () => true,
      toAccountSet,
    );
    [this.principals, this.notPrincipals] = lists(match.principals, match.notPrincipals, isText, toStringSet);
    this.isImpossible = isImpossible;
  }

  matches(facts: ConnectionFacts): boolean {
    if (this.ports?.has(facts.destinationPort) === false) return false;
    if (this.notPorts?.has(facts.destinationPort) === true) return false;
    if (this.sourceIps?.has(facts.source) === false) return false;
    if (this.notSourceIps?.has(facts.source) === true) return false;
    if (this.destinationIps?.has(facts.destination) === false) return false;
    if (this.notDestinationIps?.has(facts.destination) === true) return false;
    if (this.namespaces?.has(facts.namespace) === false) return false;
    if (this.notNamespaces?.has(facts.namespace) === true) return false;
    const { serviceAccount, principal } = facts;
    // Without an identity a positive list fails and a negative one passes.
    if (serviceAccount === undefined || principal === undefined) {
      return this.serviceAccounts === undefined && this.principals === undefined;
    }
    if (this.serviceAccounts?.has(serviceAccount) === false) return false;
    if (this.notServiceAccounts?.has(serviceAccount) === true) return false;
    if (this.principals?.has(principal) === false) return false;
    return this.notPrincipals?.has(principal) !== true;
  }
}

/** A rule that can match. */
export class CompiledRule {
  readonly policyIndex: number;
  readonly #clauses: readonly (readonly CompiledMatch[])[];

  constructor(policyIndex: number, clauses: readonly (readonly CompiledMatch[])[]) {
    this.policyIndex = policyIndex;
    this.#clauses = clauses;
  }

  matches(facts: ConnectionFacts): boolean {
    for (const clause of this.#clauses) if (!anyMatches(clause, facts)) return false;
    return true;
  }

  get clauses(): readonly (readonly CompiledMatch[])[] {
    return this.#clauses;
  }
}

function anyMatches(clause: readonly CompiledMatch[], facts: ConnectionFacts): boolean {
  for (const match of clause) if (match.matches(facts)) return true;
  return false;
}

/** The rule, or undefined when it can never match. */
export function compileRule(rule: Rule, action: PolicyAction, policyIndex: number): CompiledRule | undefined {
  const clauses: (readonly CompiledMatch[])[] = [];
  for (const clause of rule) {
    if (clause.length === 0) continue;
    const possible = compileClause(clause, action);
    if (possible.length === 0) return undefined;
    clauses.push(possible);
  }
  return new CompiledRule(policyIndex, clauses);
}

function compileClause(clause: Clause, action: PolicyAction): readonly CompiledMatch[] {
  return clause.map(match => new CompiledMatch(match, action)).filter(match => !match.isImpossible);
}

/** Rules of many policies, each filed where only connections that could match it look. */
export class RuleIndex {
  readonly #anywhere: CompiledRule[] = [];
  readonly #byPrincipal = new Map<string, CompiledRule[]>();
  readonly #byServiceAccount = new Map<string, CompiledRule[]>();
  readonly #byNamespace = new Map<string, CompiledRule[]>();
  readonly #byPort = new Map<number, CompiledRule[]>();

  /** Rules must come in ascending order of policy. */
  add(rule: CompiledRule): void {
    for (const clause of rule.clauses) {
      if (fileUnder(this.#byPrincipal, rule, clause, match => exactOf(match.principals))) return;
      if (fileUnder(this.#byServiceAccount, rule, clause, match => match.serviceAccounts)) return;
    }
    for (const clause of rule.clauses) {
      if (fileUnder(this.#byNamespace, rule, clause, match => exactOf(match.namespaces))) return;
    }
    for (const clause of rule.clauses) {
      if (fileUnder(this.#byPort, rule, clause, match => match.ports)) return;
    }
    this.#anywhere.push(rule);
  }

  /** The lowest index of a policy with a matching rule. */
  firstMatch(facts: ConnectionFacts): number | undefined {
    let best = firstIn(this.#anywhere, facts, undefined);
    best = firstIn(this.#byPort.get(facts.destinationPort), facts, best);
    best = firstIn(this.#byNamespace.get(facts.namespace), facts, best);
    if (facts.serviceAccount !== undefined) {
      best = firstIn(this.#byServiceAccount.get(facts.serviceAccount), facts, best);
    }
    if (facts.principal !== undefined) best = firstIn(this.#byPrincipal.get(facts.principal), facts, best);
    return best;
  }
}

function firstIn(
  rules: readonly CompiledRule[] | undefined,
  facts: ConnectionFacts,
  best: number | undefined,
): number | undefined {
  if (rules === undefined) return best;
  for (const rule of rules) {
    if (best !== undefined && rule.policyIndex >= best) return best;
    if (rule.matches(facts)) return rule.policyIndex;
  }
  return best;
}

function fileUnder<K>(
  index: Map<K, CompiledRule[]>,
  rule: CompiledRule,
  clause: readonly CompiledMatch[],
  valuesOf: (match: CompiledMatch) => ReadonlySet<K> | undefined,
): boolean {
  const keys = new Set<K>();
  for (const match of clause) {
    const values = valuesOf(match);
    if (values === undefined) return false;
    for (const value of values) keys.add(value);
  }
  for (const key of keys) {
    const rules = index.get(key);
    if (rules === undefined) index.set(key, [rule]);
    else rules.push(rule);
  }
  return true;
}

function exactOf(values: StringSet | undefined): ReadonlySet<string> | undefined {
  return values?.isExact === true ? values.exact : undefined;
}

function compileList<V, S>(
  values: readonly V[],
  isValid: (value: V) => boolean,
  build: (values: readonly V[]) => S,
  invalidMatches: boolean,
): Compiled<S> {
  if (values.length === 0) return 'unasked';
  const valid = values.filter(isValid);
  if (valid.length < values.length && invalidMatches) return 'unasked';
  return valid.length === 0 ? 'never' : build(valid);
}

function compileNegatedList<V, S>(
  values: readonly V[],
  isValid: (value: V) => boolean,
  build: (values: readonly V[]) => S,
  invalidPasses: boolean,
): Compiled<S> {
  const valid = values.filter(isValid);
  if (valid.length < values.length && !invalidPasses) return 'never';
  return valid.length === 0 ? 'unasked' : build(valid);
}

function isDeclared(match: Match): boolean {
  return Object.values(match).some((list: readonly unknown[]) => list.length > 0);
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port <= 65535;
}

function isBlock(block: IpMatch): boolean {
  return !('kind' in block) && isPrefixLength(block.ip, block.length);
}

function isText(match: StringMatch): boolean {
  return match.kind !== 'invalid';
}

function toSet(values: readonly number[]): ReadonlySet<number> {
  return new Set(values);
}

function toCidrSet(blocks: readonly IpMatch[]): CidrSet {
  return new CidrSet(blocks.filter((block): block is Cidr => !('kind' in block)));
}

function toStringSet(values: readonly StringMatch[]): StringSet {
  return new StringSet(values);
}

// Parts of a SPIFFE id have no slash, so a glued key is unambiguous for every identity that can be asked about.
function toAccountSet(values: readonly ServiceAccountMatch[]): ReadonlySet<string> {
  return new Set(values.map(value => `${value.namespace}/${value.serviceAccount}`));
}
