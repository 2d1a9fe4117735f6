// `ambit cni install|uninstall|status`: the CNI plugin of this host by hand. The node agent does the first two by itself, and
// keeps watching; this is for hosts without it, and for looking. Wiring only.
import {
  architectureOf,
  CniError,
  DEFAULT_OWNED_NAME,
  fallbackSource,
  install,
  type InstallMode,
  type InstallOptions,
  type PluginStatus,
  pluginStatus,
  uninstall,
} from '@ambit/cni';
import { errorText } from '@ambit/log';
import { Command, Option } from 'commander';
import { cell } from '../render/columns.ts';
import { type Output, processOutput } from '../render/output.ts';
import { problemText } from '../render/problem.ts';

/** As commander gives them. */
export interface CniFlags {
  readonly confDir: string;
  readonly confName?: string;
  readonly binDir: string;
  readonly runDir: string;
  readonly output: string;
}

export interface CniInstallFlags extends CniFlags {
  readonly mode: InstallMode;
  readonly agentNamespace: string;
  readonly excludeNamespaces: string;
  readonly fallback: boolean;
}

type Exit = (status: Promise<number>) => Promise<void>;

export function cniCommand(exit: Exit): Command {
  const cni = new Command('cni')
    .description('Put the CNI plugin into this host, take it out, or see how it stands.')
    .addHelpText(
      'after',
      `
Examples:
  ambit cni status                         is it installed, and would a pod start now
  ambit cni install                        into the first file of /etc/cni/net.d, after the plugins that are there
  ambit cni uninstall                      leaves the file as it was

Exit status: 0 done, or all is well, 1 not as it should be, 2 wrong usage, 3 this host does not allow it.`,
    );
  common(cni.command('install').description('Install the plugin and append it to the chain of the container runtime.'))
    .addOption(
      new Option(
        '--mode <mode>',
        'chained: into the file that is there; alone: a file of its own, for Multus; owned: a copy',
      )
        .choices(['chained', 'alone', 'owned'])
        .default('chained'),
    )
    .option('--agent-namespace <name>', "where the agent's pods are; they start without it", 'istio-system')
    .option('--exclude-namespaces <names>', 'pods of these are never touched', 'kube-system')
    .option('--no-fallback', 'no pod starts while no agent runs; saves the copy of the runtime (120 MB)')
    .action(async (flags: CniInstallFlags) => exit(cniInstall(flags)));
  common(cni.command('uninstall').description('Take the plugin out of the chain and off the host.')).action(
    async (flags: CniFlags) => exit(cniUninstall(flags)),
  );
  common(
    cni.command('status').description('Say whether the plugin is in the chain and whether pods can start.'),
  ).action(async (flags: CniFlags) => exit(cniStatus(flags)));
  return cni;
}

/** @returns the exit status: 0, 1 nothing to join yet, 2 wrong usage, 3 not allowed */
export async function cniInstall(flags: CniInstallFlags, output: Output = processOutput()): Promise<number> {
  return guarded(output, () => {
    const result = install(optionsOf(flags));
    if (flags.output === 'json') output.answer(`${JSON.stringify(result)}\n`);
    if (result.kind === 'waiting') {
      const next = "install the cluster's network plugin first, or see --conf-dir and --conf-name";
      output.remark(problemText({ message: result.why, next }));
      return 1;
    }
    if (flags.output !== 'json') {
      for (const path of result.written) output.answer(`wrote  ${cell(path)}\n`);
      output.answer(`${result.written.length === 0 ? 'Nothing to do: it is' : 'It is'} in ${cell(result.file)}.\n`);
    }
    for (const warning of result.warnings) output.remark(`warning: ${cell(warning)}\n`);
    return 0;
  });
}

/** @returns the exit status: 0, 3 not allowed */
export async function cniUninstall(flags: CniFlags, output: Output = processOutput()): Promise<number> {
  return guarded(output, () => {
    const options = { ...flags, mode: 'chained', agentNamespace: '', excludeNamespaces: '', fallback: false } as const;
    const changed = uninstall(optionsOf(options));
    if (flags.output === 'json') output.answer(`${JSON.stringify({ changed })}\n`);
    else if (changed.length === 0) output.answer('Nothing to do: it is not installed.\n');
    else for (const path of changed) output.answer(`changed or removed  ${cell(path)}\n`);
    return 0;
  });
}

/** @returns the exit status: 0 pods can start, 1 they cannot or it is not installed, 3 cannot be read */
export async function cniStatus(flags: CniFlags, output: Output = processOutput()): Promise<number> {
  return guarded(output, async () => {
    const status = await pluginStatus({ ...flags, confName: flags.confName || undefined });
    output.answer(flags.output === 'json' ? `${JSON.stringify(status)}\n` : statusText(status));
    return status.problem === undefined ? 0 : 1;
  });
}

function statusText({ file, plugins, executable, isBesideIstio, problem }: PluginStatus): string {
  const verdict = problem === undefined ? 'Pods of the mesh can start.' : `Not well: ${cell(problem)}`;
  const lines = [
    verdict,
    '',
    `  chain       ${file === undefined ? 'none' : cell(file)}`,
    `  plugins     ${plugins.length === 0 ? '–' : plugins.map(cell).join(' → ')}`,
    `  executable  ${executable === undefined ? 'missing' : cell(executable)}`,
  ];
  if (isBesideIstio) lines.push('', "warning: Istio's plugin is in the chain too, and both would enrol each pod");
  return `${lines.join('\n')}\n`;
}

function common(command: Command): Command {
  // The variables are those of the agent, so that in its pod this looks at the same place.
  return command
    .addOption(
      new Option('--conf-dir <dir>', 'configurations of the container runtime')
        .default('/etc/cni/net.d')
        .env('MOUNTED_CNI_NET_DIR'),
    )
    .addOption(
      new Option('--conf-name <file>', 'the file to use (default: the first that is valid)').env('CNI_CONF_NAME'),
    )
    .addOption(
      new Option('--bin-dir <dir>', 'plugins of the container runtime')
        .default('/opt/cni/bin')
        .env('AMBIT_CNI_BIN_DIR'),
    )
    .addOption(
      new Option('--run-dir <dir>', "the agent's sockets").default('/var/run/istio-cni').env('CNI_AGENT_RUN_DIR'),
    )
    .addOption(new Option('-o, --output <format>', 'output format').choices(['table', 'json']).default('table'));
}

function optionsOf(flags: CniInstallFlags): InstallOptions {
  const { confDir, confName, binDir, runDir, mode, agentNamespace, fallback } = flags;
  const excludedNamespaces = flags.excludeNamespaces.split(',').map(name => name.trim());
  return {
    mode,
    confDir,
    // An empty variable is as good as none.
    confName: confName || undefined,
    ownedName: DEFAULT_OWNED_NAME,
    binDirs: [binDir],
    hostBinDir: binDir,
    architecture: architectureOf(process.arch),
    fallback: fallback ? fallbackSource() : undefined,
    entry: { runDir, agentNamespace, excludedNamespaces: excludedNamespaces.filter(name => name !== '') },
  };
}

async function guarded(output: Output, act: () => number | Promise<number>): Promise<number> {
  try {
    return await act();
  } catch (error) {
    const next = error instanceof CniError ? error.next : 'run it as root, and see --conf-dir, --bin-dir and --run-dir';
    const code = error instanceof CniError ? error.code : undefined;
    output.remark(problemText({ message: errorText(error), code, next }));
    return 3;
  }
}
