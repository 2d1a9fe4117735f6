// Rules that an agent with an iptables back end left in a namespace which nftables programs now: Istio's default is
// iptables, so a node that changes over has them in every pod. Seen are those of iptables-nft, which lie in nft's own tables
// `nat`, `mangle`, `raw`; not seen are those of iptables-legacy, and tables that nft cannot list, or not cheaply. Acts in the namespace the thread is in.
import { runNft } from '@ambit/native';
import { CHAIN_PREFIX, IPTABLES_TABLES } from './iptables-redirect.ts';
import type { NftJson, NftProgram } from './nft-json.ts';
import { isListable } from './nft-size.ts';
import { type NftTableEntry, type NftTableFamily, nftTables } from './nft-table-list.ts';
import type { Drift } from './redirect-plan.ts';

export interface IptablesLeftover {
  readonly family: string;
  readonly table: string;
  /** Chains of Istio's names. */
  readonly chains: readonly string[];
  /** Rules elsewhere that jump to them. */
  readonly jumps: readonly { readonly chain: string; readonly handle: number }[];
}

const TABLES: readonly string[] = IPTABLES_TABLES;

/** @param all the tables of the namespace @throws NativeError, SysError when the kernel does not answer */
export function iptablesLeftovers(all: readonly NftTableEntry[] = nftTables()): readonly IptablesLeftover[] {
  const tables = all.filter(({ family, name }) => family !== 'inet' && TABLES.includes(name));
  return tables.flatMap(({ family, name }) => {
    const found = readLeftover(family, name, listTable(family, name));
    return found.chains.length + found.jumps.length === 0 ? [] : [found];
  });
}

/** Undefined when nft cannot: whoever is root in a pod may have made it so, and must not keep the pod from its rules. */
function listTable(family: NftTableFamily, name: string): unknown {
  try {
    if (!isListable(family, name)) return undefined;
    return runNft({ nftables: [{ list: { table: { family, name } } }] });
  } catch {
    return undefined;
  }
}

/** One transaction that leaves the rest of those tables as it is. */
export function renderLeftoverRemoval(leftovers: readonly IptablesLeftover[]): NftProgram {
  return {
    nftables: leftovers.flatMap(({ family, table, chains, jumps }): NftJson[] => [
      ...jumps.map(({ chain, handle }) => ({ delete: { rule: { family, table, chain, handle } } })),
      ...chains.map(name => ({ flush: { chain: { family, table, name } } })),
      ...chains.map(name => ({ delete: { chain: { family, table, name } } })),
    ]),
  };
}

export function leftoverDrift(leftovers: readonly IptablesLeftover[]): readonly Drift[] {
  return leftovers.map(({ family, table }) => {
    const tool = family === 'ip' ? 'iptables' : 'ip6tables';
    return { part: 'rules', what: `chains ${CHAIN_PREFIX}* of ${tool} table ${table} are left over` };
  });
}

/** Reads the answer to `list table`; pure. */
export function readLeftover(family: string, table: string, listing: unknown): IptablesLeftover {
  const objects = listOf(fieldOf(listing, 'nftables'));
  const chains = objects
    .map(object => fieldOf(fieldOf(object, 'chain'), 'name'))
    .filter(name => typeof name === 'string')
    .filter(name => name.startsWith(CHAIN_PREFIX));
  const jumps = objects.flatMap(object => {
    const rule = fieldOf(object, 'rule');
    const [chain, handle] = [fieldOf(rule, 'chain'), fieldOf(rule, 'handle')];
    if (typeof chain !== 'string' || typeof handle !== 'number' || chains.includes(chain)) return [];
    return listOf(fieldOf(rule, 'expr')).some(isJumpToUs) ? [{ chain, handle }] : [];
  });
  return { family, table, chains, jumps };
}

function isJumpToUs(expression: unknown): boolean {
  const target = fieldOf(fieldOf(expression, 'jump') ?? fieldOf(expression, 'goto'), 'target');
  return typeof target === 'string' && target.startsWith(CHAIN_PREFIX);
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Readonly<Record<string, unknown>>)[key] // an object, as just seen
    : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
