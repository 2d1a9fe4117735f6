// One pass of an installation: the plugin, its fallback, the kubeconfig, then the configuration, in this order, so that nobody
// is ever told to run what is not there yet. Every step looks first and writes only what differs, each file in one step. The
// runtime's chain never lacks other people's plugins for a moment.
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CniError } from '../errors.ts';
import { pluginExecutable } from '../plugin/elf/plugin-executable.ts';
import { readFileIfThere, readIfThere, removeLeftovers, writeFileAtomic } from './atomic-file.ts';
import { chainFiles, chooseChain, type ChainFile } from './chain-choice.ts';
import {
  hasEntry,
  ISTIO_PLUGIN_TYPE,
  isOurs,
  jsonText,
  PLUGIN_TYPE,
  pluginsOf,
  withEntry,
  withoutEntry,
} from './chain-text.ts';
import { fallbackCommand, installFallback, removeFallback } from './fallback-files.ts';
import { DEFAULT_ALONE_NAME, DEFAULT_OWNED_NAME, type InstallOptions, pluginSocketPath } from './install-options.ts';
import { kubeconfigText } from './kubeconfig.ts';
import { KUBECONFIG_NAME } from './kubeconfig-name.ts';
import { forgetOriginal, originalOf, rememberOriginal } from './original-chain.ts';
import { aloneEntry, pluginEntry } from './plugin-entry.ts';

export type InstallResult =
  | {
      readonly kind: 'installed';
      /** Name of the file in the configuration directory. */
      readonly file: string;
      /** What had to be written, as paths; empty when all was as it should be. */
      readonly written: readonly string[];
      readonly warnings: readonly string[];
    }
  /** There is no configuration yet that we could join: another plugin's has to come first. */
  | { readonly kind: 'waiting'; readonly why: string; readonly written: readonly string[] };

const EXECUTABLE_MODE = 0o755;

export type InstallStep = 'executables' | 'kubeconfig' | 'configuration';

/**
 * @param onStep told before each step, so that a failure can be said to be its
 * @throws Error of node:fs, CniError
 */
export function install(options: InstallOptions, onStep?: (step: InstallStep) => void): InstallResult {
  const written: string[] = [];
  onStep?.('executables');
  installExecutables(options, written);
  onStep?.('kubeconfig');
  mkdirSync(options.entry.runDir, { recursive: true, mode: 0o755 });
  if (options.kubeconfig !== undefined) {
    const mode = options.kubeconfig.mode ?? 0o600;
    put(join(options.entry.runDir, KUBECONFIG_NAME), kubeconfigText(options.kubeconfig), mode, written);
  }
  onStep?.('configuration');
  switch (options.mode) {
    case 'chained':
      return installChained(options, written);
    case 'alone':
      return installAlone(options, written);
    case 'owned':
      return installOwned(options, written);
  }
}

/**
 * Takes out what `install` put in. A list stays a list; its bytes are the original ones if nobody has changed it since. The
 * configuration goes first, so that nobody is told to run what is not there any more.
 */
export function uninstall(options: InstallOptions): readonly string[] {
  const changed: string[] = [];
  for (const file of chainFiles(options.confDir)) removeFrom(options, file, changed);
  const kubeconfig = join(options.entry.runDir, KUBECONFIG_NAME);
  forgetOriginal(options.entry.runDir);
  for (const path of [kubeconfig, ...options.binDirs.map(directory => join(directory, PLUGIN_TYPE))]) {
    removeLeftovers(path);
    if (readIfThere(() => statSync(path)) === undefined) continue;
    rmSync(path);
    changed.push(path);
  }
  for (const directory of options.binDirs) removeFallback(directory, changed);
  return changed;
}

function installExecutables(options: InstallOptions, written: string[]): void {
  const [first] = options.binDirs;
  if (first === undefined) throw new CniError('cni.config', 'no directory is given for the plugin');
  if (options.fallback !== undefined) installFallback(first, options.fallback, written);
  const bytes = pluginExecutable({
    architecture: options.architecture,
    socketPath: pluginSocketPath(options.entry.runDir),
    ...(options.fallback && { fallback: fallbackCommand(options.hostBinDir, options.fallback) }),
  });
  for (const directory of options.binDirs) put(join(directory, PLUGIN_TYPE), bytes, EXECUTABLE_MODE, written);
}

function installChained(options: InstallOptions, written: string[]): InstallResult {
  const file = chooseChain(chainFiles(options.confDir), options.confName);
  if (file === undefined) return waiting(options, written);
  const entry = pluginEntry(options.entry);
  const name = file.chain.kind === 'list' ? file.name : `${file.name}list`;
  if (!hasEntry(file.chain, entry)) {
    const text = withEntry(file.chain, entry);
    rememberOriginal(options.entry.runDir, { name: file.name, before: file.text, after: text, isFresh: isFresh(file) });
    const path = join(options.confDir, name);
    removeLeftovers(path);
    writeFileAtomic(path, text, file.mode);
    // Until here the runtime used this one, which sorts before the new list.
    if (name !== file.name) rmSync(join(options.confDir, file.name));
    written.push(path);
  }
  return { kind: 'installed', file: name, written, warnings: besideIstio(file) };
}

function installAlone(options: InstallOptions, written: string[]): InstallResult {
  const name = options.confName ?? DEFAULT_ALONE_NAME;
  put(join(options.confDir, name), jsonText(aloneEntry(options.entry)), ownMode(options), written);
  return { kind: 'installed', file: name, written, warnings: [] };
}

function installOwned(options: InstallOptions, written: string[]): InstallResult {
  const name = options.ownedName ?? DEFAULT_OWNED_NAME;
  const primary = chooseChain(
    chainFiles(options.confDir).filter(file => file.name !== name),
    options.confName,
  );
  if (primary === undefined) return waiting(options, written);
  const text = withEntry(primary.chain, pluginEntry(options.entry));
  put(join(options.confDir, name), text, ownMode(options), written);
  const warnings = [...besideIstio(primary)];
  if (Buffer.from(name).compare(Buffer.from(primary.name)) > 0) {
    warnings.push(`${name} sorts after ${primary.name}, so that the container runtime does not use it; rename it`);
  }
  return { kind: 'installed', file: name, written, warnings };
}

function removeFrom(options: InstallOptions, file: ChainFile, changed: string[]): void {
  const plugins = pluginsOf(file.chain);
  if (!plugins.some(isOurs)) return;
  const path = join(options.confDir, file.name);
  const rest = withoutEntry(file.chain);
  // Our own files go as a whole: the one with nothing else in it, and the copy that nobody else asked for.
  const isOwned = options.mode === 'owned' && file.name === (options.ownedName ?? DEFAULT_OWNED_NAME);
  if (rest === undefined || isOwned) rmSync(path);
  else writeFileAtomic(path, originalOf(options.entry.runDir, file.name, file.text) ?? rest, file.mode);
  removeLeftovers(path);
  changed.push(path);
}

function put(path: string, content: string | Uint8Array, mode: number, written: string[]): void {
  const status = readIfThere(() => statSync(path));
  const isSame =
    status !== undefined && (status.mode & 0o777) === mode && readFileIfThere(path)?.equals(Buffer.from(content));
  if (isSame === true) return;
  removeLeftovers(path);
  writeFileAtomic(path, content, mode);
  written.push(path);
}

function isFresh(file: ChainFile): boolean {
  return !pluginsOf(file.chain).some(isOurs);
}

function besideIstio(file: ChainFile): readonly string[] {
  const isThere = pluginsOf(file.chain).some(plugin => plugin['type'] === ISTIO_PLUGIN_TYPE);
  if (!isThere) return [];
  return [`${file.name} has ${ISTIO_PLUGIN_TYPE} too, and both would enrol each pod; uninstall one of the two`];
}

function waiting({ confDir, confName }: InstallOptions, written: readonly string[]): InstallResult {
  const what = confName === undefined ? 'no valid network configuration' : `no valid ${confName}`;
  return { kind: 'waiting', why: `there is ${what} in ${confDir} yet`, written };
}

function ownMode({ canGroupRead }: InstallOptions): number {
  return canGroupRead === true ? 0o640 : 0o600;
}
