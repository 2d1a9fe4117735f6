// What people write for the two ends of a connection -> workloads and services of the mesh. Says what it did not find and
// what comes nearest. Every order is by name, so the same mesh and text give the same answer.
import { type Ip, parseIp, parsePort } from './address.ts';
import type { Service } from './service.ts';
import type { MeshView } from './view.ts';
import type { Workload } from './workload.ts';

export type Named<T> =
  | { readonly kind: 'found'; readonly value: T }
  | { readonly kind: 'unknown'; readonly problem: string; readonly nearest: readonly string[] };

export type Destination =
  | { readonly kind: 'workload'; readonly workload: Workload; readonly port: number | undefined }
  | { readonly kind: 'service'; readonly service: Service; readonly port: number | undefined }
  | { readonly kind: 'address'; readonly ip: Ip; readonly port: number | undefined };

const LONGEST_NAME = 300;
const NEAREST_SHOWN = 3;

/** A uid, an address, or `namespace/name` of a pod or of what its pods belong to (the first pod by name stands for all). */
export function findSource(view: MeshView, network: string, text: string): Named<Workload> {
  const byUid = view.workloadByUid(text);
  if (byUid !== undefined) return found(byUid);
  const ip = parseIp(text);
  if (ip !== undefined) {
    const workload = view.workloadByAddress(network, ip);
    return workload === undefined ? unknown(`no workload has the address ${ip}`, []) : found(workload);
  }
  const workload = workloadByName(view, text);
  if (workload !== undefined) return found(workload);
  return unknown(`there is no workload ${short(text)}`, nearest(text, workloadNames(view)));
}

/**
 * `namespace/service`, `namespace/workload`, a host name or an address (IPv6 in brackets when a port follows), each with
 * or without `:port`. A service comes before a workload of the same name.
 */
export function findDestination(view: MeshView, text: string): Named<Destination> {
  const { host, port } = splitPort(text);
  if (port === null) return unknown(`"${short(text)}" does not end in a port between 1 and 65535`, []);
  const ip = parseIp(host);
  if (ip !== undefined) return found({ kind: 'address', ip, port });
  const byUid = view.workloadByUid(text);
  if (byUid !== undefined) return found({ kind: 'workload', workload: byUid, port: undefined });
  const service = serviceByName(view, host) ?? firstBy(view.servicesByHostname(host), byNamespace);
  if (service !== undefined) return found({ kind: 'service', service, port });
  const workload = workloadByName(view, host) ?? workloadByHostname(view, host);
  if (workload !== undefined) return found({ kind: 'workload', workload, port });
  const names = [...serviceNames(view), ...workloadNames(view)];
  return unknown(`there is no service or workload ${short(host)}`, nearest(host, names));
}

/** `namespace/name`. */
export function shortName(object: { readonly namespace: string; readonly name: string }): string {
  return `${object.namespace}/${object.name}`;
}

/** Port null: there is a colon and what follows is none. */
function splitPort(text: string): { readonly host: string; readonly port: number | undefined | null } {
  const bracket = /^\[([^\]]*)\](?::(.*))?$/.exec(text.slice(0, LONGEST_NAME));
  if (bracket !== null) return { host: bracket[1] ?? '', port: readPort(bracket[2]) };
  // An IPv6 address without brackets has no port.
  if (parseIp(text) !== undefined) return { host: text, port: undefined };
  const colon = text.lastIndexOf(':');
  return colon < 0
    ? { host: text, port: undefined }
    : { host: text.slice(0, colon), port: readPort(text.slice(colon + 1)) };
}

function readPort(text: string | undefined): number | undefined | null {
  if (text === undefined) return undefined;
  const port = parsePort(text);
  return port === undefined || port === 0 ? null : port;
}

/** A pod's own name first, then the workload or application it is part of. */
function workloadByName(view: MeshView, text: string): Workload | undefined {
  const { namespace, name } = splitName(text);
  const inNamespace = [...view.workloads()].filter(workload => workload.namespace === namespace);
  for (const field of ['name', 'workloadName', 'canonicalName'] as const) {
    const matches = inNamespace.filter(workload => workload[field] === name && name !== '');
    // A pod that can serve stands better for all of them than one that cannot.
    const first = firstBy(matches, byHealthThenName);
    if (first !== undefined) return first;
  }
  return undefined;
}

function workloadByHostname(view: MeshView, hostname: string): Workload | undefined {
  if (hostname === '') return undefined;
  return firstBy(
    [...view.workloads()].filter(workload => workload.hostname === hostname),
    byHealthThenName,
  );
}

function serviceByName(view: MeshView, text: string): Service | undefined {
  const { namespace, name } = splitName(text);
  const matches = [...view.services()].filter(
    service => service.namespace === namespace && (service.name === name || service.hostname === name),
  );
  return firstBy(matches, (a, b) => Number(b.canonical) - Number(a.canonical) || order(a.hostname, b.hostname));
}

function splitName(text: string): { readonly namespace: string; readonly name: string } {
  const slash = text.indexOf('/');
  return slash < 0 ? { namespace: '', name: '' } : { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}

function workloadNames(view: MeshView): readonly string[] {
  return [...view.workloads()].flatMap(workload => {
    const { namespace, name, workloadName } = workload;
    return workloadName === '' ? [`${namespace}/${name}`] : [`${namespace}/${name}`, `${namespace}/${workloadName}`];
  });
}

function serviceNames(view: MeshView): readonly string[] {
  return [...view.services()].map(shortName);
}

/** The candidates with the smallest edit distance to the text, as long as half of it is right. */
export function nearest(text: string, candidates: Iterable<string>): readonly string[] {
  const wanted = text.slice(0, LONGEST_NAME).toLowerCase();
  const limit = Math.max(2, Math.floor(wanted.length / 2));
  const ranked: { readonly name: string; readonly distance: number }[] = [];
  for (const name of new Set(candidates)) {
    const near = name.toLowerCase();
    // Whoever forgets the namespace means the name.
    const isTail = !wanted.includes('/') && near.endsWith(`/${wanted}`);
    const distance = isTail ? 0 : distanceBelow(wanted, near, limit + 1);
    if (distance <= limit) ranked.push({ name, distance });
  }
  return ranked
    .toSorted((a, b) => a.distance - b.distance || order(a.name, b.name))
    .slice(0, NEAREST_SHOWN)
    .map(({ name }) => name);
}

/** Insertions, removals and replacements between two texts, or `limit` when there are at least that many. */
function distanceBelow(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const line = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (above[column - 1] ?? limit) + Number(a[row - 1] !== b[column - 1]);
      line.push(Math.min(replaced, (above[column] ?? limit) + 1, (line[column - 1] ?? limit) + 1));
    }
    if (Math.min(...line) >= limit) return limit;
    above = line;
  }
  return above[b.length] ?? limit;
}

function firstBy<T>(items: readonly T[], compare: (a: T, b: T) => number): T | undefined {
  return items.toSorted(compare)[0];
}

function byHealthThenName(a: Workload, b: Workload): number {
  return (
    Number(a.status !== 'Healthy') - Number(b.status !== 'Healthy') || order(a.name, b.name) || order(a.uid, b.uid)
  );
}

function byNamespace(a: Service, b: Service): number {
  return Number(b.canonical) - Number(a.canonical) || order(a.namespace, b.namespace);
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function short(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}

function found<T>(value: T): Named<T> {
  return { kind: 'found', value };
}

function unknown(problem: string, names: readonly string[]): Named<never> {
  return { kind: 'unknown', problem, nearest: names };
}
