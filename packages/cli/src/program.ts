// The `ambit` command. Wiring only: each subcommand is a file of its own and is loaded when it is called, so that
// the node proxy starts without what other commands need.
import { Command, CommanderError, Option } from 'commander';
import type { AuditFlags } from './commands/audit.ts';
import type { CaFlags, RevokeFlags, TokenFlags } from './commands/ca.ts';
import type { DemoFlags } from './commands/demo.ts';
import type { ExplainFlags } from './commands/explain.ts';
import type { FindingsFlags } from './commands/findings.ts';
import type { GetFlags } from './commands/get.ts';
import type { DownFlags } from './commands/down.ts';
import type { MeshFlags } from './commands/local-mesh.ts';
import type { LogsFlags } from './commands/logs.ts';
import type { PsFlags } from './commands/ps.ts';
import type { RunFlags } from './commands/run.ts';
import type { StatFlags, TrafficFlags } from './commands/stat.ts';
import type { TapFlags } from './commands/tap.ts';
import type { UpFlags } from './commands/up.ts';
import type { WhyFlags } from './commands/why.ts';

/** As `ambit control` has it. */
const STATE = process.env['AMBIT_STATE'] || '/var/lib/ambit/control';

const program = new Command('ambit')
  .description('Secures and observes every TCP connection between services, without sidecars.')
  .version('0.1.0')
  .showSuggestionAfterError()
  .exitOverride()
  // So that words after `ambit run` and `ambit exec` are the command's own.
  .enablePositionalOptions()
  .addHelpText(
    'after',
    `
Examples:
  ambit demo                          two nodes and a small shop on this machine, encrypted pod to pod
  ambit control examples/shop         a control plane for a directory of Kubernetes YAML
  ambit explain shop/web shop/cart    whether one may talk to the other, and why`,
  );

program
  .command('demo')
  .description(
    'Start two nodes and a small shop on this machine, and show who talks to whom and what the wire carries.',
  )
  .option('--for <duration>', 'stop after this time, such as 15s or 2m; counted from the first row')
  .option('-o, --output <format>', 'table, or json for one document at the end', 'table')
  .option('--objects <dir>', "your copy of examples/shop; edit it while it runs (default: Ambit's own)")
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
  ambit demo --for 15s -o json      fifteen seconds, then one JSON document
  ambit demo --objects my-shop      the same shop with your policies, after cp -r examples/shop my-shop

Exit status: 0 all was as it should be, 1 something that must be encrypted or denied was not, 2 wrong usage,
3 this machine does not allow it.`,
  )
  .action(async (flags: DemoFlags) => exitWith((await import('./commands/demo.ts')).demo(flags)));

program
  .command('ztunnel')
  .description('Run the node proxy.')
  .argument('[command]', 'proxy (default) or version')
  .allowExcessArguments()
  .addHelpText(
    'after',
    `
Examples:
  ambit ztunnel                                      settings are the environment variables of Istio's ztunnel
  XDS_ADDRESS=https://10.0.0.1:15012 ambit ztunnel   lives on that control plane, and asks it for certificates
  ambit ztunnel version                              what it is`,
  )
  .action(async (command: string | undefined) => exitWith((await import('./commands/ztunnel.ts')).ztunnel(command)));

// Its options are the control plane's own table, which nobody else needs to load.
const [first, second] = process.argv.slice(2);
if (first === 'control' || (first === 'help' && second === 'control')) {
  const { controlCommand } = await import('./commands/control.ts');
  program.addCommand(inherit(controlCommand(exitWith)));
} else {
  program.command('control').description('Run the control plane: sources, xDS server and certificate authority.');
}

if (first === 'cni' || (first === 'help' && second === 'cni')) {
  const { cniCommand } = await import('./commands/cni.ts');
  program.addCommand(inherit(cniCommand(exitWith)));
} else {
  program.command('cni').description('Put the CNI plugin into this host, take it out, or see how it stands.');
}

// As with the control plane: its options are its own table.
if (first === 'agent' || (first === 'help' && second === 'agent')) {
  const { agentCommand } = await import('./commands/agent.ts');
  program.addCommand(inherit(agentCommand(exitWith)));
} else {
  program.command('agent').description('Run the node agent: lets pods into the mesh, serves CNI plugins and ztunnel.');
}

const ca = program
  .command('ca')
  .description('Administer the certificate authority of a control plane on this machine.')
  .addHelpText(
    'after',
    `
Examples:
  ambit ca list                                                       every certificate that is still good
  ambit ca revoke --identity spiffe://cluster.local/ns/shop/sa/web    nobody takes its certificates any more
  ambit ca token --node n1 > token                                    what a ztunnel on n1 proves itself with

Exit status: 0 done, 1 refused, 2 wrong usage, 3 cannot reach the control plane.`,
  );
caCommand('revoke', 'Revoke one certificate, or all of an identity, and publish the list.')
  .option('--serial <hex>', 'serial number of one certificate')
  .option('--identity <spiffe>', 'SPIFFE id: all its certificates')
  .action(async (flags: RevokeFlags) => exitWith((await import('./commands/ca.ts')).caRevoke(flags)));
caCommand('list', 'List the certificates that have not expired.').action(async (flags: CaFlags) =>
  exitWith((await import('./commands/ca.ts')).caList(flags)),
);
caCommand('rotate-root', 'Announce a new root, which signs once every node knows it.').action(async (flags: CaFlags) =>
  exitWith((await import('./commands/ca.ts')).caRotateRoot(flags)),
);
caCommand('token', 'Print a token with which a node proxy proves itself.')
  .requiredOption('--node <name>', 'node for whose pods it may ask')
  .option('--namespace <name>', 'namespace of the node proxy', 'istio-system')
  .option('--service-account <name>', 'account of the node proxy', 'ztunnel')
  .option('--ttl <time>', 'such as 12h or 30d (default: 30d)')
  .action(async (flags: TokenFlags) => exitWith((await import('./commands/ca.ts')).caToken(flags)));
caCommand('crl', 'Print the revocation lists, PEM.').action(async (flags: CaFlags) =>
  exitWith((await import('./commands/ca.ts')).caCrl(flags)),
);

adminOptions(program.command('get'))
  .description('List what a control plane, or one ztunnel, knows.')
  .argument('<what>', 'workloads, services, policies or certificates')
  .option('-n, --namespace <name>', 'of one namespace only')
  .option('-o, --output <format>', 'table, wide or json', 'table')
  .addHelpText(
    'after',
    `
Examples:
  ambit get workloads                                             of the control plane on this machine
  ambit get policies -n shop -o json                              for scripts
  ambit get certificates --ztunnel http://127.0.0.1:15000         what one node proxy holds

Exit status: 0, 2 wrong usage, 3 cannot reach it.`,
  )
  .action(async (what: string, flags: GetFlags) => exitWith((await import('./commands/get.ts')).get(what, flags)));

adminOptions(program.command('explain'))
  .description('Say whether a connection would be let through, and why.')
  .argument('<source>', 'namespace/workload, an address or a uid')
  .argument('<destination>', 'namespace/service[:port], namespace/workload[:port], hostname[:port] or address[:port]')
  .option('--network <id>', 'where addresses are looked up (default: the one most workloads are in)')
  .option('-o, --output <format>', 'table or json', 'table')
  .addHelpText(
    'after',
    `
Examples:
  ambit explain shop/web shop/cart                                     asks the control plane on this machine
  ambit explain 10.61.1.3 10.96.0.2:80                                 addresses will do
  ambit explain shop/web shop/cart --ztunnel http://127.0.0.1:15000    as one node proxy sees it

Exit status: 0 let through, 1 denied, 2 the question is unclear, 3 cannot reach it.`,
  )
  .action(async (source: string, destination: string, flags: ExplainFlags) =>
    exitWith((await import('./commands/explain.ts')).explain(source, destination, flags)),
  );

ztunnelCommand('why')
  .description('Say whether a connection comes through, what the last real ones did, and what to do.')
  .argument('<source>', 'workload or namespace/workload, an address or a uid')
  .argument('<destination>', 'service or workload, with namespace/ and :port as needed; a host name; an address:port')
  .option('--network <id>', "where addresses are looked up (default: the ztunnel's own)")
  .option('-o, --output <format>', 'table or json', 'table')
  .addHelpText(
    'after',
    `
Examples:
  ambit why shop/web shop/cart                       asks the ztunnel of this machine
  ambit why web cart:80                              bare names will do where they are unique
  ambit why web cart --ztunnel http://127.0.0.1:15000 --ztunnel http://127.0.0.1:15001
                                                     both ends know more than one

Exit status: 0 it comes through, 1 denied or failing, 2 the question is unclear, 3 no ztunnel answers.`,
  )
  .action(async (source: string, destination: string, flags: WhyFlags) =>
    exitWith((await import('./commands/why.ts')).why(source, destination, flags)),
  );

whoCommand('tap')
  .description('Show connections, and requests with --l7, as they happen.')
  .option('--denied', 'only what a policy refused')
  .option('--failed', 'only what failed, denials among it')
  .option('--l7', 'single requests too')
  .option('--count <n>', 'end after as many events')
  .option('--for <time>', 'end after this time, such as 10s')
  .option('-o, --output <format>', 'table, or json for lines of JSON', 'table')
  .addHelpText(
    'after',
    `
Examples:
  ambit tap                                     everything, until Ctrl-C
  ambit tap --to shop/cart --l7                 each request to cart
  ambit tap --failed --for 10s -o json          for scripts

-> is told by the source's ztunnel, => by the destination's: a connection that both see is told by both.
Exit status: 0, 2 wrong usage, 3 no ztunnel answers.`,
  )
  .action(async (flags: TapFlags) => exitWith((await import('./commands/tap.ts')).tap(flags)));

trafficCommand('top')
  .description('Show live who talks to whom, how much, how fast, and how protected.')
  .addHelpText(
    'after',
    `
Examples:
  ambit top                                     q quits, s changes the order, / filters, arrows scroll
  ambit top --to shop/cart --sort p99           who calls cart, the slowest first
  ambit top --by namespace                      sums

Not a terminal: one table of one second. Exit status: 0, 2 wrong usage, 3 no ztunnel answers.`,
  )
  .action(async (flags: TrafficFlags) => exitWith((await import('./commands/top.ts')).top(flags)));

trafficCommand('stat')
  .description('Show in one table who talked to whom in the last minutes.')
  .option('--window <time>', 'the last whole minutes, 1m to 14m (default: 5m)')
  .option('--interval <time>', 'measure for this time instead, such as 2s')
  .option('-o, --output <format>', 'table or json', 'table')
  .addHelpText(
    'after',
    `
Examples:
  ambit stat                                    the last five whole minutes
  ambit stat --by workload --window 1m          the last one, by who is called
  ambit stat --interval 2s -o json              measured now, for scripts

Exit status: 0, 2 wrong usage, 3 no ztunnel answers.`,
  )
  .action(async (flags: StatFlags) => exitWith((await import('./commands/stat.ts')).stat(flags)));

ztunnelCommand('findings')
  .description('List what is wrong with the traffic, on what grounds, and what to do next.')
  .option('-o, --output <format>', 'table or json', 'table')
  .addHelpText(
    'after',
    `
Examples:
  ambit findings                                            of the ztunnel of this machine
  ambit findings --ztunnel http://127.0.0.1:15000           of a certain one; may be repeated
  ambit findings -o json                                    for scripts

Exit status: 0 nothing to look at, 1 a warning or worse, 2 wrong usage, 3 no ztunnel answers.`,
  )
  .action(async (flags: FindingsFlags) => exitWith((await import('./commands/findings.ts')).findings(flags)));

meshCommand('audit')
  .description('Prove that every pod of this node is what it should be: rules, listeners, certificate, canary.')
  .option('--node <name>', 'fail unless this is that node')
  .option('-w, --watch', 'go on showing it until Ctrl-C')
  .addOption(new Option('-o, --output <format>', 'output format').choices(['table', 'json']).default('table'))
  .option('--no-repair', 'look only; what is found is left to the agent')
  .option('--socket <path>', "admin socket of the agent (default: the node's, else that of ambit up)")
  .addHelpText(
    'after',
    `
Examples:
  sudo ambit audit                     looks at everything now, asks every canary, mends what it can
  sudo ambit audit --watch             until Ctrl-C
  sudo ambit audit -o json             for scripts: the exit status says whether anything was found

Exit status: 0 no finding, 1 some, those repaired in the last minute included, 2 wrong usage, 3 cannot reach the agent.`,
  )
  .action(async (flags: AuditFlags) => exitWith((await import('./commands/audit.ts')).audit(flags)));

meshCommand('up')
  .description('Bring up the mesh of this machine in the background: control plane, agent and ztunnel.')
  .option('--systemd', 'as a unit of systemd, which brings it back after a reboot')
  .option('--rootless', 'a mesh of your own without root: no way out, no published ports')
  .option('--foreground', 'stay in the foreground, for another supervisor')
  .option('--owner <uid>', 'user who may start workloads besides root (default: who called, through sudo too)')
  .addOption(new Option('--way-out <tool>').hideHelp())
  .addHelpText(
    'after',
    `
Examples:
  sudo ambit up                        and then: ambit run --name web -- COMMAND
  sudo ambit up --systemd              comes back by itself
  ambit up --rootless                  without root, where the kernel has user namespaces

Your policies and ServiceEntries go into /var/lib/ambit/objects; they are read as you save them.
Exit status: 0 it is up, 1 it did not come up, 2 wrong usage, 3 lacks rights.`,
  )
  .action(async (flags: UpFlags) => exitWith((await import('./commands/up.ts')).up(flags)));

meshCommand('down')
  .description('End the mesh of this machine and its workloads, and put the network back as it was.')
  .option('-f, --force', 'end workloads that run without asking')
  .option('--purge', 'remove keys, logs and your objects too')
  .addHelpText(
    'after',
    `
Examples:
  sudo ambit down                      asks when workloads run
  sudo ambit down --force              for scripts
  sudo ambit down --force --purge      as if it had never been here

Exit status: 0 it is down, 1 workloads run or something is left, 2 wrong usage, 3 lacks rights.`,
  )
  .action(async (flags: DownFlags) => exitWith((await import('./commands/down.ts')).down(flags)));

meshCommand('run')
  .description("Run a command as a workload of this machine's mesh.")
  .argument('<command...>', 'the command and its arguments, after --')
  .option('-n, --namespace <name>', 'namespace', 'default')
  .option('--service-account <name>', 'identity within the namespace', 'default')
  .option('--name <name>', 'its name, in DNS too (default: made from the command)')
  .option('--version-label <text>', 'label version, for policies and figures')
  .option('-p, --publish <port>', '[IP:]HOSTPORT:PORT, reachable from the host; may be repeated', collect)
  .option('--service <port>', 'NAME:PORT[:TARGET], an address that all who name it share; may be repeated', collect)
  .option('-e, --env <variable>', 'NAME=VALUE; may be repeated', collect)
  .option('-d, --detach', 'in the background; ambit logs shows what it prints')
  .option('--no-mesh', 'a network and a name, but outside the mesh')
  .addOption(new Option('--log-to <file>').hideHelp())
  .addOption(new Option('--published-from <fd>').hideHelp())
  .passThroughOptions()
  .addHelpText(
    'after',
    `
Examples:
  ambit run --name cart -- node server.js              reachable as http://cart:PORT by other workloads
  ambit run --name web -- curl http://cart:8080        encrypted and authenticated on the way
  ambit run -d --name api -p 8080:80 -- ./api          in the background, http://127.0.0.1:8080 on the host

Its exit status is the command's. Ours: 1 refused, 2 wrong usage, 3 the mesh is not up or lacks rights.`,
  )
  .action(async (command: string[], flags: RunFlags & { versionLabel?: string }) => {
    const { versionLabel, ...rest } = flags;
    const { run } = await import('./commands/run.ts');
    return exitWith(run(command, versionLabel === undefined ? rest : { ...rest, version: versionLabel }));
  });

meshCommand('ps')
  .description("List the workloads of this machine's mesh.")
  .option('-n, --namespace <name>', 'of one namespace only')
  .option('-w, --watch', 'show it again whenever it changes, until Ctrl-C')
  .addOption(new Option('-o, --output <format>', 'output format').choices(['table', 'wide', 'json']).default('table'))
  .addHelpText(
    'after',
    `
Examples:
  ambit ps                             what runs, and whether it is protected
  ambit ps --watch                     and how that changes
  ambit ps -o wide                     with processes and commands
  ambit ps -n shop -o json             for scripts

Exit status: 0, 2 wrong usage, 3 the mesh is not up.`,
  )
  .action(async (flags: PsFlags) => exitWith((await import('./commands/ps.ts')).ps(flags)));

meshCommand('exec')
  .description('Run one more command in the network of a workload of this machine.')
  .argument('<workload>', 'NAME or NAMESPACE/NAME')
  .argument('<command...>', 'the command and its arguments, after --')
  .passThroughOptions()
  .addHelpText(
    'after',
    `
Examples:
  ambit exec web -- curl -s http://cart:8080
  ambit exec shop/web -- getent hosts cart
  sudo ambit exec web -- ss -tln

Its exit status is the command's. Ours: 1 no such workload, 2 wrong usage, 3 the mesh is not up or lacks rights.`,
  )
  .action(async (workload: string, command: string[], flags: MeshFlags) =>
    exitWith((await import('./commands/exec.ts')).exec(workload, command, flags)),
  );

meshCommand('logs')
  .description('Show what a workload in the background has printed.')
  .argument('<workload>', 'NAME or NAMESPACE/NAME')
  .option('-f, --follow', 'and what it prints further, until it ends')
  .addHelpText(
    'after',
    `
Examples:
  ambit logs cart
  ambit logs shop/cart --follow
  ambit logs cart | tail -20

Exit status: 0, 1 no such workload, 2 it prints to a terminal, 3 the mesh is not up.`,
  )
  .action(async (workload: string, flags: LogsFlags) =>
    exitWith((await import('./commands/logs.ts')).logs(workload, flags)),
  );

program
  .command('local-agent', { hidden: true })
  .argument('<json>')
  .action(async (json: string) => exitWith((await import('./commands/local-agent.ts')).localAgent(json)));

/** A command about the mesh of this machine. */
function meshCommand(name: string): Command {
  return program
    .command(name)
    .option('--dir <dir>', 'keep everything below this directory')
    .addOption(new Option('--run-dir <dir>').hideHelp());
}

/** A command that asks ztunnels. */
function ztunnelCommand(name: string): Command {
  return program
    .command(name)
    .option(
      '--ztunnel <url>',
      'admin address of a ztunnel; may be repeated (default: http://127.0.0.1:15000)',
      collect,
    );
}

/** One that can leave out whom nobody asks about. */
function whoCommand(name: string): Command {
  return ztunnelCommand(name)
    .option('--from <name>', 'only from this workload: name, namespace/name or address')
    .option('--to <name>', 'only to this workload or service')
    .option('-n, --namespace <name>', 'only where either end is in this namespace');
}

function trafficCommand(name: string): Command {
  return whoCommand(name)
    .option('--by <what>', 'edge, or sums by workload or namespace that is called', 'edge')
    .option('--sort <what>', 'rate, errors, p99, bytes or denied', 'rate');
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** Gives commander's refusals our exit status, whatever command they come from. */
function inherit(command: Command): Command {
  for (const each of [command, ...command.commands]) each.exitOverride().showSuggestionAfterError();
  return command;
}

function caCommand(name: string, description: string): Command {
  return ca
    .command(name)
    .description(description)
    .option('--state <dir>', 'state directory of the control plane', STATE)
    .addOption(new Option('-o, --output <format>', 'output format').choices(['table', 'json']).default('table'));
}

function adminOptions(command: Command): Command {
  return command
    .option('--address <url>', 'admin address of the control plane (default: http://127.0.0.1:15014)')
    .option('--ztunnel <url>', 'admin address of a ztunnel, asked instead');
}

async function exitWith(status: Promise<number>): Promise<void> {
  process.exitCode = await status;
}

// Whoever reads our answer may stop reading (`ambit … | head`): that is the end of it, and no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Help and version end with 0; every other refusal of commander is wrong usage.
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
