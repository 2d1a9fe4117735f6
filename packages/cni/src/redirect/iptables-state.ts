// What is ours in the output of iptables-save: chains that begin with ISTIO_, and rules of built-in chains that jump to
// them; everything else is nobody's business here. Pure: reading, comparing, and the lines that clear it.
import {
  CHAIN_PREFIX,
  IPTABLES_TABLES,
  type IptablesTable,
  renderIptablesTables,
  restoreInput,
} from './iptables-redirect.ts';
import type { Drift, RedirectPlan } from './redirect-plan.ts';
import type { IpFamily, RuleTable } from './redirect-rules.ts';
import { ruleDrift } from './rule-drift.ts';

export interface IptablesTableState {
  /** By chain, rules without `-A CHAIN `. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** By built-in chain, rules that jump to a chain of ours. */
  readonly jumps: ReadonlyMap<string, readonly string[]>;
}

export type IptablesState = ReadonlyMap<RuleTable, IptablesTableState>;

const JUMP = new RegExp(`(?:^| )-[jg] (?=${CHAIN_PREFIX})`);
const MAX_NAME = 40;
const EMPTY: IptablesTableState = { chains: new Map(), jumps: new Map() };

/** Tables without anything of ours are left out, and so are tables that we never use. */
export function readIptablesSave(text: string): IptablesState {
  const state = new Map<RuleTable, { chains: Map<string, string[]>; jumps: Map<string, string[]> }>();
  let table: RuleTable | undefined;
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = IPTABLES_TABLES.find(name => name === line.slice(1).trim());
    if (table === undefined) continue;
    const of = state.get(table) ?? { chains: new Map<string, string[]>(), jumps: new Map<string, string[]>() };
    const [, declared] = /^:(\S+)/.exec(line) ?? [];
    const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (declared?.startsWith(CHAIN_PREFIX)) of.chains.set(declared, []);
    else if (chain?.startsWith(CHAIN_PREFIX) && rule !== undefined) append(of.chains, chain, rule);
    else if (chain !== undefined && rule !== undefined && JUMP.test(rule)) append(of.jumps, chain, rule);
    else continue;
    state.set(table, of);
  }
  return state;
}

function append(to: Map<string, string[]>, key: string, value: string): void {
  const list = to.get(key) ?? [];
  list.push(value);
  to.set(key, list);
}

export function isEmptyState(state: IptablesState): boolean {
  return state.size === 0;
}

/**
 * Input that turns the state into the plan, or with no plan into nothing, table by table and each at once: what is old
 * goes in the transaction in which the new comes, so nothing passes in between and no guard rules are needed.
 */
export function iptablesInput(state: IptablesState, plan: RedirectPlan | undefined, family: IpFamily): string {
  const fresh = plan === undefined ? [] : renderIptablesTables(plan, family);
  const tables = IPTABLES_TABLES.flatMap((table): IptablesTable[] => {
    const lines = [
      ...clearing(state.get(table) ?? EMPTY),
      ...(fresh.find(other => other.table === table)?.lines ?? []),
    ];
    return lines.length === 0 ? [] : [{ table, lines }];
  });
  return restoreInput(tables);
}

/** Jumps first, then all contents, then the chains: none may be referred to when it goes. */
function clearing({ chains, jumps }: IptablesTableState): string[] {
  return [
    ...Array.from(jumps).flatMap(([chain, rules]) => rules.map(rule => `-D ${chain} ${rule}`)),
    ...Array.from(chains.keys(), chain => `-F ${chain}`),
    ...Array.from(chains.keys(), chain => `-X ${chain}`),
  ];
}

/** How the state differs; empty: equal in everything that is ours. */
export function iptablesDrift(family: IpFamily, expected: IptablesState, actual: IptablesState): readonly Drift[] {
  const tool = family === 4 ? 'iptables' : 'ip6tables';
  return IPTABLES_TABLES.flatMap(table => {
    const wanted = expected.get(table) ?? EMPTY;
    const found = actual.get(table) ?? EMPTY;
    const where = `of ${tool} table ${table}`;
    const gone = [...wanted.chains.keys()].filter(chain => !found.chains.has(chain));
    const extra = [...found.chains.keys()].filter(chain => !wanted.chains.has(chain));
    const entries = new Set([...wanted.jumps.keys(), ...found.jumps.keys()]);
    return [
      ...gone.map(chain => ofRules(`chain ${chain} ${where} is gone`)),
      ...extra.map(chain => ofRules(`chain ${chain.slice(0, MAX_NAME)} ${where} is left over`)),
      ...[...wanted.chains].flatMap(([chain, list]) => {
        const there = found.chains.get(chain);
        return there === undefined ? [] : ruleDrift(`${chain} ${where}`, list, there);
      }),
      ...[...entries].flatMap(chain =>
        ruleDrift(
          `the jumps from ${chain.slice(0, MAX_NAME)} ${where}`,
          wanted.jumps.get(chain) ?? [],
          found.jumps.get(chain) ?? [],
        ),
      ),
    ];
  });
}

function ofRules(what: string): Drift {
  return { part: 'rules', what };
}
