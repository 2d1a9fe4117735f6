// What the control plane says of the demo's mesh, over its admin port: how much there is, what is wrong with the objects,
// and what the objects in force make of each pair that talks (asked of the planners that proxies use, not guessed).
import { explainConnection, MeshState } from '@ambit/mesh';
import { addressFromJson, authorizationFromJson, type Json, meshAddress, meshPolicy } from '@ambit/wire/resources';
import type { PlannedEdge } from './shop-plan.ts';
import type { Expectation } from './verdict.ts';

export interface MeshFacts {
  readonly workloads: number;
  readonly services: number;
  readonly policies: number;
  /** Sentences about objects that have no effect, or not the one they say; the last good state stays in force. */
  readonly problems: readonly string[];
  /** In the order of the edges; undefined when the objects know one of the two no more. */
  readonly verdicts: readonly (Expectation | undefined)[];
}

/** A page of the admin port. */
export type ReadPage = (path: string) => Promise<unknown>;

const OF_VERDICT = { allowed: 'encrypted', denied: 'denied', plaintext: 'plaintext', unknown: undefined } as const;
const NETWORK = '';

/** @throws when the control plane cannot be reached or says something else */
export async function readMeshFacts(page: ReadPage, edges: readonly PlannedEdge[]): Promise<MeshFacts> {
  const [addresses, authorizations, diagnostics] = await Promise.all([
    page('/debug/addresses'),
    page('/debug/authorizations'),
    page('/debug/diagnostics'),
  ]);
  const mesh = new MeshState();
  const owners = entries(addresses).map(({ resource }) => meshAddress(addressFromJson(resource)));
  mesh.applyBatch({
    upsertWorkloads: owners.flatMap(owner => (owner.kind === 'workload' ? [owner.workload] : [])),
    upsertServices: owners.flatMap(owner => (owner.kind === 'service' ? [owner.service] : [])),
    upsertPolicies: entries(authorizations).map(({ name, resource }) => ({
      key: name,
      policy: meshPolicy(authorizationFromJson(resource)).policy,
    })),
  });
  const workloads = owners.filter(({ kind }) => kind === 'workload').length;
  return {
    workloads,
    services: owners.length - workloads,
    policies: entries(authorizations).length,
    problems: problemsOf(diagnostics),
    verdicts: edges.map(({ source, dials }) => {
      const { verdict } = explainConnection(mesh, { source, destination: dials, network: NETWORK });
      return OF_VERDICT[verdict];
    }),
  };
}

interface Entry {
  readonly name: string;
  readonly resource: Json;
}

/** Our own control plane sends these. */
function entries(page: unknown): readonly Entry[] {
  if (!Array.isArray(page)) throw new TypeError('the control plane did not send a list');
  return page as Entry[];
}

function problemsOf(page: unknown): string[] {
  if (!Array.isArray(page)) return [];
  const found = page as readonly Problem[];
  return found
    .filter(({ severity }) => severity === 'error')
    .map(({ place, message, code }) => `${place === undefined ? '' : `${placeText(place)}: `}${message}  [${code}]`);
}

interface Problem {
  readonly severity: string;
  readonly message: string;
  readonly code: string;
  readonly place?: { readonly file: string; readonly line: number; readonly column: number };
}

function placeText({ file, line, column }: NonNullable<Problem['place']>): string {
  return `${file}:${line}:${column}`;
}
