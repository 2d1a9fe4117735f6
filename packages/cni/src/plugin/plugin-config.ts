// What the installer writes into the chain and the runtime hands to the plugin on stdin: CNI's own fields and those that
// Istio's plugin has, under its names, so that either plugin reads either's entry.
import { CniError } from '../errors.ts';
import { DEFAULT_SELECTORS, type EnablementSelector, readSelectors } from '../pod/label-selector.ts';
import type { JsonObject } from './cni-result.ts';
import { type CniVersion, readCniVersion } from './cni-version.ts';

export interface PluginConfig {
  readonly version: CniVersion;
  readonly network: string;
  /** Where the sockets, the kubeconfig and the log are. */
  readonly agentRunDir: string;
  readonly isAmbientEnabled: boolean;
  readonly selectors: readonly EnablementSelector[];
  readonly excludedNamespaces: readonly string[];
  /** Of the agent itself. */
  readonly agentNamespace: string;
  /** Whether a membership that cannot be found out fails the ADD. */
  readonly retriesLookup: boolean;
  /** Everything, for what only one command reads (`prevResult`, `cni.dev/valid-attachments`). */
  readonly raw: JsonObject;
}

export const DEFAULT_RUN_DIR = '/var/run/istio-cni';

/** The most that a configuration may have, in bytes; the executable of the plugin sends no more. */
export const MAX_STDIN_BYTES = 1024 * 1024;

/** Field of a STATUS request by which our own tools ask for more than runtimes do; never in an installed entry. */
export const STATUS_OF = 'ambit_status';
export const STATUS_OF_MEMBERS = 'members';

const NETWORK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** @throws CniError cni.protocol (no JSON), cni.unsupported (version), cni.config (a field) */
export function readPluginConfig(stdin: string): PluginConfig {
  const raw = readJsonObject(stdin);
  const version = readCniVersion(raw['cniVersion']);
  const network = string(raw, 'name', '');
  if (!NETWORK_NAME.test(network)) throw refused('name', 'is no name of a network');
  const selectors = raw['enablement_selectors'];
  return {
    version,
    network,
    agentRunDir: string(raw, 'cni_agent_run_dir', DEFAULT_RUN_DIR),
    // Our entry is there for nothing else, so only an explicit "false" turns it off.
    isAmbientEnabled: boolean(raw, 'ambient_enabled', true),
    selectors: selectors === undefined || selectors === null ? DEFAULT_SELECTORS : readSelectors(selectors),
    excludedNamespaces: strings(raw, 'exclude_namespaces'),
    agentNamespace: string(raw, 'pod_namespace', ''),
    retriesLookup: boolean(raw, 'enable_ambient_detection_retry', true),
    raw,
  };
}

/** @throws CniError cni.protocol */
export function readJsonObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CniError('cni.protocol', 'the network configuration on stdin is no JSON', { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new CniError('cni.protocol', 'the network configuration on stdin is no JSON object');
}

function string(raw: JsonObject, key: string, otherwise: string): string {
  const value = raw[key];
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== 'string') throw refused(key, 'is not a string');
  return value;
}

function boolean(raw: JsonObject, key: string, otherwise: boolean): boolean {
  const value = raw[key];
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== 'boolean') throw refused(key, 'is neither true nor false');
  return value;
}

function strings(raw: JsonObject, key: string): readonly string[] {
  const value = raw[key];
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw refused(key, 'is not a list');
  return value.map((item: unknown) => {
    if (typeof item !== 'string') throw refused(key, 'holds something else than strings');
    return item;
  });
}

function refused(key: string, what: string): CniError {
  return new CniError('cni.config', `field "${key}" of the plugin's configuration ${what}`, {
    next: 'let the agent write its entry again: remove it from the file in /etc/cni/net.d',
  });
}
