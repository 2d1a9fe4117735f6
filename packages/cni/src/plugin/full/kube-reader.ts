// Reads one pod and its namespace from the API server, for a program that lives a few milliseconds: two GETs with the
// credentials that an agent left. A kubeconfig is JSON (ours) or what Istio's agent writes, of which the few fields are picked
// line by line; anything else than one cluster and one token is refused rather than guessed at.
import { readFileSync } from 'node:fs';
import { request as requestHttp } from 'node:http';
import { request as requestHttps, type RequestOptions } from 'node:https';
import { errorText } from '@ambit/log';
import { CniError } from '../../errors.ts';
import type { AgentPod, PodNamespace } from '../../pod/agent-pod.ts';
import type { JsonObject } from '../cni-result.ts';

export interface KubeAccess {
  /** Such as `https://10.96.0.1:443`. */
  readonly server: string;
  readonly token: string;
  /** PEM; undefined: whatever the runtime trusts. */
  readonly ca: string | undefined;
  readonly verifiesTls: boolean;
}

const TIMEOUT_MS = 5000;
const MAX_BYTES = 4 * 1024 * 1024;
const FIELDS = ['server', 'token', 'certificate-authority-data', 'insecure-skip-tls-verify'] as const;
type Field = (typeof FIELDS)[number];

/** @throws CniError cni.kubernetes */
export function readKubeAccess(path: string): KubeAccess {
  let kubeconfig: string;
  try {
    kubeconfig = readFileSync(path, 'utf8');
  } catch (cause) {
    throw refused(path, `cannot read it: ${errorText(cause)}`, cause);
  }
  const fields = fieldsOf(kubeconfig);
  const [server, token] = [fields('server', path), fields('token', path)];
  if (server === undefined || token === undefined) throw refused(path, 'it has no server or no token');
  const ca = fields('certificate-authority-data', path);
  return {
    server,
    token,
    ca: ca === undefined ? undefined : Buffer.from(ca, 'base64').toString('utf8'),
    verifiesTls: fields('insecure-skip-tls-verify', path) !== 'true',
  };
}

/** @throws CniError cni.kubernetes; enrol.unknown_pod when there is no such pod or namespace */
export async function readPod(
  access: KubeAccess,
  namespace: string,
  name: string,
  signal: AbortSignal,
): Promise<{ readonly pod: AgentPod; readonly namespace: PodNamespace }> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}`;
  const [ns, pod] = await Promise.all([
    get(access, path, signal),
    get(access, `${path}/pods/${encodeURIComponent(name)}`, signal),
  ]);
  const [metadata, spec] = [record(pod['metadata']), record(pod['spec'])];
  return {
    namespace: { name: namespace, labels: texts(record(ns['metadata'])['labels']) },
    pod: {
      uid: text(metadata['uid']),
      name,
      namespace,
      serviceAccount: text(spec['serviceAccountName']) || 'default',
      labels: texts(metadata['labels']),
      annotations: texts(metadata['annotations']),
      hostNetwork: spec['hostNetwork'] === true,
      ips: [],
      phase: 'Pending',
      netnsPath: undefined,
    },
  };
}

function get(access: KubeAccess, path: string, signal: AbortSignal): Promise<JsonObject> {
  const { promise, resolve, reject } = Promise.withResolvers<JsonObject>();
  const url = new URL(path, access.server);
  const options: RequestOptions = {
    headers: { authorization: `Bearer ${access.token}`, accept: 'application/json' },
    timeout: TIMEOUT_MS,
    signal,
    rejectUnauthorized: access.verifiesTls,
    ...(access.ca !== undefined && { ca: access.ca }),
  };
  const request = url.protocol === 'http:' ? requestHttp : requestHttps;
  const fail = (cause: unknown) =>
    reject(new CniError('cni.kubernetes', `the API server at ${access.server}: ${errorText(cause)}`, { cause }));
  const sent = request(url, options, response => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BYTES) sent.destroy(new Error('the answer is too large'));
      else chunks.push(chunk);
    });
    response.on('error', fail);
    response.on('end', () => {
      try {
        resolve(answer(path, response.statusCode ?? 0, Buffer.concat(chunks).toString('utf8')));
      } catch (error) {
        reject(error);
      }
    });
  });
  sent.on('timeout', () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS / 1000} s`)));
  sent.on('error', fail);
  sent.end();
  return promise;
}

/** @throws CniError */
function answer(path: string, status: number, body: string): JsonObject {
  if (status === 404) throw new CniError('enrol.unknown_pod', `the API server has no ${path}`);
  if (status !== 200) {
    const next = status === 401 || status === 403 ? 'let the agent write its kubeconfig again' : undefined;
    throw new CniError(
      'cni.kubernetes',
      `the API server answers ${status} to ${path}`,
      next === undefined ? {} : { next },
    );
  }
  try {
    return record(JSON.parse(body));
  } catch (cause) {
    throw new CniError('cni.kubernetes', `the API server answers ${path} with something else than JSON`, { cause });
  }
}

/** Every field that we want stands once, wherever; twice would be a choice that is not ours. */
function fieldsOf(kubeconfig: string): (field: Field, path: string) => string | undefined {
  const found: [string, string][] = [];
  try {
    JSON.parse(kubeconfig, (key: string, value: unknown) => {
      if (typeof value === 'string' || typeof value === 'boolean') found.push([key, String(value)]);
      return value;
    });
  } catch {
    // Block YAML as Go writes it: `key: value`, perhaps quoted, perhaps first in a list's item.
    for (const [, key = '', value = ''] of kubeconfig.matchAll(/^[ \t-]*([a-z-]+):[ \t]+(.+?)[ \t\r]*$/gm)) {
      found.push([key, value.replace(/^(["'])(.*)\1$/, '$2')]);
    }
  }
  return (field, path) => {
    const values = found.filter(([key]) => key === field);
    if (values.length > 1) throw refused(path, `it has more than one ${field}`);
    return values[0]?.[1];
  };
}

function record(value: unknown): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function texts(value: unknown): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(record(value)).map(([key, each]) => [key, text(each)]));
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function refused(path: string, why: string, cause?: unknown): CniError {
  return new CniError('cni.kubernetes', `kubeconfig ${path}: ${why}`, {
    next: 'start the node agent, which writes it',
    ...(cause !== undefined && { cause }),
  });
}
