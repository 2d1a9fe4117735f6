// Entry of the `ambit` command. Wiring only: each subcommand is a file of its own and is loaded when it is called, so that
// the node proxy starts without what other commands need.
import { Command, CommanderError } from 'commander';

const program = new Command('ambit')
  .description('Secures and observes every TCP connection between services, without sidecars.')
  .version('0.1.0')
  .showSuggestionAfterError()
  .exitOverride()
  .addHelpText(
    'after',
    `
Examples:
  ambit demo                        two nodes and a small shop on this machine, encrypted pod to pod
  ambit demo --for 15s -o json      the same for fifteen seconds, then one JSON document
  ambit ztunnel                     the node proxy, configured by the environment variables of Istio's ztunnel`,
  );

program
  .command('ztunnel')
  .description('Run the node proxy.')
  .argument('[command]', 'proxy (default) or version')
  .allowExcessArguments()
  .action(async (command: string | undefined) => {
    const { ztunnel } = await import('./commands/ztunnel.ts');
    process.exitCode = await ztunnel(command);
  });

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Help and version end with 0; every other refusal of commander is wrong usage.
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
