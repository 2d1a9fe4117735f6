// The in-pod rules as input of iptables-restore and ip6tables-restore; pure. Chains, order and text as Istio's iptables
// back end writes them: tables by name, `-N` for each chain (those with rules first, then jump targets), rules, jumps.
import type { RedirectPlan } from './redirect-plan.ts';
import {
  type IpFamily,
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

/** In the order of the input. */
export const IPTABLES_TABLES: readonly RuleTable[] = ['mangle', 'nat', 'raw'];

/** Also of tables and chains that only Istio's own agent may have made. */
export const CHAIN_PREFIX = 'ISTIO_';

/** One table's part of the input: lines between `*table` and `COMMIT`. */
export interface IptablesTable {
  readonly table: RuleTable;
  readonly lines: readonly string[];
}

const CHAINS: Record<RuleHook, string> = { prerouting: 'ISTIO_PRERT', output: 'ISTIO_OUTPUT' };
/** Mangle and raw jump in this order, nat in the other: kept, because dry runs are compared with Istio's. */
const JUMPS: Record<RuleTable, readonly RuleHook[]> = {
  mangle: ['prerouting', 'output'],
  nat: ['output', 'prerouting'],
  raw: ['prerouting', 'output'],
};

/** Fresh rules for a namespace without any of ours. */
export function renderIptablesTables(plan: RedirectPlan, family: IpFamily): readonly IptablesTable[] {
  const rules = redirectRules(plan);
  return IPTABLES_TABLES.flatMap(table => {
    const ofTable = rules.filter(rule => rule.table === table);
    if (ofTable.length === 0) return [];
    // A chain is made for every jump, even if it has no rules.
    const chains = new Set([...ofTable.map(rule => rule.hook), ...JUMPS[table]]);
    const lines = [
      ...Array.from(chains, hook => `-N ${CHAINS[hook]}`),
      ...ofTable.map(rule => renderRule(rule, plan, family)),
      ...JUMPS[table].map(hook => `-A ${hook.toUpperCase()} -j ${CHAINS[hook]}`),
    ];
    return [{ table, lines }];
  });
}

export function restoreInput(tables: readonly IptablesTable[]): string {
  return tables.map(({ table, lines }) => ['*' + table, ...lines, 'COMMIT', ''].join('\n')).join('');
}

function renderRule(rule: RedirectRule, plan: RedirectPlan, family: IpFamily): string {
  const protocol = rule.when.map(protocolOf).find(found => found !== undefined);
  const words = rule.when.map(match => renderMatch(match, plan, family));
  return [
    `-A ${CHAINS[rule.hook]}`,
    // The words of the packet's header come first, as iptables-save has it; then extensions in the rule's order.
    ...words.flatMap(({ address }) => address ?? []),
    ...words.flatMap(({ device }) => device ?? []),
    ...(protocol === undefined ? [] : [`-p ${protocol}`]),
    ...words.flatMap(({ extension }) => extension ?? []),
    ...words.flatMap(({ last }) => last ?? []),
    ...(rule.when.some(({ kind }) => kind === 'source') ? ['-m tcp'] : []),
    `-j ${renderVerdict(rule.verdict)}`,
  ].join(' ');
}

function protocolOf(match: RuleMatch): string | undefined {
  if (match.kind === 'tcp') return 'tcp';
  return match.kind === 'port' ? match.protocol : undefined;
}

interface MatchWords {
  readonly address?: string;
  readonly device?: string;
  readonly extension?: string;
  /** Istio tests UDP ports after marks. */
  readonly last?: string;
}

function renderMatch(match: RuleMatch, plan: RedirectPlan, family: IpFamily): MatchWords {
  const bits = family === 4 ? 32 : 128;
  const not = 'not' in match && match.not ? '! ' : '';
  switch (match.kind) {
    case 'tcp':
      return {};
    case 'source':
      return { address: `-s ${probeAddressOf(plan, family)}/${bits}` };
    case 'destination':
      return { address: `-d ${probeAddressOf(plan, family)}/${bits}` };
    case 'not-loopback':
      return { address: `! -d ${loopbackOf(family)}/${bits}` };
    case 'arrives-by':
      return { device: `-i ${match.device.replace(/\*$/, '+')}` };
    case 'leaves-by-lo':
      return { device: `${not}-o lo` };
    case 'port': {
      const side = match.side === 'source' ? '--sport' : '--dport';
      const words = `-m ${match.protocol} ${not}${side} ${match.port}`;
      return match.protocol === 'udp' ? { last: words } : { extension: words };
    }
    case 'packet-mark':
      return { extension: `-m mark ${not}--mark ${masked(match.mark)}` };
    case 'connection-mark':
      return { extension: `-m connmark --mark ${masked(match.mark)}` };
  }
}

function renderVerdict(verdict: RuleVerdict): string {
  switch (verdict.kind) {
    case 'accept':
      return 'ACCEPT';
    case 'return':
      return 'RETURN';
    case 'redirect':
      return `REDIRECT --to-ports ${verdict.port}`;
    case 'set-connection-mark':
      return `CONNMARK --set-xmark ${masked(verdict.mark)}`;
    case 'restore-mark':
      return 'CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff';
    case 'conntrack-zone':
      return `CT --zone ${verdict.zone}`;
  }
}

function masked(mark: number): string {
  return `0x${mark.toString(16)}/0x${MARK_MASK.toString(16)}`;
}
