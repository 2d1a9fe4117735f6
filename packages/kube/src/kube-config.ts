// Where the API server is and how to show who we are: kubeconfig files (contexts, exec plugins, client certificates,
// tokens, proxies) and the in-cluster service account, all through the official client's KubeConfig. The library is
// loaded on first use: it costs a second and 90 MB, which only a control plane that reads Kubernetes should pay.
// Connections are not its business here: its own watch has no bookmarks, paging or bounds (see docs/dependencies.md).
import type { RequestOptions, Agent } from 'node:https';
import { errorText } from '@ambit/log';
import { KubeError } from './errors.ts';

export interface KubeAccess {
  /** Path of a kubeconfig; undefined: `KUBECONFIG`, then `~/.kube/config`, then in-cluster. */
  readonly kubeconfig?: string | undefined;
  /** A context of the kubeconfig; undefined: its current one. */
  readonly context?: string | undefined;
  /** Use the pod's service account and nothing else. */
  readonly inCluster?: boolean | undefined;
}

/** What one request needs to be let in. Certificates may be rotated between two calls. */
export interface Authorization {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsMaterial;
  /** An agent that goes through the configured proxy; undefined: connect directly. */
  readonly proxyAgent: Agent | undefined;
}

export interface TlsMaterial {
  readonly ca: string | Buffer | undefined;
  readonly cert: string | Buffer | undefined;
  readonly key: string | Buffer | undefined;
  readonly servername: string | undefined;
  readonly rejectUnauthorized: boolean;
}

export interface KubeEndpoint {
  /** Base address; may have a path. */
  readonly server: URL;
  /** @throws KubeError `kube.credentials` when there are none to be had (a plugin failed, a file is gone) */
  authorize(): Promise<Authorization>;
}

/** @throws KubeError `kube.config` */
export async function loadKubeConfig(access: KubeAccess): Promise<KubeEndpoint> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    if (access.inCluster === true) loadInCluster(config);
    else if (access.kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(access.kubeconfig);
  } catch (error) {
    if (error instanceof KubeError) throw error;
    throw configError(`cannot read the kubeconfig ${access.kubeconfig ?? '(default)'}: ${errorText(error)}`, error);
  }
  if (access.context !== undefined) {
    if (config.getContextObject(access.context) === null) {
      const known = config.getContexts().map(context => context.name);
      throw configError(`the kubeconfig has no context "${access.context}"; it has: ${known.join(', ') || 'none'}`);
    }
    config.setCurrentContext(access.context);
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw configError('the kubeconfig names no cluster for its current context');
  const server = URL.parse(cluster.server);
  if (server === null || (server.protocol !== 'https:' && server.protocol !== 'http:')) {
    throw configError(`"${cluster.server}" is no address of an API server`);
  }
  // The library reads CA and keys only when there is a user; a cluster without one is legal.
  if (config.getCurrentUser() === null)
    config.addUser({ name: config.getContextObject(config.getCurrentContext())?.user ?? '' });
  if (server.protocol === 'http:' && !cluster.skipTLSVerify) {
    throw configError(`${cluster.server} is not encrypted; set insecure-skip-tls-verify if that is meant`);
  }
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

function loadInCluster(config: { loadFromCluster(): void }): void {
  if ((process.env['KUBERNETES_SERVICE_HOST'] ?? '') === '') {
    throw configError('not in a cluster: KUBERNETES_SERVICE_HOST is not set');
  }
  config.loadFromCluster();
}

function configError(message: string, cause?: unknown): KubeError {
  return new KubeError('kube.config', message, { cause, next: 'name a kubeconfig and a context that exist' });
}

/** Token files end in a newline often enough; a header value may not. */
function trimmed(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.trim()]));
}

function material(value: unknown): string | Buffer | undefined {
  return typeof value === 'string' || Buffer.isBuffer(value) ? value : undefined;
}
