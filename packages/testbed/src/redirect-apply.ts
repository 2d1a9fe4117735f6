// Puts the rules of redirect.ts into a namespace and takes them out again. Both may be repeated at any time: the tables
// are replaced in one transaction, and a routing rule that exists is left alone.
import { TestbedError } from './errors.ts';
import { type NftProgram, renderRedirect, renderRedirectRemoval, routeCommands } from './redirect.ts';
import { mustRun, runCommand } from './run-command.ts';

const IP_FAMILIES = [4, 6] as const;
/** Bound for the removal of the same rule added by others several times, before kernels refused that. */
const MAX_DUPLICATES = 8;

/** Captures the pod's TCP from now on; connections that exist stay as they are. @throws testbed.command_failed */
export async function applyRedirect(netnsPath: string): Promise<void> {
  // The route back must be there before the first marked reply can be.
  await Promise.all(IP_FAMILIES.map(async family => addRoute(netnsPath, family)));
  await load(netnsPath, renderRedirect());
}

/** @throws testbed.command_failed */
export async function removeRedirect(netnsPath: string): Promise<void> {
  await load(netnsPath, renderRedirectRemoval());
  await Promise.all(IP_FAMILIES.map(async family => removeRoute(netnsPath, family)));
}

async function load(netnsPath: string, program: NftProgram): Promise<void> {
  // As an argument: `-f -` opens /dev/stdin by name, which fails on the sockets that Node gives to its children.
  await mustRun('nsenter', [`--net=${netnsPath}`, 'nft', '-j', JSON.stringify(program)]);
}

async function addRoute(netnsPath: string, family: 4 | 6): Promise<void> {
  const { rule, route } = routeCommands(family);
  await mustRun('nsenter', inNetns(netnsPath, family, ['route', 'replace', ...route]));
  const added = await runCommand('nsenter', inNetns(netnsPath, family, ['rule', 'add', ...rule]));
  if (added.code !== 0 && !added.stderr.includes('File exists')) {
    throw new TestbedError('testbed.command_failed', `ip rule add failed: ${added.stderr.trim()}`, {
      where: netnsPath,
    });
  }
}

async function removeRoute(netnsPath: string, family: 4 | 6): Promise<void> {
  const { rule, route } = routeCommands(family);
  for (let i = 0; i < MAX_DUPLICATES; i++) {
    const removed = await runCommand('nsenter', inNetns(netnsPath, family, ['rule', 'del', ...rule]));
    if (removed.code !== 0) break;
  }
  await runCommand('nsenter', inNetns(netnsPath, family, ['route', 'del', ...route]));
}

function inNetns(netnsPath: string, family: 4 | 6, args: readonly string[]): string[] {
  return [`--net=${netnsPath}`, 'ip', `-${family}`, ...args];
}
