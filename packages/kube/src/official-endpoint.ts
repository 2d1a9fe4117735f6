// Access through the official client's KubeConfig, for what only it knows: exec plugins, auth providers, proxies and several
// files merged into one. Never imported before one of those is asked for. Connections are not its business even then: its
// own watch has no bookmarks, paging or bounds (see docs/dependencies.md).
import path from 'node:path';
import type { Agent, RequestOptions } from 'node:https';
import { errorText } from '@ambit/log';
import { KubeConfig } from '@kubernetes/client-node';
import { configError, KubeError } from './errors.ts';
import type { KubeEndpoint } from './endpoint.ts';
import { serverAddress } from './server-address.ts';

/** @throws KubeError `kube.config` */
export async function officialEndpoint(files: readonly string[], context: string | undefined): Promise<KubeEndpoint> {
  const config = new KubeConfig();
  try {
    for (const [i, file] of files.entries()) {
      if (i === 0) {
        config.loadFromFile(file);
        continue;
      }
      const next = new KubeConfig();
      next.loadFromFile(file);
      // The first file that says which context is current is right, as for kubectl.
      config.mergeConfig(next, (config.getCurrentContext() ?? '') !== '');
    }
  } catch (error) {
    throw configError(`cannot read the kubeconfig ${files.join(path.delimiter)}: ${errorText(error)}`, error);
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      const known = config.getContexts().map(({ name }) => name);
      throw configError(`the kubeconfig has no context "${context}"; it has: ${known.join(', ') || 'none'}`);
    }
    config.setCurrentContext(context);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw configError('the kubeconfig names no cluster for its current context');
  const server = serverAddress(cluster.server, cluster.skipTLSVerify);
  // The library reads CA and keys only when there is a user; a cluster without one is legal.
  if (config.getCurrentUser() === null)
    config.addUser({ name: config.getContextObject(config.getCurrentContext())?.user ?? '' });
  const hasProxy = cluster.proxyUrl !== undefined && cluster.proxyUrl !== '';

  return {
    server,
    async authorize() {
      const headers: Record<string, string> = {};
      const options: RequestOptions = { headers };
      try {
        await config.applyToHTTPSOptions(options);
      } catch (error) {
        throw new KubeError('kube.credentials', `no credentials for ${cluster.server}: ${errorText(error)}`, {
          cause: error,
          next: 'check the user of the kubeconfig: its plugin, token file or certificate',
        });
      }
      if (typeof options.auth === 'string')
        headers['Authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`;
      return {
        headers: trimmed(headers),
        tls: {
          ca: material(options.ca),
          cert: material(options.cert),
          key: material(options.key),
          servername: options.servername,
          rejectUnauthorized: !cluster.skipTLSVerify,
        },
        proxyAgent: hasProxy && typeof options.agent === 'object' ? (options.agent as Agent) : undefined,
      };
    },
  };
}

/** Token files end in a newline often enough; a header value may not. */
function trimmed(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.trim()]));
}

function material(value: unknown): string | Buffer | undefined {
  return typeof value === 'string' || Buffer.isBuffer(value) ? value : undefined;
}
