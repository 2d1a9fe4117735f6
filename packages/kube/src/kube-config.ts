// Where the API server is and how to show who we are. The pod's service account and ordinary kubeconfigs (tokens, files,
// client certificates) are read here, in a few hundred KiB; only what needs a plugin, an auth provider, a proxy or several
// merged files loads the official client, which costs a second and 90 MB.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import type { KubeEndpoint, Surroundings } from './endpoint.ts';
import { configError } from './errors.ts';
import { plainEndpoint, readKubeconfig } from './plain-kubeconfig.ts';
import { SERVICE_ACCOUNT_DIRECTORY, serviceAccountEndpoint } from './service-account.ts';

export interface KubeAccess {
  /** Path of a kubeconfig; undefined: `KUBECONFIG`, then `~/.kube/config`, then in-cluster. */
  readonly kubeconfig?: string | undefined;
  /** A context of the kubeconfig; undefined: its current one. */
  readonly context?: string | undefined;
  /** Use the pod's service account and nothing else. */
  readonly inCluster?: boolean | undefined;
}

export function ownSurroundings(): Surroundings {
  return { env: process.env, home: homedir(), serviceAccountDirectory: SERVICE_ACCOUNT_DIRECTORY };
}

/** @throws KubeError `kube.config` */
export async function loadKubeConfig(
  access: KubeAccess,
  surroundings: Surroundings = ownSurroundings(),
): Promise<KubeEndpoint> {
  const { env } = surroundings;
  const isInCluster = (env['KUBERNETES_SERVICE_HOST'] ?? '') !== '';
  if (access.inCluster === true) {
    if (!isInCluster) throw configError('not in a cluster: KUBERNETES_SERVICE_HOST is not set');
    return serviceAccountEndpoint(surroundings);
  }
  const files = access.kubeconfig === undefined ? defaultFiles(surroundings) : [access.kubeconfig];
  const [file, ...more] = files;
  if (file === undefined) {
    if (isInCluster) return serviceAccountEndpoint(surroundings);
    throw configError('there is no kubeconfig: neither KUBECONFIG nor ~/.kube/config, and this is no pod');
  }
  if (more.length === 0) {
    const plain = plainEndpoint(await readKubeconfig(file), path.dirname(file), access.context);
    if (plain !== undefined) return plain;
  }
  const { officialEndpoint } = await import('./official-endpoint.ts');
  return await officialEndpoint(files, access.context);
}

function defaultFiles({ env, home }: Surroundings): readonly string[] {
  // Files of the list that are missing are left out, as kubectl does.
  const named = (env['KUBECONFIG'] ?? '').split(path.delimiter).filter(file => file !== '');
  if (named.length === 1) return named;
  if (named.length > 1) return named.filter(file => existsSync(file));
  const usual = path.join(home, '.kube', 'config');
  return existsSync(usual) ? [usual] : [];
}
