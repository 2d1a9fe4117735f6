// `ambit control`: runs the control plane. Flags are the control plane's own table of options, one flag each.
import { flagOf, OPTIONS, type OptionName, runControl } from '@ambit/control';
import { Command } from 'commander';

const EXAMPLES = `
Examples:
  ambit control examples/shop --state ~/.ambit    serve the mesh of a directory; edit its files while it runs
  ambit control --kubernetes kubeconfig           serve the mesh of a cluster, from outside
  ambit get workloads                             in another terminal: what it serves

Exit status: 0 ended as asked, 1 it could not run, 2 wrong usage.`;

/** The command with its options; `run` gets the exit status. */
export function controlCommand(run: (status: Promise<number>) => Promise<void>): Command {
  const command = new Command('control')
    .description('Run the control plane: sources, xDS server and certificate authority.')
    .argument('[paths...]', 'directories or files of Kubernetes YAML')
    .option('--config <file>', 'file of options, one a line; flags and environment win over it')
    .addHelpText('after', EXAMPLES);
  for (const name of Object.keys(OPTIONS) as OptionName[]) {
    const { placeholder, help, env, fallback } = OPTIONS[name];
    const shown = placeholder === 'TIME' && typeof fallback === 'number' ? durationText(fallback) : fallback;
    command.option(`${flagOf(name)} <${placeholder.toLowerCase()}>`, describe(help, env, shown));
  }
  command.action(async (paths: readonly string[], flags: Readonly<Record<string, string>>) => {
    const { config, ...rest } = flags;
    const files = [...paths, ...(rest['files'] === undefined ? [] : [rest['files']])];
    await run(
      runControl({
        flags: files.length === 0 ? rest : { ...rest, files: files.join(',') },
        env: process.env,
        configFile: config ?? process.env['AMBIT_CONFIG'],
      }),
    );
  });
  return command;
}

function describe(help: string, env: string | undefined, fallback: unknown): string {
  const notes = [env, defaultText(fallback)].filter(note => note !== undefined);
  return notes.length === 0 ? help : `${help} (${notes.join('; ')})`;
}

function defaultText(fallback: unknown): string | undefined {
  if (fallback === undefined || fallback === '' || (Array.isArray(fallback) && fallback.length === 0)) return undefined;
  if (typeof fallback === 'object' && fallback !== null && 'host' in fallback && 'port' in fallback) {
    const host = String(fallback.host);
    return `default ${host.includes(':') ? `[${host}]` : host}:${String(fallback.port)}`;
  }
  return `default ${Array.isArray(fallback) ? fallback.join(',') : String(fallback)}`;
}

/** Milliseconds as a person writes them for the option. */
function durationText(ms: number): string {
  const units = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1_000],
  ] as const;
  // A day reads better as 24h, as Istio writes it.
  const [unit, size] = units.find(([name, each]) => ms % each === 0 && ms >= (name === 'd' ? 2 * each : each)) ?? [
    'ms',
    1,
  ];
  return ms === 0 ? '0' : `${ms / size}${unit}`;
}
