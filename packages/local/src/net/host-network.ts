// What the mesh of this machine changes on the host's network, and the way back: one nftables table for translation, one
// accepting rule in each foreign chain that would drop what is forwarded, and the forwarding switches where they were off.
// What was changed is noted in a file before it is changed, so that `ambit down` puts back exactly that, whoever died in
// between. Repeating either is fine. All of it happens in the network namespace this process is in.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { findLink, listAddresses, listLinks, listRoutes, MAIN_TABLE, runNft, setLink } from '@ambit/native';
import { errorText } from '@ambit/log';
import { writeAtomically } from '../atomic-file.ts';
import { LocalError } from '../errors.ts';
import { chooseSubnets, type Subnets, subnetsOf } from './address-plan.ts';
import { foreignAccepts, hasLocalTable, LOCAL_TABLE_NAME, localTable, ourAccepts } from './host-rules.ts';

export interface HostNetwork {
  readonly subnets: Subnets;
  /** Whether workloads get IPv6 addresses too. */
  readonly hasIp6: boolean;
  /** Of the way out; workloads get the same. */
  readonly mtu: number;
}

/** The file. */
interface Changes {
  readonly octet: number;
  readonly hasIp6: boolean;
  /** Switches that were 0 before. */
  readonly switchedOn: readonly string[];
}

const FORWARD_4 = '/proc/sys/net/ipv4/ip_forward';
const FORWARD_6 = '/proc/sys/net/ipv6/conf/all/forwarding';
/** 1: the links we make would have no IPv6. */
const IP6_SWITCHES_OFF = ['all', 'default'].map(name => `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`);
/** A route that a router advertised: the kernel drops it when forwarding is switched on. */
const RTPROT_RA = 9;
const DEFAULT_MTU = 1500;
const DEFAULT_ROUTE = '0.0.0.0/0';

/** @throws local.no_subnet, local.network */
export function ensureHostNetwork(notePath: string): HostNetwork {
  try {
    const known = readChanges(notePath);
    const subnets = known === undefined ? chooseSubnets(usedPrefixes()) : subnetsOf(known.octet);
    const hasIp6 = known?.hasIp6 ?? canHaveIp6();
    const wanted = hasIp6 ? [FORWARD_4, FORWARD_6] : [FORWARD_4];
    const off = wanted.filter(isOff);
    const switchedOn = [...new Set([...(known?.switchedOn ?? []), ...off])];
    mkdirSync(dirname(notePath), { recursive: true });
    writeAtomically(notePath, JSON.stringify({ octet: subnets.octet, hasIp6, switchedOn } satisfies Changes));
    for (const path of off) writeFileSync(path, '1');
    runNft(localTable(subnets));
    const accepts = foreignAccepts(listing(), subnets);
    if (accepts.length > 0) runNft({ nftables: accepts });
    return { subnets, hasIp6, mtu: uplinkMtu() };
  } catch (cause) {
    if (cause instanceof LocalError) throw cause;
    throw new LocalError('local.network', `cannot prepare this machine's network: ${errorText(cause)}`, {
      next: 'it takes root, nftables and network namespaces; --rootless may do without root',
      cause,
    });
  }
}

/**
 * Makes what was made once more where somebody took it away: a firewall that is loaded anew, an engine that began later
 * and drops what it does not know, a switch set back. @returns whether something was missing @throws local.network, local.state
 */
export function repairHostNetwork(notePath: string): boolean {
  const known = readChanges(notePath);
  if (known === undefined) return false;
  const now = listing();
  const isForwarding = [FORWARD_4, ...(known.hasIp6 ? [FORWARD_6] : [])].every(path => !isOff(path));
  const isWhole = hasLocalTable(now) && foreignAccepts(now, subnetsOf(known.octet)).length === 0 && isForwarding;
  if (!isWhole) ensureHostNetwork(notePath);
  return !isWhole;
}

/** Puts everything back. @throws local.network */
export function removeHostNetwork(notePath: string): void {
  const known = readChanges(notePath);
  if (known === undefined) return;
  try {
    const now = listing();
    const rules = ourAccepts(now, subnetsOf(known.octet)).map(rule => ({ delete: { rule } }));
    const hasTable = now.some(({ table }) => table?.name === LOCAL_TABLE_NAME && table.family === 'inet');
    const table = { delete: { table: { family: 'inet', name: LOCAL_TABLE_NAME } } };
    const commands = hasTable ? [...rules, table] : rules;
    if (commands.length > 0) runNft({ nftables: commands });
    for (const path of known.switchedOn) writeFileSync(path, '0');
    rmSync(notePath, { force: true });
  } catch (cause) {
    throw new LocalError('local.network', `cannot put this machine's network back: ${errorText(cause)}`, {
      where: notePath,
      cause,
    });
  }
}

/** A fresh network's loopback is down. */
export function raiseLoopback(): void {
  const loopback = listLinks().find(({ isLoopback }) => isLoopback);
  if (loopback !== undefined) setLink(loopback.index, { up: true });
}

function listing() {
  const answer = runNft({ nftables: [{ list: { ruleset: {} } }] }, { stateless: true }) as { nftables?: unknown };
  // libnftables' own words (libnftables-json(5)); what is looked at is checked where it is.
  return (Array.isArray(answer.nftables) ? answer.nftables : []) as Parameters<typeof foreignAccepts>[0];
}

function isOff(path: string): boolean {
  return readFileSync(path, 'utf8').trim() === '0';
}

function readChanges(path: string): Changes | undefined {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new LocalError('local.state', `cannot read what was changed on the network: ${errorText(error)}`, {
      where: path,
    });
  }
  const { octet, hasIp6, switchedOn } = json as Partial<Changes>;
  const isOurs = (each: unknown) => each === FORWARD_4 || each === FORWARD_6;
  if (typeof octet !== 'number' || !Array.isArray(switchedOn) || !switchedOn.every(isOurs)) {
    throw new LocalError('local.state', 'what was changed on the network is not readable', { where: path });
  }
  return { octet, hasIp6: hasIp6 === true, switchedOn };
}

function usedPrefixes(): string[] {
  const routes = listRoutes(MAIN_TABLE).map(({ to }) => to);
  return [...routes, ...listAddresses().map(({ ip, prefixLength }) => `${ip}/${prefixLength}`)];
}

/**
 * Forwarding IPv6 makes a host forget what routers advertised to it, its own way out perhaps. Then, and where the
 * machine has it switched off, workloads do without IPv6 instead.
 */
function canHaveIp6(): boolean {
  try {
    if (IP6_SWITCHES_OFF.some(path => !isOff(path))) return false;
    if (!isOff(FORWARD_6)) return true;
  } catch {
    return false; // a kernel without IPv6
  }
  return !listRoutes(MAIN_TABLE).some(({ family, protocol }) => family === 6 && protocol === RTPROT_RA);
}

function uplinkMtu(): number {
  const device = listRoutes(MAIN_TABLE).find(({ to }) => to === DEFAULT_ROUTE)?.device;
  return device === undefined ? DEFAULT_MTU : (findLink(device)?.mtu ?? DEFAULT_MTU);
}
