// What an installation is told. Directories are as the installing process sees them; `host…` as the host sees the same place,
// which differs when the agent runs in a container.
import type { Architecture } from '../plugin/elf/elf-file.ts';
import type { KubeconfigOptions } from './kubeconfig.ts';
import type { PluginEntryOptions } from './plugin-entry.ts';

/**
 * `chained`: our entry goes into the runtime's file. `alone`: a file with our plugin only, for Multus. `owned`: a copy of the
 * runtime's file with our entry, which sorts first and which nobody else writes.
 */
export type InstallMode = 'chained' | 'alone' | 'owned';

export interface InstallOptions {
  readonly mode: InstallMode;
  /** `/etc/cni/net.d` of the host. */
  readonly confDir: string;
  /** The file to use; without it the first valid one, or the mode's own name. */
  readonly confName?: string | undefined;
  /** Name in mode `owned`; must sort before the others. */
  readonly ownedName?: string | undefined;
  /** Whether the group may read configurations that we make: mode 0640 instead of 0600. */
  readonly canGroupRead?: boolean;
  /** `/opt/cni/bin` of the host; the plugin is put into each. */
  readonly binDirs: readonly string[];
  /** The first of them as the host sees it. */
  readonly hostBinDir: string;
  readonly architecture: Architecture;
  /** What the plugin runs when no agent listens; left out, it fails then, and no pod starts on the node without the agent. */
  readonly fallback?: FallbackSource | undefined;
  readonly entry: PluginEntryOptions;
  readonly kubeconfig?: KubeconfigOptions | undefined;
}

export interface FallbackSource {
  /** A runtime that needs nothing on the host but a C library, such as `process.execPath`. */
  readonly runtime: string;
  /** Files of the program by name, the first of which is run. */
  readonly files: ReadonlyMap<string, string>;
}

export const DEFAULT_ALONE_NAME = 'YYY-istio-cni.conf';
export const DEFAULT_OWNED_NAME = '02-istio-cni.conflist';

/** The agent's socket for the plugin's executable. */
export function pluginSocketPath(runDir: string): string {
  return `${runDir}/cni.sock`;
}
