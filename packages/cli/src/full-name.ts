// A bare name of a question -> `namespace/name`, when only one workload or service has it. Everything else stays as it is and is
// the explainer's to read or to refuse.
import { type MeshView, nearestName, parseIp } from '@ambit/mesh';

export type FullName =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'unknown'; readonly nearest: readonly string[] }
  | { readonly kind: 'ambiguous'; readonly choices: readonly string[] };

/** A Kubernetes name without its namespace. */
const NAME = /^(?<bare>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)(?<port>:\d+)?$/;

/** @param end services are destinations only */
export function fullName(view: MeshView, text: string, end: 'source' | 'destination'): FullName {
  const { bare = '', port = '' } = NAME.exec(text)?.groups ?? {};
  if (bare === '' || parseIp(text) !== undefined) return { kind: 'name', name: text };
  const known = new Map<string, Set<string>>();
  const note = (name: string, namespace: string): void => {
    known.set(name, (known.get(name) ?? new Set()).add(`${namespace}/${name}`));
  };
  for (const { namespace, name, workloadName } of view.workloads()) {
    for (const each of [name, workloadName]) if (each !== '') note(each, namespace);
  }
  if (end === 'destination') for (const { namespace, name } of view.services()) note(name, namespace);
  const places = [...(known.get(bare) ?? [])].toSorted();
  const [only, ...others] = places;
  if (only === undefined) {
    const near = nearestName(bare, known.keys());
    return { kind: 'unknown', nearest: near === undefined ? [] : [...(known.get(near) ?? [])].toSorted() };
  }
  return others.length === 0 ? { kind: 'name', name: `${only}${port}` } : { kind: 'ambiguous', choices: places };
}
