// The host's nftables rules for workloads of this machine, as values in nft's JSON (libnftables-json(5)). Pure.
import type { Subnets } from './address-plan.ts';

export const LOCAL_TABLE_NAME = 'ambit-local';

/** What is looked at of a rule set's listing. */
export interface ListedObject {
  readonly table?: { readonly family: string; readonly name: string };
  readonly chain?: ListedChain;
  readonly rule?: ListedRule;
}

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly type?: string;
  readonly hook?: string;
  readonly policy?: string;
}

interface ListedRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle: number;
  readonly expr: unknown;
}

type Expression = object;

const FORGED: readonly Expression[] = [
  { match: { op: '==', left: { meta: { key: 'iifname' } }, right: 'ambit*' } },
  { match: { op: '==', left: { fib: { result: 'oif', flags: ['saddr', 'iif'] } }, right: false } },
  { drop: null },
];
/** Rules of the table. */
const LOCAL_RULES = 3;

/**
 * The table, whole: emptied and filled in one transaction. What leaves the workloads' network gets the host's address. What
 * comes from a workload with an address that is not reached by its link is dropped: the addresses of plain traffic are
 * what policies go by.
 */
export function localTable(subnets: Subnets): object {
  const table = { family: 'inet', name: LOCAL_TABLE_NAME };
  const chain = { family: 'inet', table: LOCAL_TABLE_NAME, name: 'postrouting' };
  const entering = { family: 'inet', table: LOCAL_TABLE_NAME, name: 'prerouting' };
  const leaving = (protocol: 'ip' | 'ip6') => {
    const expr = [
      inSubnet(protocol, 'saddr', subnets),
      inSubnet(protocol, 'daddr', subnets, '!='),
      { masquerade: null },
    ];
    return { add: { rule: { family: 'inet', table: LOCAL_TABLE_NAME, chain: chain.name, expr } } };
  };
  return {
    nftables: [
      { add: { table } },
      { delete: { table } },
      { add: { table } },
      { add: { chain: { ...chain, type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' } } },
      leaving('ip'),
      leaving('ip6'),
      { add: { chain: { ...entering, type: 'filter', hook: 'prerouting', prio: -300, policy: 'accept' } } },
      { add: { rule: { family: 'inet', table: LOCAL_TABLE_NAME, chain: entering.name, expr: FORGED } } },
    ],
  };
}

/**
 * Commands that let workloads through foreign chains that refuse what they do not know, by their policy (Docker's, ufw's) or
 * by a rule for all that is left (firewalld's): a verdict to accept counts in its own chain only, so the rule must be in
 * there, first. None for chains that have it.
 */
export function foreignAccepts(listed: readonly ListedObject[], subnets: Subnets): object[] {
  const present = new Set(
    ourAcceptRules(listed, subnets).map(rule => `${chainKey(rule)} ${JSON.stringify(rule.expr)}`),
  );
  const refusing = new Set(
    listed.flatMap(({ rule }) => (rule !== undefined && refusesAll(rule) ? [chainKey(rule)] : [])),
  );
  return listed.flatMap(({ chain }) => {
    if (chain === undefined || chain.table === LOCAL_TABLE_NAME) return [];
    if (chain.type !== 'filter' || chain.hook !== 'forward') return [];
    if (chain.policy !== 'drop' && !refusing.has(`${chain.family} ${chain.table} ${chain.name}`)) return [];
    const { family, table, name } = chain;
    return acceptExpressions(family, subnets)
      .filter(expr => !present.has(`${family} ${table} ${name} ${JSON.stringify(expr)}`))
      .map(expr => ({ insert: { rule: { family, table, chain: name, expr } } }));
  });
}

/** Whether the table is as it was made, so far as counting shows: a firewall that is loaded anew takes it away whole. */
export function hasLocalTable(listed: readonly ListedObject[]): boolean {
  return listed.filter(({ rule }) => rule?.family === 'inet' && rule.table === LOCAL_TABLE_NAME).length === LOCAL_RULES;
}

/** The rules that `foreignAccepts` made, to be deleted by handle. */
export function ourAccepts(listed: readonly ListedObject[], subnets: Subnets): object[] {
  return ourAcceptRules(listed, subnets).map(({ family, table, chain, handle }) => ({ family, table, chain, handle }));
}

function ourAcceptRules(listed: readonly ListedObject[], subnets: Subnets): ListedRule[] {
  return listed.flatMap(({ rule }) => {
    if (rule === undefined || rule.table === LOCAL_TABLE_NAME) return [];
    const text = JSON.stringify(rule.expr);
    return acceptExpressions(rule.family, subnets).some(expr => JSON.stringify(expr) === text) ? [rule] : [];
  });
}

function acceptExpressions(family: string, subnets: Subnets): Expression[][] {
  const protocols =
    family === 'inet' ? (['ip', 'ip6'] as const) : family === 'ip' || family === 'ip6' ? ([family] as const) : [];
  return protocols.flatMap(protocol =>
    (['saddr', 'daddr'] as const).map(field => [inSubnet(protocol, field, subnets), { accept: null }]),
  );
}

function inSubnet(
  protocol: 'ip' | 'ip6',
  field: 'saddr' | 'daddr',
  subnets: Subnets,
  op: '==' | '!=' = '==',
): Expression {
  const [addr = '', len = ''] = (protocol === 'ip' ? subnets.ip4 : subnets.ip6).split('/');
  return { match: { op, left: { payload: { protocol, field } }, right: { prefix: { addr, len: Number(len) } } } };
}

/** Whether nothing gets past it: a refusal without a condition. `xt` is iptables' own REJECT. */
function refusesAll({ expr }: ListedRule): boolean {
  if (!Array.isArray(expr)) return false;
  const [verdict, ...others] = (expr as readonly object[]).filter(each => !('counter' in each || 'log' in each));
  if (verdict === undefined || others.length > 0) return false;
  if ('drop' in verdict || 'reject' in verdict) return true;
  const xt = 'xt' in verdict ? (verdict.xt as { readonly name?: unknown } | null) : null;
  return xt?.name === 'REJECT';
}

function chainKey({ family, table, chain }: ListedRule): string {
  return `${family} ${table} ${chain}`;
}
