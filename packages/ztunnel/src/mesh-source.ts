// The mesh from a local file or a text in the environment. Alone, the file is watched and each version replaces all that
// was known; beside a control plane it is read once at the start, as upstream, because the control plane adds to it.
import { readFile } from 'node:fs/promises';
import { type MeshState, policyKey } from '@ambit/mesh';
import type { Config } from './config.ts';
import { FileSource } from './local-config/file-source.ts';
import { readLocalConfigRemotely } from './local-config/read-remotely.ts';
import type { LocalMesh } from './local-config/reader.ts';
import { Bare, type Logger } from './log.ts';

export interface MeshSourceDeps {
  readonly state: MeshState;
  readonly log: Logger;
  /** After the state was replaced by a new version. */
  readonly onChange: () => void;
}

/** Stops watching. */
export type StopWatching = () => void;

/** Loads the first version. @throws config.invalid */
export async function loadMesh(
  deps: MeshSourceDeps,
  { localConfig, xds }: Pick<Config, 'localConfig' | 'xds'>,
): Promise<StopWatching> {
  if (localConfig === undefined) {
    if (xds === undefined) deps.log.warn('No mesh is configured: every connection passes through in plain text');
    return () => undefined;
  }
  if (localConfig.kind === 'inline') {
    apply(deps, await readLocalConfigRemotely(localConfig.text, 'LOCAL_XDS'));
    return () => undefined;
  }
  const { path } = localConfig;
  const source = new FileSource(
    {
      read: readLocalConfigRemotely,
      onMesh: mesh => {
        apply(deps, mesh);
        deps.onChange();
      },
      onError: error =>
        deps.log.error('The local configuration cannot be used, the last good one stays', [
          ['path', new Bare(path)],
          ['error', error.message],
          ['err.code', error.code],
        ]),
    },
    { path },
  );
  apply(deps, await source.start());
  if (xds !== undefined) {
    source.stop();
    return () => undefined;
  }
  return () => source.stop();
}

/** The local configuration as it is written now, whether or not it is in use; undefined when there is none. @throws config.invalid */
export async function readStaticMesh({ localConfig }: Pick<Config, 'localConfig'>): Promise<LocalMesh | undefined> {
  if (localConfig === undefined) return undefined;
  if (localConfig.kind === 'inline') return await readLocalConfigRemotely(localConfig.text, 'LOCAL_XDS');
  return await readLocalConfigRemotely(await readFile(localConfig.path, 'utf8'), localConfig.path);
}

function apply({ state, log }: MeshSourceDeps, { workloads, services, policies }: LocalMesh): void {
  state.replaceAll({
    workloads,
    services,
    policies: policies.map(policy => ({ key: policyKey(policy), policy })),
  });
  log.info('local config initialized', [
    ['num_workloads', workloads.length],
    ['num_policies', policies.length],
  ]);
}
