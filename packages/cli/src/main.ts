// Entry of the `ambit` command. Wiring only: each subcommand is a file of its own and is loaded when it is called, so that
// the node proxy starts without what other commands need.
import { Command, CommanderError, Option } from 'commander';
import type { DemoFlags } from './commands/demo.ts';

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
  .command('demo')
  .description(
    'Start two nodes and a small shop on this machine, and show who talks to whom and what the wire carries.',
  )
  .option('--for <duration>', 'stop after this time, such as 15s or 2m; counted from the first row')
  .option('-o, --output <format>', 'table, or json for one document at the end', 'table')
  .addOption(
    new Option('--store <kind>', 'what runs as shop/db; default: redis if installed').choices(['redis', 'own']),
  )
  .option('--loopback', 'two proxies on loopback instead, as where namespaces are not allowed')
  .option('--debug', 'show stack traces')
  .addOption(new Option('--break-encryption').hideHelp())
  .addHelpText(
    'after',
    `
Examples:
  ambit demo                        a live table until q or Ctrl-C
  ambit demo --for 15s              the same for fifteen seconds
  ambit demo --for 15s -o json      one JSON document at the end

Exit status: 0 all was as it should be, 1 something that must be encrypted or denied was not, 2 wrong usage,
3 this machine does not allow it.`,
  )
  .action(async (options: DemoFlags) => {
    const { demo } = await import('./commands/demo.ts');
    process.exitCode = await demo(options);
  });

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
