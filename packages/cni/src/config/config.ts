// From flags and environment to one frozen set of values. Every mistake names the option as the person spelled it, and what was
// expected.
import { existsSync } from 'node:fs';
import { errorText } from '@ambit/log';
import { CniError } from '../errors.ts';
import { DEFAULT_SELECTORS, type EnablementSelector, readSelectors } from '../pod/label-selector.ts';
import { flagOf, OPTIONS, type OptionName, type OptionValues } from './options.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Flag values by option name, as commander gives them. */
export type Flags = Readonly<Record<string, string | undefined>>;

export interface AgentConfig extends Omit<OptionValues, 'hostRoot' | 'kubernetes' | 'probes' | 'backend' | 'install'> {
  /** Empty: the agent sees the node's files as they are. */
  readonly hostRoot: string;
  readonly kubernetes: 'off' | 'in-cluster' | 'kubeconfig';
  readonly probes: boolean;
  readonly backend: 'auto' | 'nftables' | 'iptables';
  readonly install: boolean;
  readonly selectors: readonly EnablementSelector[];
  /** As they were given, for the plugin; undefined: the default ones. */
  readonly rawSelectors: readonly object[] | undefined;
}

const NAMES = Object.keys(OPTIONS) as OptionName[];
/** Where the agent's manifest mounts the node's file system. */
const MOUNTED_ROOT = '/host';
const SELECTORS = OPTIONS.enablementSelector.env;

/** @throws CniError cni.config */
export async function readConfig(flags: Flags, env: Environment): Promise<AgentConfig> {
  const values: Record<string, unknown> = {};
  for (const name of NAMES) {
    const { env: variable, fallback } = OPTIONS[name];
    const [spelled, given] = flags[name] === undefined ? [variable, env[variable]] : [flagOf(name), flags[name]];
    // An empty variable is how manifests say "not set".
    values[name] = given === undefined || given === '' ? fallback : parseValue(name, spelled, given);
  }
  const read = values as OptionValues;
  const kubernetes = clusterOf(read.kubernetes, env);
  if (kubernetes !== 'off' && read.nodeName === '') {
    throw new CniError('cni.config', 'with Kubernetes the agent must know which node this is', {
      next: 'set NODE_NAME from spec.nodeName, or --node-name',
    });
  }
  const rawSelectors = read.enablementSelector === '' ? undefined : await parseSelectors(read.enablementSelector);
  return Object.freeze({
    ...read,
    kubernetes,
    hostRoot: hostRootOf(read.hostRoot),
    probes: read.probes === 'auto' ? kubernetes !== 'off' : read.probes === 'on',
    backend: read.backend === 'auto' && read.nativeNftables ? 'nftables' : read.backend,
    install: read.install === 'auto' ? kubernetes === 'in-cluster' : read.install === 'on',
    selectors: rawSelectors === undefined ? DEFAULT_SELECTORS : readSelectors(rawSelectors, SELECTORS),
    rawSelectors: rawSelectors as readonly object[] | undefined, // read above: a list of objects
  });
}

function parseValue(name: OptionName, spelled: string, given: string): unknown {
  const parsed = OPTIONS[name].parse(given);
  if (parsed.ok) return parsed.value;
  throw new CniError('cni.config', `${spelled}=${given}: expected ${parsed.expected}`);
}

function hostRootOf(value: string): string {
  if (value !== 'auto') return value === '/' ? '' : value;
  return existsSync(`${MOUNTED_ROOT}/proc`) ? MOUNTED_ROOT : '';
}

function clusterOf(kubernetes: OptionValues['kubernetes'], env: Environment): AgentConfig['kubernetes'] {
  if (kubernetes !== 'auto') return kubernetes;
  return env['KUBERNETES_SERVICE_HOST'] === undefined ? 'off' : 'in-cluster';
}

async function parseSelectors(given: string): Promise<unknown> {
  try {
    const { parseYamlText } = await import('@ambit/kube');
    return await parseYamlText(given);
  } catch (cause) {
    throw new CniError('cni.config', `${SELECTORS} is no YAML: ${errorText(cause)}`, { cause });
  }
}
