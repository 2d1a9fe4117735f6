// /config_dump in upstream's format, as pieces of text: two spaces of indentation, keys in alphabetical order, lists in
// upstream's order. Works in slices; the mesh may change in between, so what is shown of two objects may be of two moments,
// but each object is whole. One object is written in one slice, however many endpoints it has.
import { type MeshState, serviceKey } from '@ambit/mesh';
import type { Config } from '../config.ts';
import { errorText } from '../errors.ts';
import type { IdentityReport } from '../identity/certificate-state.ts';
import type { LocalMesh } from '../local-config/reader.ts';
import { identityShape } from './certificate-shape.ts';
import { configShape } from './config-shape.ts';
import { policyShape, type Shape, serviceShape, workloadShape } from './mesh-shapes.ts';
import { type PodReport, podShapes } from './pod-shapes.ts';
import { type Slicer, sortGently } from './slicer.ts';
import { stagedShape } from './staged-services.ts';
import type { AskWorkers } from './worker-questions.ts';

export interface DumpDeps {
  readonly state: MeshState;
  readonly certificates: { identityStates(): readonly IdentityReport[] };
  readonly config: Config;
  readonly pods: () => readonly PodReport[];
  readonly workers: AskWorkers;
  /** The local configuration as it is written now; undefined when there is none. */
  readonly staticMesh: () => Promise<LocalMesh | undefined>;
  /** What the xDS client says of itself; undefined without a control plane. */
  readonly xds: () => unknown;
  /** Of this package. */
  readonly version: string;
}

const BATCH_CHARS = 16 * 1024;
const NO_MESH: LocalMesh = { policies: [], services: [], workloads: [] };

/** @param slicer is paused between objects */
export async function* configDump(deps: DumpDeps, slicer: Slicer): AsyncGenerator<string> {
  const { state } = deps;
  yield '{\n  "certificates": ';
  yield* list(deps.certificates.identityStates(), identityShape, slicer);
  yield `,\n  "config": ${text(configShape(deps.config), '  ')}`;
  yield ',\n  "policies": ';
  const policies = await sortGently(state.policies(), ([key]) => key, slicer);
  yield* list(policies, ([, policy]) => policyShape(policy), slicer);
  yield ',\n  "services": ';
  const services = await sortGently(state.services(), service => `${service.hostname} ${serviceKey(service)}`, slicer);
  yield* list(services, service => serviceShape(service, state.endpoints(service)), slicer);
  yield `,\n  "stagedServices": ${text(await stagedShape(state, slicer), '  ')}`;
  yield `,\n  "staticConfig": ${text(await staticShape(deps), '  ')}`;
  yield `,\n  "version": ${text(versionShape(deps), '  ')}`;
  yield `,\n  "workloadState": ${text(await podShapes(deps.pods(), deps.workers), '  ')}`;
  yield ',\n  "workloads": ';
  const workloads = await sortGently(state.workloads(), ({ uid }) => uid, slicer);
  yield* list(workloads, workloadShape, slicer);
  yield `,\n  "xds": ${text(deps.xds() ?? null, '  ')}\n}\n`;
}

function versionShape({ version, config }: DumpDeps): Shape {
  return {
    cryptoProvider: `openssl-${process.versions.openssl}`,
    istioVersion: config.istioVersion,
    nodeVersion: process.versions.node,
    version,
  };
}

/** As it is written, whether or not it is used; a file that cannot be read now says why. */
async function staticShape({ staticMesh }: DumpDeps): Promise<Shape> {
  try {
    const { policies, services, workloads } = (await staticMesh()) ?? NO_MESH;
    return {
      policies: policies.map(policyShape),
      services: services.map(service => serviceShape(service, [])),
      workloads: workloads.map(workloadShape),
    };
  } catch (error) {
    return { error: errorText(error), policies: [], services: [], workloads: [] };
  }
}

async function* list<T>(items: Iterable<T>, shape: (item: T) => Shape, slicer: Slicer): AsyncGenerator<string> {
  let isFirst = true;
  // Handing over and awaiting each object alone would cost more than the object.
  let batch = '';
  for (const item of items) {
    batch += `${isFirst ? '[\n' : ',\n'}    ${text(shape(item), '    ')}`;
    isFirst = false;
    if (batch.length >= BATCH_CHARS) {
      yield batch;
      batch = '';
    }
    if (slicer.isOver) await slicer.pause();
  }
  yield batch + (isFirst ? '[]' : '\n  ]');
}

/** JSON whose lines after the first begin with `indent`. */
function text(value: unknown, indent: string): string {
  return JSON.stringify(sorted(value), undefined, 2).replaceAll('\n', `\n${indent}`);
}

function sorted(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return value.map(sorted);
  if (value instanceof Map) return sorted(Object.fromEntries(value));
  // Objects that know their own JSON (dates, secrets) keep it.
  if (typeof value !== 'object' || value === null || 'toJSON' in value) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, each]) => [key, sorted(each)]));
}
