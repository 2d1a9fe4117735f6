// Whom an AuthorizationPolicy names: identities that cannot be, namespaces and accounts that do not exist, and callers
// without an identity, whom no rule about identities ever matches.
import type { Diagnostic } from '../diagnostic.ts';
import type { AuthorizationPolicyObject } from '../objects/types.ts';
import { finding, nameOf } from './check.ts';
import type { Known } from './known.ts';

/** Texts of one meaning, wherever a policy may have them. */
interface Named {
  readonly kind: 'principal' | 'namespace' | 'account';
  readonly text: string;
  readonly path: string;
  readonly isNegative: boolean;
}

export function* checkSources(policy: AuthorizationPolicyObject, known: Known): Iterable<Diagnostic> {
  for (const named of namesIn(policy)) {
    // Patterns name what may come.
    if (named.text.includes('*')) {
      if (named.kind === 'principal') yield* checkScheme(policy, named);
    } else if (named.kind === 'principal') yield* checkPrincipal(policy, named, known);
    else if (named.kind === 'namespace') yield* checkNamespace(policy, named, known);
    else {
      const [first = '', second] = named.text.split('/');
      const [namespace, name] = second === undefined ? [policy.metadata.namespace, first] : [first, second];
      yield* checkAccount(policy, namespace, name, named.path, known);
    }
  }
}

function* namesIn({ spec }: AuthorizationPolicyObject): Iterable<Named> {
  for (const [r, rule] of spec.rules.entries()) {
    for (const [f, source] of rule.from.entries()) {
      const at = `spec.rules[${r}].from[${f}].source`;
      yield* listed('principal', source.principals, `${at}.principals`, false);
      yield* listed('principal', source.notPrincipals, `${at}.notPrincipals`, true);
      yield* listed('namespace', source.namespaces, `${at}.namespaces`, false);
      yield* listed('namespace', source.notNamespaces, `${at}.notNamespaces`, true);
      yield* listed('account', source.serviceAccounts, `${at}.serviceAccounts`, false);
      yield* listed('account', source.notServiceAccounts, `${at}.notServiceAccounts`, true);
    }
    for (const [w, { key, values, notValues }] of rule.when.entries()) {
      const kind = key === 'source.principal' ? 'principal' : key === 'source.namespace' ? 'namespace' : undefined;
      if (kind === undefined) continue;
      yield* listed(kind, values, `spec.rules[${r}].when[${w}].values`, false);
      yield* listed(kind, notValues, `spec.rules[${r}].when[${w}].notValues`, true);
    }
  }
}

function* listed(kind: Named['kind'], texts: readonly string[], path: string, isNegative: boolean): Iterable<Named> {
  for (const [index, text] of texts.entries()) yield { kind, text, path: `${path}[${index}]`, isNegative };
}

const SCHEME = 'spiffe://';

function* checkScheme(policy: AuthorizationPolicyObject, { text, path }: Named): Iterable<Diagnostic> {
  if (!text.startsWith(SCHEME)) return;
  const message = `"${text}" never matches: principals are compared without ${SCHEME}`;
  yield finding(policy, 'error', 'policy.spiffe_prefix', path, message, `write "${text.slice(SCHEME.length)}"`);
}

function* checkPrincipal(policy: AuthorizationPolicyObject, named: Named, known: Known): Iterable<Diagnostic> {
  const { text, path } = named;
  if (text === '') return; // told by the translation
  if (text.startsWith(SCHEME)) {
    yield* checkScheme(policy, named);
    return;
  }
  const [, trustDomain, namespace = '', account = ''] = /^([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(text) ?? [];
  if (trustDomain === undefined) {
    const message = `"${text}" is no identity of a workload`;
    const remedy = `write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, such as ${known.settings.trustDomain}/ns/shop/sa/web`;
    yield finding(policy, 'warning', 'policy.bad_principal', path, message, remedy);
  } else if (trustDomain !== known.settings.trustDomain) {
    const message = `"${text}" is of trust domain ${trustDomain}; that of this mesh is ${known.settings.trustDomain}`;
    const remedy = 'nothing to do, if callers of another mesh are meant';
    yield finding(policy, 'info', 'policy.other_trust_domain', path, message, remedy);
  } else yield* checkAccount(policy, namespace, account, path, known);
}

function* checkAccount(
  policy: AuthorizationPolicyObject,
  namespace: string,
  account: string,
  path: string,
  known: Known,
): Iterable<Diagnostic> {
  if (!known.lacksAccount(namespace, account)) return;
  const message = `there is no ServiceAccount ${namespace}/${account}, so nobody has this identity`;
  yield finding(policy, 'warning', 'config.no_such_service_account', path, message, 'add it, or correct the name');
}

function* checkNamespace(policy: AuthorizationPolicyObject, named: Named, known: Known): Iterable<Diagnostic> {
  const { text, path, isNegative } = named;
  if (text === '') return; // told by the translation
  if (known.lacks('Namespace', '', text)) {
    const message = `there is no Namespace ${text}, so nobody is in it`;
    yield finding(policy, 'warning', 'config.no_such_namespace', path, message, 'add it, or correct the name');
    return;
  }
  if (isNegative) return;
  const outside = known.outsiders(text);
  const [first] = outside;
  if (first === undefined) return;
  const isDeny = policy.spec.action === 'DENY';
  // A host-network pod among members is common, and not let in is safe; not denied is not.
  const severity = isDeny || outside.length === known.workloads(text).length ? 'warning' : 'info';
  const who = outside.length === 1 ? `${nameOf(first)} has` : `${nameOf(first)} and ${outside.length - 1} more have`;
  const effect = isDeny ? 'deny' : 'let in';
  const message = `${who} no identity (outside the mesh), so naming namespace ${text} does not ${effect} all of it`;
  const remedy = 'take them into the mesh, or name their addresses in ipBlocks';
  yield finding(policy, severity, 'policy.plaintext_callers', path, message, remedy);
}
