// `ambit agent`: runs the node agent. Flags are the agent's own table of options, one flag each.
import { AGENT_OPTIONS, type AgentOptionName, agentFlagOf, becomeFrugal, runAgent } from '@ambit/cni';
import { Command } from 'commander';

const EXAMPLES = `
Examples:
  ambit agent                                        in a pod of the DaemonSet: settings are those of Istio's istio-cni
  ambit agent --kubernetes kubeconfig --node-name n1 --install off    outside of a pod
  ambit agent --fail-mode open                       members speak in plain text while no ztunnel is there

While the agent lives, fail mode "open" lifts the rules of members when no ztunnel has been there for a while. A dead agent
lifts nothing: what it left behind stays closed.

Exit status: 0 ended as asked, 1 it could not run, 2 wrong usage.`;

/** The command with its options; `run` gets the exit status. */
export function agentCommand(run: (status: Promise<number>) => Promise<void>): Command {
  const command = new Command('agent')
    .description('Run the node agent: lets pods into the mesh, serves CNI plugins and ztunnel.')
    .addHelpText('after', EXAMPLES);
  for (const name of Object.keys(AGENT_OPTIONS) as AgentOptionName[]) {
    const { placeholder, help, env, fallback } = AGENT_OPTIONS[name];
    const shown = defaultText(name, fallback);
    const notes = shown === '' ? env : `${env}; default ${shown}`;
    command.option(`${agentFlagOf(name)} <${placeholder.toLowerCase()}>`, `${help} (${notes})`);
  }
  command.action(async (flags: Readonly<Record<string, string>>) => {
    becomeFrugal();
    await run(runAgent({ flags, env: process.env }));
  });
  return command;
}

function defaultText(name: AgentOptionName, fallback: unknown): string {
  // Durations are kept in milliseconds.
  if (AGENT_OPTIONS[name].placeholder === 'TIME') return `${Number(fallback) / 1000}s`;
  return Array.isArray(fallback) ? fallback.join(',') : String(fallback);
}
