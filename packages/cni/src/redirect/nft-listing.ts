// What nft lists of our tables, read into a form that compares: without handles and counters' values, and with everything
// that decides what packets meet (order, hooks, priorities, policies). Pure. What is not understood is kept as an
// extra object, so that nothing foreign in our tables passes as clean.
import { ruleDrift } from './rule-drift.ts';
import type { Drift } from './redirect-plan.ts';

export interface ListedChain {
  /** Type, hook, priority, policy of a base chain. */
  readonly traits: Readonly<Record<string, string>>;
  readonly rules: readonly string[];
}

export interface ListedTable {
  readonly traits: Readonly<Record<string, string>>;
  readonly chains: ReadonlyMap<string, ListedChain>;
  /** Sets, maps, counters, …: `set probes` each. */
  readonly others: readonly string[];
}

export type ListedTables = ReadonlyMap<string, ListedTable>;

/** Of everything that differs, as much as an operator reads. */
const MAX_DRIFT = 12;
const MAX_NAME = 40;

/** Reads the answer to `list table`; undefined when there is no table in it. */
export function readTable(listing: unknown): ListedTable | undefined {
  const objects = objectsOf(listing);
  const table = objects.find(({ kind }) => kind === 'table');
  if (table === undefined) return undefined;
  const chains = new Map<string, { traits: Record<string, string>; rules: string[] }>();
  const others: string[] = [];
  for (const { kind, body } of objects) {
    if (kind === 'chain') chains.set(nameOf(body), { traits: traitsOf(body), rules: [] });
  }
  for (const { kind, body } of objects) {
    if (kind === 'rule') chains.get(String(body['chain']))?.rules.push(ruleText(body));
    else if (kind !== 'chain' && kind !== 'table' && kind !== 'metainfo')
      others.push(`${kind} ${shownName(nameOf(body))}`);
  }
  return { traits: traitsOf(table.body), chains, others };
}

/** How the tables differ; empty: equal in everything. At most 13 sentences. */
export function tablesDrift(expected: ListedTables, actual: ListedTables): readonly Drift[] {
  const drift: Drift[] = [];
  for (const [name, wanted] of expected) {
    const found = actual.get(name);
    if (found === undefined) drift.push(rules(`table ${name} is gone`));
    else drift.push(...tableDrift(name, wanted, found));
  }
  for (const name of actual.keys()) {
    if (!expected.has(name)) drift.push(rules(`table ${name} is left over`));
  }
  if (drift.length <= MAX_DRIFT) return drift;
  return [...drift.slice(0, MAX_DRIFT), rules(`and ${drift.length - MAX_DRIFT} more differences`)];
}

function tableDrift(table: string, wanted: ListedTable, found: ListedTable): Drift[] {
  const drift = traitsDrift(`table ${table}`, wanted.traits, found.traits);
  for (const [name, chain] of wanted.chains) {
    const where = `${name} of table ${table}`;
    const there = found.chains.get(name);
    if (there === undefined) {
      drift.push(rules(`chain ${where} is gone`));
    } else {
      drift.push(...traitsDrift(`chain ${where}`, chain.traits, there.traits));
      drift.push(...ruleDrift(where, chain.rules, there.rules));
    }
  }
  for (const name of found.chains.keys()) {
    if (!wanted.chains.has(name)) drift.push(rules(`an extra chain ${shownName(name)} in table ${table}`));
  }
  for (const other of found.others) {
    if (!wanted.others.includes(other)) drift.push(rules(`an extra ${other} in table ${table}`));
  }
  for (const other of wanted.others) {
    if (!found.others.includes(other)) drift.push(rules(`${other} of table ${table} is gone`));
  }
  return drift;
}

function traitsDrift(where: string, wanted: ListedTable['traits'], found: ListedTable['traits']): Drift[] {
  const keys = [...new Set([...Object.keys(wanted), ...Object.keys(found)])].filter(key => wanted[key] !== found[key]);
  return keys.map(key =>
    rules(`${key} of ${where} is ${shownName(found[key] ?? 'none')} instead of ${wanted[key] ?? 'none'}`),
  );
}

function rules(what: string): Drift {
  return { part: 'rules', what };
}

interface ListedObject {
  readonly kind: string;
  readonly body: Readonly<Record<string, unknown>>;
}

function objectsOf(listing: unknown): ListedObject[] {
  const items = isRecord(listing) ? listing['nftables'] : undefined;
  if (!Array.isArray(items)) return [];
  return items.flatMap((item: unknown) => {
    const [entry] = isRecord(item) ? Object.entries(item) : [];
    return entry !== undefined && isRecord(entry[1]) ? [{ kind: entry[0], body: entry[1] }] : [];
  });
}

/** What says where an object is, not what it does. */
const PLACE = new Set(['family', 'table', 'name', 'handle']);

function traitsOf(body: ListedObject['body']): Record<string, string> {
  const traits = Object.entries(body).filter(([key]) => !PLACE.has(key));
  return Object.fromEntries(traits.map(([key, value]) => [key, typeof value === 'string' ? value : text(value)]));
}

/** The expressions, and whatever else the rule says of itself (a comment). */
function ruleText({ expr, ...rest }: ListedObject['body']): string {
  const more = Object.entries(rest).filter(([key]) => !PLACE.has(key) && key !== 'chain');
  return text(expr) + (more.length === 0 ? '' : text(Object.fromEntries(more)));
}

function text(value: unknown): string {
  return JSON.stringify(value, (key, inner: unknown) => (key === 'counter' && isRecord(inner) ? null : inner));
}

function nameOf(body: ListedObject['body']): string {
  return typeof body['name'] === 'string' ? body['name'] : '';
}

/** Names of others' objects go into sentences; a bound and quotes keep them names. */
function shownName(name: string): string {
  if (/^[\w.-]{1,40}$/.test(name)) return name;
  return JSON.stringify(name.length > MAX_NAME ? `${name.slice(0, MAX_NAME)}…` : name);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
