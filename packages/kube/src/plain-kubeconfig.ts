// Kubeconfigs of the ordinary sort: one file; a token, a token file, a client certificate, a password or nothing.
// https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. What a file names (tokens, certificates) is read for
// every request, since it is rotated. Everything else (plugins, auth providers, impersonation, proxies) is not read here.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { errorText } from '@ambit/log';
import { configError, KubeError } from './errors.ts';
import { at, isObject, type JsonObject, listAt, textAt } from './json.ts';
import type { Authorization, KubeEndpoint } from './endpoint.ts';
import { serverAddress } from './server-address.ts';
import { parseYamlText } from './yaml-text.ts';

/** Of a user or a cluster: whoever has one of these needs the official client. */
const NOT_PLAIN_OF_USER = ['exec', 'auth-provider', 'as', 'as-uid', 'as-groups', 'as-user-extra'];

/** @throws KubeError `kube.config` */
export async function readKubeconfig(file: string): Promise<JsonObject> {
  let value: unknown;
  try {
    value = await parseYamlText(await readFile(file, 'utf8'));
  } catch (error) {
    throw configError(`cannot read the kubeconfig ${file}: ${errorText(error)}`, error);
  }
  if (!isObject(value)) throw configError(`cannot read the kubeconfig ${file}: it holds no object`);
  return value;
}

/**
 * @param directory of the file, to which paths in it are relative
 * @returns undefined when it takes the official client
 * @throws KubeError `kube.config`
 */
export function plainEndpoint(
  config: JsonObject,
  directory: string,
  contextName: string | undefined,
): KubeEndpoint | undefined {
  const context = contextOf(config, contextName);
  const cluster = entry(config, 'clusters', 'cluster', textAt(context, 'cluster'));
  if (cluster === undefined) throw configError('the kubeconfig names no cluster for its current context');
  const user = entry(config, 'users', 'user', textAt(context, 'user')) ?? {};
  if (textAt(cluster, 'proxy-url') !== '' || NOT_PLAIN_OF_USER.some(key => Object.hasOwn(user, key))) return undefined;
  const skipsVerification = at(cluster, 'insecure-skip-tls-verify') === true;
  const server = serverAddress(textAt(cluster, 'server'), skipsVerification);
  const servername = textAt(cluster, 'tls-server-name');
  const read = async (object: JsonObject, key: string): Promise<string | undefined> =>
    await materialOf(object, key, directory);
  return {
    server,
    async authorize(): Promise<Authorization> {
      const [ca, cert, key, header] = await Promise.all([
        skipsVerification ? undefined : read(cluster, 'certificate-authority'),
        read(user, 'client-certificate'),
        read(user, 'client-key'),
        authorizationOf(user, directory),
      ]);
      return {
        headers: header === undefined ? {} : { Authorization: header },
        tls: {
          ca,
          cert,
          key,
          servername: servername === '' ? undefined : servername,
          rejectUnauthorized: !skipsVerification,
        },
        proxyAgent: undefined,
      };
    },
  };
}

function contextOf(config: JsonObject, wanted: string | undefined): JsonObject {
  const context = entry(config, 'contexts', 'context', wanted ?? textAt(config, 'current-context'));
  if (context !== undefined) return context;
  if (wanted === undefined) throw configError('the kubeconfig names no cluster for its current context');
  const known = listAt(config, 'contexts').map(item => textAt(item, 'name'));
  throw configError(`the kubeconfig has no context "${wanted}"; it has: ${known.join(', ') || 'none'}`);
}

function entry(config: JsonObject, list: string, member: string, name: string): JsonObject | undefined {
  const found = listAt(config, list).find(item => textAt(item, 'name') === name);
  const value = at(found, member);
  return isObject(value) ? value : undefined;
}

/** As client-go: a token file goes before a token, and either before a password. */
async function authorizationOf(user: JsonObject, directory: string): Promise<string | undefined> {
  const file = textAt(user, 'tokenFile');
  const token = file === '' ? textAt(user, 'token') : await readText(path.resolve(directory, file));
  if (token.trim() !== '') return `Bearer ${token.trim()}`;
  const name = textAt(user, 'username');
  return name === '' ? undefined : `Basic ${Buffer.from(`${name}:${textAt(user, 'password')}`).toString('base64')}`;
}

/** `KEY-data` in base64, or else the file that `KEY` names. */
async function materialOf(object: JsonObject, key: string, directory: string): Promise<string | undefined> {
  const data = textAt(object, `${key}-data`);
  if (data !== '') return Buffer.from(data, 'base64').toString('utf8');
  const file = textAt(object, key);
  return file === '' ? undefined : await readText(path.resolve(directory, file));
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new KubeError('kube.credentials', `cannot read ${file}, which the kubeconfig names: ${errorText(error)}`, {
      cause: error,
      next: 'check the user of the kubeconfig: its token file or certificate',
    });
  }
}
