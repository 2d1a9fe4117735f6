// Probes on AWS nodes where a pod has a network interface of its own (security groups for pods): the VPC plugin routes such
// a pod by rules on its link, past the node, so answers to the special source would leave by the wrong way. For each such
// pod two rules lead there and back. Istio does the same, with the same priorities. Acts in the node's namespace, which the
// thread must be in; elsewhere than on such nodes it finds nothing and does nothing.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  addRule,
  deleteRule,
  Errno,
  findLink,
  LOCAL_TABLE,
  listRoutes,
  listRules,
  MAIN_TABLE,
  NetlinkProtocol,
  NetlinkSocket,
  type Rule,
  type RuleSpec,
  SysError,
} from '@ambit/native';
import { ipFamilyOf } from './probe-rules.ts';

const TO_POD_PRIORITY = 512;
/** More rules by link than that are no VPC plugin's. */
const MAX_RULES = 4096;

/**
 * Whether the node is set up for such pods at all: the VPC plugin switches the early look-up of sockets off.
 * @param procRoot a procfs @returns false also when it cannot be read
 */
export function mayHaveBranchInterfaces(procRoot: string): boolean {
  try {
    return readFileSync(join(procRoot, 'sys/net/ipv4/tcp_early_demux'), 'latin1').startsWith('0');
  } catch {
    return false;
  }
}

/** The rules that exist because of one pod's address; to be given to `removeBranchRules`. */
export type BranchRules = readonly RuleSpec[];

/** @returns undefined when the pod has no such interface. @throws SysError with neither rule left */
export function addBranchRules(ip: string): BranchRules | undefined {
  using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  const found = findBranch(ip, socket);
  if (found === undefined) return undefined;
  const family = ipFamilyOf(ip);
  const there: RuleSpec = { family, priority: TO_POD_PRIORITY, table: found.table, to: hostPrefix(ip) };
  // Just before the plugin's own rule for the link: what comes from the pod to this node stays here.
  const back: RuleSpec = { family, priority: Math.max(found.priority - 1, 0), table: LOCAL_TABLE, iif: found.iif };
  const isNew = add(there, socket);
  try {
    add(back, socket);
  } catch (error) {
    if (isNew) drop(there, socket);
    throw error;
  }
  return [there, back];
}

/** As far as they are still there. */
export function removeBranchRules(rules: BranchRules): void {
  using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  for (const rule of rules) drop(rule, socket);
}

/** The plugin's rule for the pod's link, if its table has the pod behind that very link. */
function findBranch(
  ip: string,
  socket: NetlinkSocket,
): { readonly table: number; readonly priority: number; readonly iif: string } | undefined {
  for (const rule of listRules(socket).slice(0, MAX_RULES)) {
    const { iif, table, priority } = rule;
    if (iif === undefined || !isPluginRule(rule, ip)) continue;
    const link = findLink(iif, socket);
    const isBehind = listRoutes(table, socket).some(
      ({ to, device }) => to === hostPrefix(ip) && device === link?.index,
    );
    if (link !== undefined && isBehind) return { table, priority, iif };
  }
  return undefined;
}

function isPluginRule({ family, table }: Rule, ip: string): boolean {
  return family === ipFamilyOf(ip) && table !== 0 && table !== MAIN_TABLE && table !== LOCAL_TABLE;
}

function hostPrefix(ip: string): string {
  return `${ip}/${ipFamilyOf(ip) === 4 ? 32 : 128}`;
}

/** @returns false when it was there already */
function add(rule: RuleSpec, socket: NetlinkSocket): boolean {
  try {
    addRule(rule, socket);
    return true;
  } catch (error) {
    if (error instanceof SysError && error.errno === Errno.EEXIST) return false;
    throw error;
  }
}

function drop(rule: RuleSpec, socket: NetlinkSocket): void {
  try {
    deleteRule(rule, socket);
  } catch (error) {
    if (!(error instanceof SysError)) throw error; // gone with its link, or by somebody else
  }
}
