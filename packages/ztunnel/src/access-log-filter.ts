// Which connections the access log is about (`AMBIT_ACCESS_LOG_FILTER`). A filter is alternatives separated by `;`, each of
// them conditions separated by `,` that must all hold:
//
//     failed;namespace=shop|pay,direction=inbound      failures anywhere, and what comes into two namespaces
//     !namespace=kube-*                                everything but
//
// A condition is `failed`, `denied` or `name=value`, with `|` between values and `*` for any rest; `!` in front turns it
// round. Pure. Says nothing of levels: a line must pass the log's filter too.
import { nearestName } from '@ambit/mesh';
import type { ConnectionRecord } from '@ambit/proxy';

export type AccessFilter = (record: ConnectionRecord) => boolean;

/** A filter, or what is wrong with its text. */
export type ParsedAccessFilter =
  | { readonly kind: 'filter'; readonly matches: AccessFilter }
  | { readonly kind: 'error'; readonly why: string };

const MAX_CHARS = 1024;
const MAX_CONDITIONS = 64;

const FLAGS: Readonly<Record<string, AccessFilter>> = {
  failed: ({ reason, error }) => reason !== undefined || error !== undefined,
  denied: ({ reason }) => reason?.startsWith('policy.') === true,
};

/** What a name stands for; a connection that has none of it does not match. */
const VALUES: Readonly<Record<string, (record: ConnectionRecord) => readonly (string | undefined)[]>> = {
  namespace: ({ source, destination }) => [source.workload?.namespace, destination.workload?.namespace],
  'source.namespace': ({ source }) => [source.workload?.namespace],
  'destination.namespace': ({ destination }) => [destination.workload?.namespace],
  workload: ({ source, destination }) => [
    source.workload?.workloadName,
    source.workload?.name,
    destination.workload?.workloadName,
    destination.workload?.name,
  ],
  'source.workload': ({ source }) => [source.workload?.workloadName, source.workload?.name],
  'destination.workload': ({ destination }) => [destination.workload?.workloadName, destination.workload?.name],
  identity: ({ source, destination }) => [source.identity, destination.identity],
  service: ({ service }) => [service?.hostname],
  direction: ({ direction }) => [direction],
  protocol: ({ protocol }) => [protocol],
  reason: ({ reason }) => [reason],
};

/** An empty text lets everything pass. */
export function parseAccessFilter(text: string): ParsedAccessFilter {
  if (text.length > MAX_CHARS) return { kind: 'error', why: `longer than ${MAX_CHARS} characters` };
  const alternatives: AccessFilter[][] = [];
  let count = 0;
  for (const part of text.split(';').filter(hasText)) {
    const conditions: AccessFilter[] = [];
    for (const word of part.split(',').filter(hasText)) {
      if (++count > MAX_CONDITIONS) return { kind: 'error', why: `more than ${MAX_CONDITIONS} conditions` };
      const condition = parseCondition(word.trim());
      if (typeof condition === 'string') return { kind: 'error', why: condition };
      conditions.push(condition);
    }
    if (conditions.length > 0) alternatives.push(conditions);
  }
  const matches: AccessFilter = record =>
    alternatives.length === 0 || alternatives.some(conditions => conditions.every(condition => condition(record)));
  return { kind: 'filter', matches };
}

function parseCondition(word: string): AccessFilter | string {
  if (word.startsWith('!')) {
    const condition = parseCondition(word.slice(1).trim());
    return typeof condition === 'string' ? condition : record => !condition(record);
  }
  const at = word.indexOf('=');
  const name = (at === -1 ? word : word.slice(0, at)).trim();
  if (at === -1) return ownOf(FLAGS, name) ?? unknown(name);
  const values = ownOf(VALUES, name);
  if (values === undefined) return unknown(name);
  const wanted = word
    .slice(at + 1)
    .split('|')
    .map(pattern);
  if (wanted.includes(undefined)) return `no value in ${word}`;
  return record => values(record).some(value => value !== undefined && wanted.some(one => one?.(value) === true));
}

/** Plain comparisons: a pattern from outside must not cost more than its length. */
function pattern(text: string): ((value: string) => boolean) | undefined {
  const wanted = text.trim();
  if (wanted === '') return undefined;
  if (!wanted.endsWith('*')) return value => value === wanted;
  const start = wanted.slice(0, -1);
  return value => value.startsWith(start);
}

function unknown(name: string): string {
  const names = [...Object.keys(FLAGS), ...Object.keys(VALUES)];
  const nearest = nearestName(name, names);
  return `unknown condition ${JSON.stringify(name)}; ${nearest === undefined ? `known: ${names.join(', ')}` : `did you mean ${nearest}?`}`;
}

function ownOf<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

function hasText(text: string): boolean {
  return text.trim() !== '';
}
