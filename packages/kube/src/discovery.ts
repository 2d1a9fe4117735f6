// Which version of a resource the API server serves, if any: https://kubernetes.io/docs/concepts/overview/kubernetes-api/
// Answers are shared for a short while, because many resources of one group ask at the same time.
import type { KubeClient, KubeResponse } from './kube-client.ts';
import { refusalError } from './refusal.ts';
import { listAt, textAt } from './json.ts';
import type { ResourceType } from './resource-type.ts';

/** `absent`: the group, or the resource in it, is not served: its CRD is not installed. */
export type Served = { readonly kind: 'served'; readonly version: string } | { readonly kind: 'absent' };

export interface Discovery {
  /** @throws KubeError of the client, or `kube.refused` and its kin when the server does not answer the question */
  find(type: ResourceType, signal: AbortSignal): Promise<Served>;
}

export interface DiscoveryOptions {
  readonly client: KubeClient;
  /** How long an answer is shared. */
  readonly shareMs: number;
}

export function createDiscovery({ client, shareMs }: DiscoveryOptions): Discovery {
  const shared = new Map<string, { readonly at: number; readonly response: Promise<KubeResponse> }>();

  const get = async (path: string): Promise<KubeResponse> => {
    const known = shared.get(path);
    if (known !== undefined && performance.now() - known.at < shareMs) return await known.response;
    // Shared by several askers, so none of their signals ends it; the client's deadline does.
    const response = client.request({ path });
    shared.set(path, { at: performance.now(), response });
    response.catch(() => shared.delete(path)); // an error is not an answer
    return await response;
  };

  return {
    async find(type, signal) {
      // The core group has had one version since 2015.
      if (type.group === '') return { kind: 'served', version: type.versions[0] };
      const group = await get(`/apis/${type.group}`);
      signal.throwIfAborted();
      if (group.status === 404) return { kind: 'absent' };
      // Whoever may not ask may still list: take the newest version at its word.
      if (group.status === 403) return { kind: 'served', version: type.versions[0] };
      if (group.status !== 200) throw refusalError(`describe ${type.group}`, group.status, group.body);
      for (const version of orderedVersions(type, group.body)) {
        const resources = await get(`/apis/${type.group}/${version}`);
        signal.throwIfAborted();
        if (resources.status === 404) continue;
        if (resources.status !== 200)
          throw refusalError(`describe ${type.group}/${version}`, resources.status, resources.body);
        if (listAt(resources.body, 'resources').some(item => textAt(item, 'name') === type.plural)) {
          return { kind: 'served', version };
        }
      }
      return { kind: 'absent' };
    },
  };
}

/** Versions that are served and that we read: the server's preferred one first, then in our order. */
function orderedVersions(type: ResourceType, group: unknown): readonly string[] {
  const served = new Set(listAt(group, 'versions').map(item => textAt(item, 'version')));
  const preferred = textAt(group, 'preferredVersion', 'version');
  const readable = type.versions.filter(version => served.has(version));
  return readable.includes(preferred) ? [preferred, ...readable.filter(version => version !== preferred)] : readable;
}
