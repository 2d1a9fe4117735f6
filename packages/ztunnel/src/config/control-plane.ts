// How the node reaches its control plane and CA: addresses, roots, names, credentials, and what it says of itself, under
// upstream's variables. Unlike upstream a path that names nothing is never taken for inline PEM or for a literal token, and
// plain http is allowed to this machine only. What is a secret is wrapped, so that no dump shows it.
import { isLoopback, parseIp } from '@ambit/mesh';
import type { EnvReader, Environment } from './env-reader.ts';
import type { ProxyConfig } from './proxy-config.ts';
import { Secret } from './secret.ts';

/** Where root certificates come from; a file is read at each connect and may appear later. */
export type RootSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'pem'; readonly pem: string }
  | { readonly kind: 'system' };

/** A file is read for each call. */
export type TokenSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'literal'; readonly token: Secret };

/** One server of the control plane. */
export interface ControlPlaneServer {
  /** `https://…`, `http://…` to a loopback address, or `unix:/path`. */
  readonly url: string;
  readonly roots: RootSource;
  readonly altName: string | undefined;
  /** Further request headers, names in lower case. */
  readonly headers: ReadonlyMap<string, Secret>;
}

export interface ControlPlaneConfig {
  /** Undefined when `XDS_ADDRESS` is empty: no control plane. */
  readonly xds: ControlPlaneServer | undefined;
  /** Undefined when `CA_ADDRESS` is empty, or unset while `XDS_ADDRESS` is empty. */
  readonly ca: ControlPlaneServer | undefined;
  /** Undefined: neither token nor cluster id are sent, as upstream. */
  readonly authToken: TokenSource | undefined;
  readonly xdsOnDemand: boolean;
  readonly podName: string;
  readonly podNamespace: string;
  readonly instanceIp: string;
  /** Metadata of the xDS node: mesh file, `PROXY_CONFIG`, `ISTIO_META_*`, later over earlier. */
  readonly proxyMetadata: ReadonlyMap<string, string>;
  /** `ISTIO_METAJSON_*` that are JSON. */
  readonly proxyMetadataJson: ReadonlyMap<string, unknown>;
}

const DEFAULT_ROOTS = './var/run/secrets/istio/root-cert.pem';
const DEFAULT_TOKEN = './var/run/secrets/tokens/istio-token';
const META_PREFIX = 'ISTIO_META_';
const METAJSON_PREFIX = 'ISTIO_METAJSON_';
/** RFC 9110 token, without upper case: HTTP/2 has none. gRPC reserves names of its own. */
const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/;
const RESERVED_HEADER = /^(grpc-.*|te|content-type|user-agent|host|connection|authorization|clusterid)$/;
const HEADER_VALUE = /^[\x20-\x7e]*$/;

/** @throws config.invalid */
export function parseControlPlane(
  read: EnvReader,
  env: Environment,
  inputs: { readonly proxyConfig: ProxyConfig | undefined; readonly exists: (path: string) => boolean },
  warnings: string[],
): ControlPlaneConfig {
  const xdsUrl = parseXdsUrl(read, inputs.proxyConfig);
  const caUrl = parseCaUrl(read, xdsUrl !== undefined);
  return {
    xds: xdsUrl === undefined ? undefined : parseServer(read, env, 'XDS', xdsUrl),
    ca: caUrl === undefined ? undefined : parseServer(read, env, 'CA', caUrl),
    authToken: parseToken(read, inputs.exists),
    xdsOnDemand: read.flagOr('XDS_ON_DEMAND', false),
    podName: read.textOr('POD_NAME', ''),
    podNamespace: read.textOr('POD_NAMESPACE', ''),
    instanceIp: parseInstanceIp(read),
    proxyMetadata: proxyMetadata(env, inputs.proxyConfig),
    proxyMetadataJson: proxyMetadataJson(env, warnings),
  };
}

function parseServer(read: EnvReader, env: Environment, kind: 'XDS' | 'CA', url: string): ControlPlaneServer {
  return {
    url,
    roots: parseRoots(read.textOr(`${kind}_ROOT_CA`, DEFAULT_ROOTS)),
    altName: read.text(`ALT_${kind}_HOSTNAME`) || undefined,
    headers: parseHeaders(read, env, `${kind}_HEADER_`),
  };
}

function parseXdsUrl(read: EnvReader, proxyConfig: ProxyConfig | undefined): string | undefined {
  const text = read.text('XDS_ADDRESS');
  if (text === '') return undefined;
  if (text === undefined && proxyConfig?.discoveryAddress !== undefined) read.noteFile('XDS_ADDRESS');
  return parseUrl(read, 'XDS_ADDRESS', text ?? proxyConfig?.discoveryAddress ?? defaultIstiod(read));
}

function parseCaUrl(read: EnvReader, hasXds: boolean): string | undefined {
  const text = read.text('CA_ADDRESS');
  if (text === '' || (text === undefined && !hasXds)) return undefined;
  return parseUrl(read, 'CA_ADDRESS', text ?? defaultIstiod(read));
}

function defaultIstiod(read: EnvReader): string {
  const inCluster = read.text('KUBERNETES_SERVICE_HOST') !== undefined;
  return inCluster ? 'https://istiod.istio-system.svc:15012' : 'https://localhost:15012';
}

function parseUrl(read: EnvReader, name: string, chosen: string): string {
  if (chosen.startsWith('unix:/')) return chosen;
  const address = chosen.includes('://') ? chosen : `https://${chosen}`;
  const url = URL.parse(address);
  if (url === null) throw read.invalid(name, chosen, 'expected a URI');
  if (url.protocol === 'https:') return address;
  const ip = parseIp(url.hostname.replace(/^\[(.*)\]$/, '$1'));
  const isLocal = url.hostname === 'localhost' || (ip !== undefined && isLoopback(ip));
  if (url.protocol === 'http:' && isLocal) return address;
  throw read.invalid(name, chosen, 'must be https; http is for loopback addresses only');
}

function parseRoots(text: string): RootSource {
  if (text === 'SYSTEM') return { kind: 'system' };
  // Anything else is a path: one that does not exist (yet) is an error at each connect, not an empty trust store.
  return text.includes('-----BEGIN') ? { kind: 'pem', pem: text } : { kind: 'file', path: text };
}

function parseHeaders(read: EnvReader, env: Environment, prefix: string): ReadonlyMap<string, Secret> {
  const headers = new Map<string, Secret>();
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith(prefix) || value === undefined) continue;
    const name = variable.slice(prefix.length).toLowerCase();
    // The value may be a secret, so the complaint leaves it out.
    if (!HEADER_NAME.test(name) || RESERVED_HEADER.test(name))
      throw read.invalid(variable, '…', 'not a usable header name');
    if (!HEADER_VALUE.test(value)) throw read.invalid(variable, '…', 'not a usable header value');
    headers.set(name, new Secret(value));
  }
  return headers;
}

function parseToken(read: EnvReader, exists: (path: string) => boolean): TokenSource | undefined {
  const text = read.text('AUTH_TOKEN');
  if (text === undefined) return exists(DEFAULT_TOKEN) ? { kind: 'file', path: DEFAULT_TOKEN } : undefined;
  if (text !== '' && exists(text)) return { kind: 'file', path: text };
  if (/^\.{0,2}\//.test(text)) throw read.invalid('AUTH_TOKEN', text, 'there is no such file');
  if (text.trim() === '' || !HEADER_VALUE.test(text.trim()))
    throw read.invalid('AUTH_TOKEN', '…', 'not a usable token');
  return { kind: 'literal', token: new Secret(text.trim()) };
}

function parseInstanceIp(read: EnvReader): string {
  // Istio's stand-in for "unknown"; part of the node's id.
  const text = read.textOr('INSTANCE_IP', '1.1.1.1');
  if (parseIp(text) === undefined) throw read.invalid('INSTANCE_IP', text, 'not an address');
  return text;
}

function proxyMetadata(env: Environment, proxyConfig: ProxyConfig | undefined): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  const set = (key: string, value: string): void => void metadata.set(key.replace(/^ISTIO_META_/, ''), value);
  for (const [key, value] of proxyConfig?.proxyMetadata ?? []) set(key, value);
  for (const [key, value] of Object.entries(env))
    if (key.startsWith(META_PREFIX) && value !== undefined) set(key, value);
  return metadata;
}

function proxyMetadataJson(env: Environment, warnings: string[]): ReadonlyMap<string, unknown> {
  const metadata = new Map<string, unknown>();
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(METAJSON_PREFIX) || value === undefined) continue;
    try {
      const parsed: unknown = JSON.parse(value);
      metadata.set(name.slice(METAJSON_PREFIX.length), parsed);
    } catch {
      warnings.push(`${name} is not JSON and is left out of the node's metadata`);
    }
  }
  return metadata;
}
