// One Secret of the cluster, read and replaced as a whole with optimistic concurrency: of two who write from the same
// version, one is told that it lost. Keys of the Secret that the writer does not name are kept.
import { asObject, at, type KubeClient, KubeError, type KubeResponse, mapAt, refusalError, textAt } from '@ambit/kube';

export interface SecretContents {
  readonly data: Readonly<Record<string, Uint8Array>>;
  /** Opaque; names this state of the Secret. */
  readonly resourceVersion: string;
}

export type SecretWrite =
  | { readonly kind: 'saved'; readonly contents: SecretContents }
  /** Somebody else was first; this is what is there now (undefined: it was deleted meanwhile). Nothing was changed. */
  | { readonly kind: 'conflict'; readonly current: SecretContents | undefined };

export interface SecretStore {
  /** For people: `secret istio-system/istio-ca-secret`. */
  readonly name: string;
  /** @throws KubeError `kube.*` */
  get(): Promise<SecretContents | undefined>;
  /** Only where there is none. @throws KubeError `kube.*` */
  create(data: SecretContents['data']): Promise<SecretWrite>;
  /** Only while the Secret is as `previous` says. @throws KubeError `kube.*` */
  update(data: SecretContents['data'], previous: SecretContents): Promise<SecretWrite>;
}

export interface SecretStoreOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  /** Of a Secret that is created. Default `istio.io/ca-root`, as upstream's `istio-ca-secret`. */
  readonly type?: string;
}

export function createSecretStore({
  client,
  namespace,
  name,
  type = 'istio.io/ca-root',
}: SecretStoreOptions): SecretStore {
  const collection = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
  const path = `${collection}/${encodeURIComponent(name)}`;
  const label = `secret ${namespace}/${name}`;

  const read = async (): Promise<KubeResponse | undefined> => {
    const response = await client.request({ path });
    if (response.status === 404) return undefined;
    if (response.status !== 200) throw refusalError(`read ${label}`, response.status, response.body);
    return response;
  };
  const get = async (): Promise<SecretContents | undefined> => {
    const response = await read();
    return response === undefined ? undefined : contentsOf(response.body, label);
  };
  const saved = (body: unknown): SecretWrite => ({ kind: 'saved', contents: contentsOf(body, label) });

  return {
    name: label,
    get,
    async create(data) {
      const metadata = { name, namespace };
      const body = { apiVersion: 'v1', kind: 'Secret', type, metadata, data: encoded(data) };
      const response = await client.request({ method: 'POST', path: collection, body });
      if (response.status === 409) return { kind: 'conflict', current: await get() };
      if (response.status !== 201) throw refusalError(`create ${label}`, response.status, response.body);
      return saved(response.body);
    },
    async update(data, previous) {
      const current = await read();
      if (current === undefined || textAt(current.body, 'metadata', 'resourceVersion') !== previous.resourceVersion) {
        return { kind: 'conflict', current: current === undefined ? undefined : contentsOf(current.body, label) };
      }
      // The whole object goes back, with its version: labels, owners and foreign keys stay, and a writer who came in
      // between makes this one fail.
      const whole = { ...asObject(current.body), data: { ...mapAt(current.body, 'data'), ...encoded(data) } };
      const response = await client.request({ method: 'PUT', path, body: whole });
      if (response.status === 409 || response.status === 404) return { kind: 'conflict', current: await get() };
      if (response.status !== 200) throw refusalError(`update ${label}`, response.status, response.body);
      return saved(response.body);
    },
  };
}

function contentsOf(body: unknown, label: string): SecretContents {
  const resourceVersion = textAt(body, 'metadata', 'resourceVersion');
  if (at(body, 'metadata') === undefined || resourceVersion === '') {
    throw new KubeError('kube.bad_response', `the API server's answer for ${label} is no Secret`);
  }
  const data = Object.entries(mapAt(body, 'data')).map(([key, value]) => [key, Buffer.from(value, 'base64')] as const);
  return { data: Object.fromEntries(data), resourceVersion };
}

function encoded(data: SecretContents['data']): Record<string, string> {
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]));
}
