// The in-pod rules in nft's language: one transaction that leaves exactly the plan's rules in three tables of family inet,
// whatever was in them before, and one that leaves none. Pure. Names and order as Istio's nftables back end has them; where
// that flushes its tables we replace them, so that a chain somebody added, or a table put to sleep, does not survive.
import {
  NFT_FAMILY,
  type NftJson,
  type NftProgram,
  nftBaseChain,
  nftFirstTable,
  nftMatch,
  nftMeta,
  nftNewTable,
  nftNoTable,
  nftPayload,
  nftRule,
} from './nft-json.ts';
import type { RedirectPlan } from './redirect-plan.ts';
import {
  familiesOf,
  type IpFamily,
  isPerFamily,
  loopbackOf,
  MARK_MASK,
  probeAddressOf,
  type RedirectRule,
  type RuleHook,
  type RuleMatch,
  type RuleTable,
  type RuleVerdict,
  redirectRules,
} from './redirect-rules.ts';

const TABLES: readonly RuleTable[] = ['nat', 'mangle', 'raw'];
const HOOKS: readonly RuleHook[] = ['prerouting', 'output'];
const PRIORITY: Record<RuleTable, number> = { nat: -100, mangle: -150, raw: -300 };

/** What Istio calls them; the three that may hold rules of ours in a pod. */
export const REDIRECT_TABLES: readonly string[] = TABLES.map(tableName);

/**
 * Leaves exactly the plan's rules. `anew` does so always; `first`, at a fifth of the cost, where none of the three tables is,
 * and it is refused as a whole when one that it fills is there.
 */
export function renderNftRedirect(plan: RedirectPlan, how: 'first' | 'anew' = 'anew'): NftProgram {
  const rules = redirectRules(plan);
  return { nftables: TABLES.flatMap(table => renderTable(table, plan, rules, how)) };
}

export function renderNftRemoval(): NftProgram {
  return { nftables: REDIRECT_TABLES.flatMap(nftNoTable) };
}

function renderTable(
  table: RuleTable,
  plan: RedirectPlan,
  rules: readonly RedirectRule[],
  how: 'first' | 'anew',
): NftJson[] {
  const name = tableName(table);
  const ofTable = rules.filter(rule => rule.table === table);
  if (ofTable.length === 0) return how === 'first' ? [] : nftNoTable(name);
  // Base chains exist only where there is something to do.
  const hooks = HOOKS.filter(hook => ofTable.some(rule => rule.hook === hook));
  return [
    ...(how === 'first' ? nftFirstTable(name) : nftNewTable(name)),
    ...hooks.flatMap(hook => [
      { add: { chain: { family: NFT_FAMILY, table: name, name: chainName(hook) } } },
      nftBaseChain(name, hook, chainType(table, hook), hook, PRIORITY[table]),
      nftRule(name, hook, [], { jump: { target: chainName(hook) } }),
    ]),
    ...ofTable.flatMap(rule => renderRule(name, rule, plan)),
  ];
}

function tableName(table: RuleTable): string {
  return `istio-ambient-${table}`;
}

function chainName(hook: RuleHook): string {
  return `istio-${hook}`;
}

function chainType(table: RuleTable, hook: RuleHook): string {
  if (table === 'nat') return 'nat';
  // A mark that changes on the way out must be looked up again.
  return table === 'mangle' && hook === 'output' ? 'route' : 'filter';
}

/** The IPv6 twin follows its IPv4 rule at once. */
function renderRule(table: string, rule: RedirectRule, plan: RedirectPlan): NftJson[] {
  const families = isPerFamily(rule) ? familiesOf(plan) : ([4] as const);
  return families.map(family =>
    nftRule(
      table,
      chainName(rule.hook),
      rule.when.map(match => renderMatch(match, family, plan)),
      renderVerdict(rule.verdict),
    ),
  );
}

function renderMatch(match: RuleMatch, family: IpFamily, plan: RedirectPlan): NftJson {
  const ip = family === 4 ? 'ip' : 'ip6';
  switch (match.kind) {
    case 'tcp':
      return nftMatch('==', nftMeta('l4proto'), 'tcp');
    case 'source':
      return nftMatch('==', nftPayload(ip, 'saddr'), probeAddressOf(plan, family));
    case 'destination':
      return nftMatch('==', nftPayload(ip, 'daddr'), probeAddressOf(plan, family));
    case 'not-loopback':
      return nftMatch('!=', nftPayload(ip, 'daddr'), loopbackOf(family));
    case 'arrives-by':
      // iptables' sign for "any rest of the name" is nft's star.
      return nftMatch('==', nftMeta('iifname'), match.device.replace(/\+$/, '*'));
    case 'leaves-by-lo':
      return nftMatch(match.not ? '!=' : '==', nftMeta('oifname'), 'lo');
    case 'port':
      return nftMatch(
        match.not ? '!=' : '==',
        nftPayload(match.protocol, match.side === 'source' ? 'sport' : 'dport'),
        match.port,
      );
    case 'packet-mark':
      return nftMatch(match.not ? '!=' : '==', { '&': [nftMeta('mark'), MARK_MASK] }, match.mark);
    case 'connection-mark':
      return nftMatch('==', { '&': [{ ct: { key: 'mark' } }, MARK_MASK] }, match.mark);
  }
}

function renderVerdict(verdict: RuleVerdict): NftJson {
  switch (verdict.kind) {
    case 'accept':
      return { accept: null };
    case 'return':
      return { return: null };
    case 'redirect':
      return { redirect: { port: verdict.port } };
    case 'set-connection-mark': {
      const ofOthers = { '&': [{ ct: { key: 'mark' } }, 0xffffffff - MARK_MASK] };
      return { mangle: { key: { ct: { key: 'mark' } }, value: { '|': [ofOthers, verdict.mark] } } };
    }
    case 'restore-mark':
      return { mangle: { key: nftMeta('mark'), value: { ct: { key: 'mark' } } } };
    case 'conntrack-zone':
      return { mangle: { key: { ct: { key: 'zone' } }, value: verdict.zone } };
  }
}
