// `ambit control`: runs the control plane, and looks at its input without running it. Flags are the control plane's own
// table of options, one flag each.
import { flagOf, lint, OPTIONS, type OptionName, render, runControl } from '@ambit/control';
import { Command, Option } from 'commander';
import type { LintFlags } from './control-lint.ts';
import type { RenderFlags } from './control-render.ts';

const EXAMPLES = `
Examples:
  ambit control examples/shop --state ~/.ambit    serve the mesh of a directory; edit its files while it runs
  ambit control --kubernetes kubeconfig           serve the mesh of a cluster, from outside
  ambit control lint examples/shop                what is wrong with the objects, with file and line

Exit status: 0 ended as asked, 1 it could not run, 2 wrong usage.`;

const LINT_EXAMPLES = `
Examples:
  ambit control lint examples/shop                errors and warnings, with file and line
  ambit control lint examples/shop --strict       for CI: warnings count too
  ambit control lint - -o json < objects.yaml     standard input, for scripts

Exit status: 0 clean, 1 errors, 2 wrong usage, 3 something cannot be read. Options of ambit control that say which mesh
it is (--trust-domain, --root-namespace and so on) count here too.`;

const RENDER_EXAMPLES = `
Examples:
  ambit control render examples/shop              names of workloads, services and policies
  ambit control render examples/shop -o json      all of it, in proto JSON
  diff <(ambit control render before -o json) <(ambit control render after -o json)

Exit status: 0, 1 something is missing that could not be read, 2 wrong usage, 3 something cannot be read.`;

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
    const short = name === 'files' ? '-f, ' : '';
    command.option(`${short}${flagOf(name)} <${placeholder.toLowerCase()}>`, describe(help, env, shown));
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
  addOffline(command, run);
  return command;
}

/** What can be asked of files alone. Flags of `ambit control` that stand beside are its own parser's. */
function addOffline(control: Command, run: (status: Promise<number>) => Promise<void>): void {
  control
    .command('lint')
    .description('Say what is wrong with objects, with file, line and what to do.')
    .argument('<paths...>', 'directories or files of Kubernetes YAML, or - for standard input')
    .option('--strict', 'warnings count as errors')
    .option('--all', 'also what is only worth knowing')
    .addOption(outputOption())
    .addHelpText('after', LINT_EXAMPLES)
    .action(async (paths: readonly string[], _flags: unknown, command: Command) => {
      const { controlLint } = await import('./control-lint.ts');
      await run(controlLint(paths, command.optsWithGlobals<LintFlags>(), lint));
    });
  control
    .command('render')
    .description('Show what a node proxy would be told, from files alone.')
    .argument('<paths...>', 'directories or files of Kubernetes YAML, or - for standard input')
    .addOption(outputOption())
    .addHelpText('after', RENDER_EXAMPLES)
    .action(async (paths: readonly string[], _flags: unknown, command: Command) => {
      const { controlRender } = await import('./control-render.ts');
      await run(controlRender(paths, command.optsWithGlobals<RenderFlags>(), render));
    });
}

function outputOption(): Option {
  return new Option('-o, --output <format>', 'output format').choices(['table', 'json']).default('table');
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
