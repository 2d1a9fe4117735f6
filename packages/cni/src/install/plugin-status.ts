// How the plugin stands on this host: which file the runtime uses, whether we are in it, and what the plugin itself says when it
// is run as a runtime would (STATUS). Changes nothing.
import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { NEWEST_CNI_VERSION } from '../plugin/cni-version.ts';
import { readJsonObject, STATUS_OF, STATUS_OF_MEMBERS } from '../plugin/plugin-config.ts';
import { readIfThere } from './atomic-file.ts';
import { chainFiles, chooseChain } from './chain-choice.ts';
import { ISTIO_PLUGIN_TYPE, isOurs, PLUGIN_TYPE, pluginsOf } from './chain-text.ts';

export interface PluginStatus {
  /** Path of the configuration that the runtime uses; undefined: there is none. */
  readonly file: string | undefined;
  /** Types in the order in which they run. */
  readonly plugins: readonly string[];
  readonly isInChain: boolean;
  /** Istio's plugin is in the chain too. */
  readonly isBesideIstio: boolean;
  /** Path of the executable; undefined: it is not there. */
  readonly executable: string | undefined;
  /** Why an ADD of a member would fail now; undefined: it would not. */
  readonly problem: string | undefined;
}

export interface PluginStatusOptions {
  readonly confDir: string;
  readonly confName?: string | undefined;
  readonly binDir: string;
}

const TIMEOUT_MS = 10_000;

/** @throws Error of node:fs */
export async function pluginStatus({ confDir, confName, binDir }: PluginStatusOptions): Promise<PluginStatus> {
  const file = chooseChain(chainFiles(confDir), confName);
  const plugins = file === undefined ? [] : pluginsOf(file.chain);
  const entry = plugins.find(isOurs);
  const path = join(binDir, PLUGIN_TYPE);
  const executable = readIfThere(() => statSync(path))?.isFile() === true ? path : undefined;
  return {
    file: file && join(confDir, file.name),
    plugins: plugins.map(({ type }) => String(type)),
    isInChain: entry !== undefined,
    isBesideIstio: plugins.some(({ type }) => type === ISTIO_PLUGIN_TYPE),
    executable,
    problem: await problemOf(entry, executable),
  };
}

async function problemOf(entry: object | undefined, executable: string | undefined): Promise<string | undefined> {
  if (entry === undefined) return 'the plugin is not in the chain, so pods start without it';
  if (executable === undefined) return 'the plugin is in the chain, but its executable is missing, so no pod starts';
  const { status, stdout } = await run(
    executable,
    JSON.stringify({ ...entry, cniVersion: NEWEST_CNI_VERSION, name: 'status', [STATUS_OF]: STATUS_OF_MEMBERS }),
  );
  if (status === 0) return undefined;
  try {
    return String(readJsonObject(stdout)['msg']);
  } catch {
    return `the plugin ends with ${String(status)} and says nothing of use`;
  }
}

async function run(executable: string, stdin: string) {
  const env = { CNI_COMMAND: 'STATUS', CNI_PATH: join(executable, '..') };
  const child = spawn(executable, [], { env, stdio: ['pipe', 'pipe', 'ignore'], timeout: TIMEOUT_MS });
  const { promise, resolve } = Promise.withResolvers<number | string | null>();
  child.once('error', error => resolve(error.message));
  child.once('exit', (code, signal) => resolve(code ?? signal));
  child.stdin.on('error', () => undefined); // it may end without reading
  child.stdin.end(stdin);
  const [stdout, status] = await Promise.all([text(child.stdout), promise]);
  return { status, stdout };
}
