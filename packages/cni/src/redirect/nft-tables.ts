// Our tables as they are in a namespace: listed, compared, and what they ought to look like, found out by programming an
// empty namespace.
import { createNetNs, NativeError, runNft } from '@ambit/native';
import { NFT_FAMILY, type NftProgram } from './nft-json.ts';
import { NftCopy } from './nft-copy.ts';
import { type ListedTable, type ListedTables, readTable, tablesDrift } from './nft-listing.ts';
import { isListable } from './nft-size.ts';
import { DORMANT, type NftTableEntry, nftTables } from './nft-table-list.ts';
import type { Drift } from './redirect-plan.ts';
import { textOf } from './visit.ts';

/** What a program leaves where nothing else was. */
export interface Reference {
  readonly listed: ListedTables;
  /** The same without libnftables; undefined where the kernel does not take back what it gives. */
  readonly copy: NftCopy | undefined;
}

/** No tables. */
export const NOTHING: Reference = { listed: new Map(), copy: undefined };

/** Whether none of the names is a table of our family. @throws SysError, NativeError */
export function areAbsent(names: readonly string[], tables: readonly NftTableEntry[] = nftTables()): boolean {
  return !tables.some(({ family, name }) => family === NFT_FAMILY && names.includes(name));
}

/** What of the tables, or their number, makes listing cost too much. @throws SysError, NativeError */
export function largeDrift(names: readonly string[]): readonly Drift[] {
  try {
    const tables = ourTables();
    const large = names.filter(name => tables.has(name) && !isListable(NFT_FAMILY, name));
    return large.map(name => ({ part: 'rules', what: `table ${name} holds sets, or too much to list` }));
  } catch (error) {
    if (!(error instanceof NativeError) || error.code !== 'native.bounds') throw error;
    return [{ part: 'rules', what: 'there are too many tables to list' }];
  }
}

/**
 * How the tables of the current namespace differ; empty: equal in everything. What nft cannot list is drift too: whoever is
 * root in a pod decides what there is to list. @throws SysError, NativeError when the kernel does not answer at all
 */
export function currentDrift(expected: ListedTables, names: readonly string[]): readonly Drift[] {
  const tables = ourTables();
  const flagged = names.filter(name => (tables.get(name) ?? 0) !== 0);
  const drift = flagged.map((name): Drift => {
    const flags = tables.get(name) ?? 0;
    const what = (flags & DORMANT) === 0 ? `has the flags ${flags}` : 'is put to sleep (flag dormant)';
    return { part: 'rules', what: `table ${name} ${what}` };
  });
  if (drift.length > 0) return drift;
  try {
    return tablesDrift(expected, listTables(names.filter(name => tables.has(name))));
  } catch (error) {
    const [why] = textOf(error).split('\n', 1);
    return [{ part: 'rules', what: `the tables ${names.join(', ')} cannot be listed: ${why}` }];
  }
}

/** What the kernel lists after the program when nothing else was there. Not inside a visit. @throws NativeError, SysError */
export function referenceTables(program: NftProgram, names: readonly string[]): ListedTables {
  using scratch = createNetNs();
  return scratch.run(() => {
    runNft(program);
    return listOurs(names);
  });
}

/** As `referenceTables`, and how to do it again quickly. Not inside a visit. @throws NativeError, SysError */
export function referenceOf(program: NftProgram, names: readonly string[]): Reference {
  using scratch = createNetNs();
  const { listed, copy } = scratch.run(() => {
    runNft(program);
    return { listed: listOurs(names), copy: NftCopy.of(names) };
  });
  return { listed, copy: copy !== undefined && isTrue(copy, listed, names) ? copy : undefined };
}

/** Tried before it is used: where a kernel makes anything else of it, no pod gets its rules from it. */
function isTrue(copy: NftCopy, listed: ListedTables, names: readonly string[]): boolean {
  using scratch = createNetNs();
  return scratch.run(() => {
    try {
      copy.load();
      return copy.isHere() && tablesDrift(listed, listOurs(names)).length === 0;
    } catch {
      return false;
    }
  });
}

function listOurs(names: readonly string[]): ListedTables {
  return listTables(names.filter(name => ourTables().has(name)));
}

/** Flags by name of the tables of our family. */
function ourTables(): ReadonlyMap<string, number> {
  const ours = nftTables().filter(({ family }) => family === NFT_FAMILY);
  return new Map(ours.map(({ name, flags }) => [name, flags]));
}

function listTables(names: readonly string[]): ListedTables {
  const found = new Map<string, ListedTable>();
  for (const name of names) {
    const table = readTable(list({ table: { family: NFT_FAMILY, name } }));
    if (table !== undefined) found.set(name, table);
  }
  return found;
}

function list(what: object): unknown {
  return runNft({ nftables: [{ list: what }] }, { stateless: true });
}
