// Keeps the mesh's root certificates (and its revocation list) in a ConfigMap of every namespace, where pods mount them,
// as istiod does. Writes only what differs, retries with back-off for as long as it takes, and looks again from time to
// time for what somebody changed or deleted (no watch: that would need rights on all ConfigMaps). Learns of namespaces
// from the changes of a source.
import type { Diagnostic } from '../diagnostic.ts';
import { asObject, at, Backoff, codeOf, jitter, type KubeClient, KubeError, mapAt, refusalOf } from '@ambit/kube';
import { errorText, type Log } from '@ambit/log';
import type { ObjectChange } from '../objects/types.ts';

export interface ConfigMapWriterOptions {
  readonly client: KubeClient;
  readonly log: Log;
  /** How often everything is looked at again. Default 10 min, with jitter. */
  readonly resyncMs?: number;
  readonly retryMinMs?: number;
  readonly retryMaxMs?: number;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface PublishedTrust {
  /** PEM of all roots. */
  readonly rootCert: string;
  /** PEM of all lists; undefined: there is none to publish (one that was published stays). */
  readonly crl: string | undefined;
}

export interface ConfigMapWriter {
  /** What to keep everywhere, from now on. */
  publish(trust: PublishedTrust): void;
  /** Feed it the changes of a source; only Namespaces matter. */
  observe(changes: readonly ObjectChange[]): void;
  /** What could not be written, and why. */
  problems(): readonly Diagnostic[];
  /** Resolves when nothing is left to write or retry. */
  idle(): Promise<void>;
  close(): Promise<void>;
}

/** Nothing of the mesh runs there, and kube-node-lease is written to all the time. */
const EXCLUDED = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);
const LABEL = 'istio.io/config';
const CONCURRENCY = 4;

export function createConfigMapWriter(options: ConfigMapWriterOptions): ConfigMapWriter {
  const { client, log, resyncMs = 600_000, retryMinMs = 500, retryMaxMs = 30_000, random = Math.random } = options;
  const namespaces = new Map<string, { readonly backoff: Backoff; retry: NodeJS.Timeout | undefined }>();
  const queue = new Set<string>();
  const failures = new Map<string, Diagnostic>();
  const running = new Set<Promise<void>>();
  const closing = new AbortController();
  let waiters: (() => void)[] = [];
  let trust: PublishedTrust | undefined;
  let resync: NodeJS.Timeout | undefined;

  const isIdle = (): boolean => queue.size === 0 && running.size === 0 && failures.size === 0;

  const pump = (): void => {
    for (const namespace of queue) {
      if (trust === undefined || running.size >= CONCURRENCY || closing.signal.aborted) break;
      queue.delete(namespace);
      const work: Promise<void> = keep(namespace, trust).finally(() => {
        running.delete(work);
        pump();
      });
      running.add(work);
    }
    if (!isIdle()) return;
    const told = waiters;
    waiters = [];
    for (const tell of told) tell();
  };

  const keep = async (namespace: string, wanted: PublishedTrust): Promise<void> => {
    const entry = namespaces.get(namespace);
    if (entry === undefined) return;
    try {
      await writeConfigMap(
        client,
        namespace,
        'istio-ca-root-cert',
        { 'root-cert.pem': wanted.rootCert },
        closing.signal,
      );
      if (wanted.crl !== undefined) {
        await writeConfigMap(client, namespace, 'istio-ca-crl', { 'ca-crl.pem': wanted.crl }, closing.signal);
      }
      failures.delete(namespace);
      entry.backoff.reset();
    } catch (error) {
      if (closing.signal.aborted || namespaces.get(namespace) !== entry) return;
      if (!failures.has(namespace)) log.warn('Roots not published', { namespace, cause: errorText(error) });
      failures.set(namespace, failure(namespace, error));
      clearTimeout(entry.retry);
      entry.retry = setTimeout(() => enqueue(namespace), entry.backoff.next());
    }
  };

  const enqueue = (namespace: string): void => {
    queue.add(namespace);
    pump();
  };

  const scheduleResync = (): void => {
    resync = setTimeout(
      () => {
        for (const namespace of namespaces.keys()) queue.add(namespace);
        pump();
        scheduleResync();
      },
      jitter(resyncMs, random),
    ).unref();
  };
  scheduleResync();

  const forget = (namespace: string): void => {
    clearTimeout(namespaces.get(namespace)?.retry);
    namespaces.delete(namespace);
    queue.delete(namespace);
    failures.delete(namespace);
    pump();
  };

  return {
    publish(next) {
      if (trust?.rootCert === next.rootCert && trust.crl === next.crl) return;
      trust = next;
      for (const namespace of namespaces.keys()) queue.add(namespace);
      pump();
    },
    observe(changes) {
      for (const { ref, object } of changes) {
        if (ref.kind !== 'Namespace' || EXCLUDED.has(ref.name)) continue;
        // Nothing can be created in a namespace that is on its way out.
        if (object === undefined || object.metadata.isDeleting) forget(ref.name);
        else if (!namespaces.has(ref.name)) {
          const backoff = new Backoff({ minMs: retryMinMs, maxMs: retryMaxMs, random });
          namespaces.set(ref.name, { backoff, retry: undefined });
          enqueue(ref.name);
        }
      }
    },
    problems: () => [...failures.values()],
    async idle() {
      if (isIdle()) return;
      await new Promise<void>(resolve => {
        waiters.push(resolve);
      });
    },
    async close() {
      closing.abort();
      clearTimeout(resync);
      for (const { retry } of namespaces.values()) clearTimeout(retry);
      await Promise.all(running);
    },
  };
}

/** Creates or mends one ConfigMap; foreign keys and labels in it are kept. */
async function writeConfigMap(
  client: KubeClient,
  namespace: string,
  name: string,
  data: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const collection = `/api/v1/namespaces/${encodeURIComponent(namespace)}/configmaps`;
  const path = `${collection}/${name}`;
  const found = await client.request({ path, signal });
  if (found.status === 404) {
    const metadata = { name, namespace, labels: { [LABEL]: 'true' } };
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data };
    const made = await client.request({ method: 'POST', path: collection, body, signal });
    if (made.status !== 201) throw refusal(`create configmap ${namespace}/${name}`, made.status, made.body);
    return;
  }
  if (found.status !== 200) throw refusal(`read configmap ${namespace}/${name}`, found.status, found.body);
  const present = mapAt(found.body, 'data');
  const labels = mapAt(found.body, 'metadata', 'labels');
  const isRight = labels[LABEL] === 'true' && Object.entries(data).every(([key, value]) => present[key] === value);
  if (isRight) return;
  const whole = {
    ...asObject(found.body),
    metadata: { ...asObject(at(found.body, 'metadata')), labels: { ...labels, [LABEL]: 'true' } },
    data: { ...present, ...data },
  };
  const put = await client.request({ method: 'PUT', path, body: whole, signal });
  if (put.status !== 200) throw refusal(`update configmap ${namespace}/${name}`, put.status, put.body);
}

function refusal(what: string, status: number, body: unknown): KubeError {
  return new KubeError(codeOf(status), `cannot ${what}: ${refusalOf(status, body).message}`);
}

function failure(namespace: string, error: unknown): Diagnostic {
  return {
    code: error instanceof KubeError ? error.code : 'kube.failed',
    severity: 'error',
    message: `the mesh's roots are not published in namespace ${namespace}: ${errorText(error)}`,
    remedy: 'allow get, create and update on configmaps; it is tried again',
  };
}
