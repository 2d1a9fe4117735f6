// The environment variables by which Istio's chart tells its agent where to put the plugin, read into options. Ours begin with
// AMBIT_; the chart sets one name of upstream's differently from what upstream's binary reads, so both are read.
import { CniError } from '../errors.ts';
import { readGoBoolean } from '../pod/overrides.ts';
import type { Architecture } from '../plugin/elf/elf-file.ts';
import { fallbackSource } from './fallback-source.ts';
import type { InstallMode, InstallOptions } from './install-options.ts';
import type { KubeconfigOptions } from './kubeconfig.ts';
import type { PluginEntryOptions } from './plugin-entry.ts';

export type InstallEnvironment = Readonly<Record<string, string | undefined>>;

export interface InstallPlace {
  readonly entry: PluginEntryOptions;
  /** Where the host's file system is seen: `/host` in a container of Istio's chart, empty on the host itself. */
  readonly hostRoot: string;
}

/** @throws CniError cni.config, naming the variable */
export function installOptionsFrom(env: InstallEnvironment, { entry, hostRoot }: InstallPlace): InstallOptions {
  const root = hostRoot === '/' ? '' : hostRoot;
  const binDir = env['AMBIT_CNI_BIN_DIR'] || `${root}/opt/cni/bin`;
  const hostBinDir = binDir.startsWith(`${root}/`) ? binDir.slice(root.length) : binDir;
  return {
    mode: modeOf(env),
    confDir: env['MOUNTED_CNI_NET_DIR'] || `${root}/etc/cni/net.d`,
    confName: env['CNI_CONF_NAME'] || undefined,
    ownedName: env['ISTIO_OWNED_CNI_CONFIG_FILENAME'] || env['ISTIO_OWNED_CNI_CONF_FILENAME'] || undefined,
    canGroupRead: flag(env, 'CNI_CONF_GROUP_READ', false),
    binDirs: [binDir],
    hostBinDir: env['AMBIT_CNI_HOST_BIN_DIR'] || hostBinDir,
    architecture: architectureOf(process.arch),
    fallback: flag(env, 'AMBIT_CNI_FALLBACK', true) ? fallbackSource() : undefined,
    entry,
    kubeconfig: kubeconfigOf(env),
  };
}

/** @throws CniError cni.config where there is no executable for the processor */
export function architectureOf(arch: string): Architecture {
  if (arch === 'x64' || arch === 'arm64') return arch;
  throw new CniError('cni.config', `there is no CNI plugin for ${arch}`, { next: 'use a node with x64 or arm64' });
}

function modeOf(env: InstallEnvironment): InstallMode {
  if (!flag(env, 'CHAINED_CNI_PLUGIN', true)) return 'alone';
  return flag(env, 'ISTIO_OWNED_CNI_CONFIG', false) ? 'owned' : 'chained';
}

function kubeconfigOf(env: InstallEnvironment): KubeconfigOptions | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  if (!host) return undefined;
  return {
    host,
    port: env['KUBERNETES_SERVICE_PORT'] || '443',
    protocol: env['KUBERNETES_SERVICE_PROTOCOL'] || 'https',
    skipsTlsVerification: flag(env, 'SKIP_TLS_VERIFY', false),
    mode: modeBits(env, 'KUBECONFIG_MODE', 0o600),
    ...(env['KUBE_CA_FILE'] && { caFile: env['KUBE_CA_FILE'] }),
  };
}

function flag(env: InstallEnvironment, name: string, otherwise: boolean): boolean {
  const text = env[name];
  if (text === undefined || text === '') return otherwise;
  const value = readGoBoolean(text);
  if (value === undefined) throw refused(name, text, 'true or false');
  return value;
}

function modeBits(env: InstallEnvironment, name: string, otherwise: number): number {
  const text = env[name];
  if (text === undefined || text === '') return otherwise;
  if (!/^0?o?[0-7]{3}$/.test(text)) throw refused(name, text, 'permissions in octal, such as 0600');
  return Number.parseInt(text.slice(-3), 8);
}

function refused(name: string, text: string, wanted: string): CniError {
  return new CniError('cni.config', `${name} is ${JSON.stringify(text)}`, { where: name, next: `set it to ${wanted}` });
}
