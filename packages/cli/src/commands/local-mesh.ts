// What the commands of one machine share: whose mesh is meant, how its agent is asked, how a failure is said.
import {
  askJson,
  type ContainerView,
  LocalError,
  type LocalDirectories,
  localDirectories,
  localPaths,
  readUpStatus,
  type WorkloadView,
} from '@ambit/local';
import { errorText } from '@ambit/log';
import type { Output } from '../render/output.ts';
import { problemText } from '../render/problem.ts';

export interface MeshFlags {
  /** Both directories below this one. */
  readonly dir?: string;
  /** Of our own re-entry into a user's mesh: `dir` is its state, this the rest. */
  readonly runDir?: string;
}

export const uid = process.getuid?.() ?? 0;

/** How this very program is started. */
export function ambitCommand(): readonly string[] {
  return [process.execPath, process.argv[1] ?? ''];
}

/** An ordinary user's own mesh if it is up, else the machine's. */
export function directoriesOf({ dir, runDir }: MeshFlags): LocalDirectories {
  const of = (isRootless: boolean) => localDirectories({ dir, runDir, isRootless, env: process.env, uid });
  const own = of(true);
  return uid !== 0 && readUpStatus(localPaths(own).upStatus) !== undefined ? own : of(false);
}

/** @throws LocalError */
export async function askMesh(
  directories: LocalDirectories,
  method: string,
  path: string,
  body?: object,
): Promise<unknown> {
  // The agent itself waits up to 20 s until a workload is protected.
  return askJson(localPaths(directories).localSocket, method, path, body, 60_000);
}

export interface MeshListing {
  readonly workloads: readonly WorkloadView[];
  readonly containers: readonly ContainerView[];
}

/** @throws LocalError */
export async function listMesh(directories: LocalDirectories): Promise<MeshListing> {
  // Our own agent's words.
  return (await askMesh(directories, 'GET', '/v1/workloads')) as MeshListing;
}

/** @throws LocalError */
export async function listWorkloads(directories: LocalDirectories): Promise<readonly WorkloadView[]> {
  return (await listMesh(directories)).workloads;
}

/** `NAME` or `NAMESPACE/NAME`. @throws local.unknown_workload when none or several have it */
export async function findWorkload(directories: LocalDirectories, wanted: string): Promise<WorkloadView> {
  const all = await listWorkloads(directories);
  const found = all.filter(({ namespace, name }) => name === wanted || `${namespace}/${name}` === wanted);
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only;
  const names = (only === undefined ? all : found).map(({ namespace, name }) => `${namespace}/${name}`).join(', ');
  throw new LocalError(
    'local.unknown_workload',
    only === undefined ? `there is no workload ${wanted}` : `several workloads are called ${wanted}`,
    { next: names === '' ? 'nothing runs; start one: ambit run --name cart -- COMMAND' : `use one of: ${names}` },
  );
}

/** Says what failed. @returns the exit status for it */
export function tell(output: Output, error: unknown): number {
  if (!(error instanceof LocalError)) {
    output.remark(problemText({ message: errorText(error) }));
    return 1;
  }
  output.remark(problemText(error));
  if (error.code === 'local.argument') return 2;
  return error.code === 'local.not_up' || error.code === 'local.rights' ? 3 : 1;
}

/** `12 s`, `3 min`, `5 h`, `2 d`. */
export function ageText(since: string, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
