// Network configurations of CNI as text: what kind one is, and the same with our plugin's entry last, or without it. Whatever
// else stands there is kept. A list is `.conflist`, a single plugin `.conf`; putting us into the latter makes it a list.
import { isDeepStrictEqual } from 'node:util';
import type { JsonObject } from '../plugin/cni-result.ts';

export const PLUGIN_TYPE = 'ambit-cni';
/** Istio's own plugin, beside which ours would do everything twice. */
export const ISTIO_PLUGIN_TYPE = 'istio-cni';

export type Chain =
  | { readonly kind: 'list'; readonly json: JsonObject; readonly plugins: readonly JsonObject[] }
  | { readonly kind: 'single'; readonly json: JsonObject };

/** For a list made of a single plugin that says neither. */
const LIST_NAME = 'k8s-pod-network';
const LIST_VERSION = '0.3.1';

/** undefined: no container runtime would take it, and neither do we. */
export function readChain(text: string, isList: boolean): Chain | undefined {
  const json = parseObject(text);
  if (json === undefined) return undefined;
  if (!isList) return isName(json['type']) ? { kind: 'single', json } : undefined;
  const list = json['plugins'];
  if (!isName(json['name']) || !Array.isArray(list) || list.length === 0) return undefined;
  const plugins = list.flatMap((item: unknown) => (isObject(item) && isName(item['type']) ? [item] : []));
  return plugins.length === list.length ? { kind: 'list', json, plugins } : undefined;
}

/** Text of a list whose last plugin is ours; an entry of ours that was there is replaced. */
export function withEntry(chain: Chain, entry: JsonObject): string {
  return chainText(listOf(chain), [...pluginsOf(chain).filter(plugin => !isOurs(plugin)), entry]);
}

/** undefined when there is nothing of ours in it, or nothing else. */
export function withoutEntry(chain: Chain): string | undefined {
  const plugins = pluginsOf(chain);
  const others = plugins.filter(plugin => !isOurs(plugin));
  if (others.length === plugins.length || others.length === 0) return undefined;
  return chainText(listOf(chain), others);
}

/** Where it stands is no matter: others may come after us, and moving us back would start a quarrel. */
export function hasEntry(chain: Chain, entry: JsonObject): boolean {
  const ours = pluginsOf(chain).filter(isOurs);
  return chain.kind === 'list' && ours.length === 1 && isDeepStrictEqual(ours[0], entry);
}

export function isOurs(plugin: JsonObject): boolean {
  return plugin['type'] === PLUGIN_TYPE;
}

export function pluginsOf(chain: Chain): readonly JsonObject[] {
  if (chain.kind === 'list') return chain.plugins;
  // Inside a list the version is the list's.
  const { cniVersion: _version, ...plugin } = chain.json;
  return [plugin];
}

export function jsonText(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function chainText(list: JsonObject, plugins: readonly JsonObject[]): string {
  return jsonText({ ...list, plugins });
}

/**
 * Unlike upstream, a list made of a single plugin keeps its name and version: address management files what it has given
 * out under that name, and would forget it.
 */
function listOf(chain: Chain): JsonObject {
  if (chain.kind === 'list') return chain.json;
  const { name, cniVersion } = chain.json;
  return { name: isName(name) ? name : LIST_NAME, cniVersion: isName(cniVersion) ? cniVersion : LIST_VERSION };
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined; // other people's file; skipped, as container runtimes do
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
