// Where the mesh comes from in this version: a watched local file, a text in the environment, or nowhere (then nothing
// is known and all traffic passes through in plain text, as upstream without a control plane). There is no xDS client
// yet, so a control plane that somebody asked for is refused instead of silently not followed.
import { type MeshState, policyKey } from '@ambit/mesh';
import type { Config } from './config.ts';
import { ZtunnelError } from './errors.ts';
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

/** Loads the first version. @throws config.invalid, config.unsupported */
export async function loadMesh(
  deps: MeshSourceDeps,
  { localConfig, xdsAddress, sources }: Pick<Config, 'localConfig' | 'xdsAddress' | 'sources'>,
): Promise<StopWatching> {
  const isXdsAskedFor = xdsAddress !== undefined && sources.get('XDS_ADDRESS') !== 'default';
  if (isXdsAskedFor || (xdsAddress !== undefined && localConfig === undefined)) {
    throw new ZtunnelError('config.unsupported', `this version cannot follow the control plane at ${xdsAddress}`, {
      hint: 'set XDS_ADDRESS to the empty text and give the mesh as LOCAL_XDS_PATH',
    });
  }
  if (localConfig === undefined) {
    deps.log.warn('No mesh is configured: every connection passes through in plain text');
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
  return () => source.stop();
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
