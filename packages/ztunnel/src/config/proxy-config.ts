// The optional mesh file (`./etc/istio/config/mesh`) and `PROXY_CONFIG`, as far as this proxy uses them: `concurrency`,
// `discoveryAddress`, `proxyAdminPort`, `statsPort` and `proxyMetadata` of `defaultConfig`. Unlike upstream an object without `proxyMetadata` is fine.
// The YAML library is loaded only when there is something to read.
import { readFile } from 'node:fs/promises';
import { errorText, ZtunnelError } from '../errors.ts';
import type { Environment } from './env-reader.ts';

export interface ProxyConfig {
  readonly concurrency: number | undefined;
  readonly discoveryAddress: string | undefined;
  readonly proxyAdminPort?: number | undefined;
  readonly statsPort?: number | undefined;
  /** Later ones over earlier ones. */
  readonly proxyMetadata?: readonly (readonly [key: string, value: string])[] | undefined;
}

/** Upstream's path is relative too: the working directory of a container is `/`. */
const MESH_FILE = './etc/istio/config/mesh';
const MAX_BYTES = 1 << 20;
const NOTHING: ProxyConfig = { concurrency: undefined, discoveryAddress: undefined };

/** Mesh file first, then `PROXY_CONFIG` over it. A missing mesh file is fine. @throws config.invalid */
export async function readProxyConfig(env: Environment, meshFile = MESH_FILE): Promise<ProxyConfig> {
  const fromFile = await parse(await readMeshFile(meshFile), meshFile, 'defaultConfig');
  const fromEnv = await parse(env['PROXY_CONFIG'], 'PROXY_CONFIG', undefined);
  return {
    concurrency: fromEnv.concurrency ?? fromFile.concurrency,
    discoveryAddress: fromEnv.discoveryAddress ?? fromFile.discoveryAddress,
    ...present('proxyAdminPort', fromEnv.proxyAdminPort ?? fromFile.proxyAdminPort),
    ...present('statsPort', fromEnv.statsPort ?? fromFile.statsPort),
    ...present('proxyMetadata', merge(fromFile.proxyMetadata, fromEnv.proxyMetadata)),
  };
}

async function readMeshFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) {
      return undefined;
    }
    throw new ZtunnelError('config.invalid', `cannot read ${path}: ${errorText(cause)}`, { cause });
  }
}

async function parse(text: string | undefined, where: string, key: string | undefined): Promise<ProxyConfig> {
  if (text === undefined || text.trim() === '') return NOTHING;
  if (text.length > MAX_BYTES) throw new ZtunnelError('config.invalid', `${where} is larger than ${MAX_BYTES} bytes`);
  const { parse: parseYaml } = await import('yaml');
  let root: unknown;
  try {
    root = parseYaml(text, { maxAliasCount: 0 });
  } catch (cause) {
    throw new ZtunnelError('config.invalid', `${where} is not YAML: ${errorText(cause)}`, { cause });
  }
  const object = key === undefined ? root : isRecord(root) ? root[key] : undefined;
  if (object === undefined || object === null) return NOTHING;
  if (!isRecord(object)) throw new ZtunnelError('config.invalid', `${where}: expected a mapping`);
  return {
    concurrency: optionalCount(object['concurrency'], where),
    discoveryAddress: optionalText(object['discoveryAddress'], where),
    proxyAdminPort: optionalPort(object, 'proxyAdminPort', where),
    statsPort: optionalPort(object, 'statsPort', where),
    proxyMetadata: optionalTexts(object['proxyMetadata'], where),
  };
}

function present<K extends string, V>(key: K, value: V | undefined): Partial<Record<K, V>> {
  // A computed key of a generic type is what the compiler cannot follow.
  return value === undefined ? {} : ({ [key]: value } as Record<K, V>);
}

function merge(...lists: readonly ProxyConfig['proxyMetadata'][]): ProxyConfig['proxyMetadata'] {
  const all = lists.flatMap(list => list ?? []);
  return all.length === 0 ? undefined : all;
}

function optionalPort(
  object: Readonly<Record<string, unknown>>,
  key: 'proxyAdminPort' | 'statsPort',
  where: string,
): number | undefined {
  const value = object[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= 0xffff) return value;
  throw new ZtunnelError('config.invalid', `${where}: ${key} must be a port`);
}

function optionalTexts(value: unknown, where: string): ProxyConfig['proxyMetadata'] {
  if (value === undefined || value === null) return undefined;
  if (!isRecord(value)) throw new ZtunnelError('config.invalid', `${where}: proxyMetadata must be a mapping`);
  return Object.entries(value).map(([key, text]) => {
    if (typeof text === 'string') return [key, text] as const;
    throw new ZtunnelError('config.invalid', `${where}: proxyMetadata.${key} must be text`);
  });
}

function optionalCount(value: unknown, where: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 1024) return value;
  throw new ZtunnelError('config.invalid', `${where}: concurrency must be a whole number from 0 to 1024`);
}

function optionalText(value: unknown, where: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  throw new ZtunnelError('config.invalid', `${where}: discoveryAddress must be text`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
