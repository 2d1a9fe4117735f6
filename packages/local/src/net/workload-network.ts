// A workload's network: one link from its namespace to the host, addresses and routes on both ends, no bridge. We take the
// link away; the kernel does when the namespace goes, so nothing of this outlives a workload's last process. Synchronous, since
// part of it happens inside the namespace.
import { writeFileSync } from 'node:fs';
import {
  addAddress,
  addVeth,
  deleteLink,
  Errno,
  findLink,
  listLinks,
  NetlinkProtocol,
  NetlinkSocket,
  NetNs,
  replaceRoute,
  setLink,
  SysError,
} from '@ambit/native';
import { errorText } from '@ambit/log';
import { LocalError } from '../errors.ts';
import { addressOf, HOST_NUMBER } from './address-plan.ts';
import type { HostNetwork } from './host-network.ts';

const INSIDE = 'eth0';
const HOST_INTERFACE = /^ambit\d+$/;

export interface WorkloadAddresses {
  readonly ip4: string;
  readonly ip6: string | undefined;
}

export function hostInterfaceOf(number: number): string {
  return `ambit${number}`;
}

/** Addresses of the workload with this number. */
export function workloadAddresses({ subnets, hasIp6 }: HostNetwork, number: number): WorkloadAddresses {
  const { ip4, ip6 } = addressOf(subnets, number);
  return { ip4, ip6: hasIp6 ? ip6 : undefined };
}

/**
 * Connects a fresh namespace. @throws local.foreign_network when it is the host's, or somebody's who has links in it;
 * local.network. Nothing is left then.
 */
export function connectWorkload(
  network: HostNetwork,
  netnsPath: string,
  { number, netnsName }: { readonly number: number; readonly netnsName: string },
): void {
  const name = hostInterfaceOf(number);
  using netns = openNetns(netnsPath);
  // A process may have changed its namespace since it was looked at, and what is in the one that was seen will be killed.
  if (netnsName !== `net:[${netns.identity.ino}]`) throw foreign(netnsPath);
  checkFresh(netns, netnsPath);
  try {
    removeLink(name);
    addVeth(name, INSIDE, { peerNetns: netns.fd, mtu: network.mtu });
    furnishHost(network, number);
    netns.run(() => furnishInside(network, number));
  } catch (cause) {
    removeLink(name);
    throw new LocalError('local.network', `cannot connect the workload's network: ${errorText(cause)}`, { cause });
  }
}

/** Cuts the workload off: the link is gone afterwards, whoever took it. @throws SysError */
export function removeLink(name: string): void {
  const link = findLink(name);
  if (link === undefined) return;
  try {
    deleteLink(link.index);
  } catch (error) {
    // The kernel takes it away with its namespace, perhaps since we looked.
    if (!(error instanceof SysError && error.errno === Errno.ENODEV)) throw error;
  }
}

export function hasLink(name: string): boolean {
  return findLink(name) !== undefined;
}

/** Links of workloads that nobody knows. */
export function strayLinks(known: ReadonlySet<string>): string[] {
  return listLinks()
    .map(({ name }) => name)
    .filter(name => HOST_INTERFACE.test(name) && !known.has(name));
}

function openNetns(path: string): NetNs {
  try {
    return NetNs.open(path);
  } catch (cause) {
    throw new LocalError('local.workload_gone', `the workload ended before it had its network: ${errorText(cause)}`, {
      cause,
    });
  }
}

function checkFresh(netns: NetNs, path: string): void {
  using own = NetNs.own();
  // Tunnels that the kernel puts into every new namespace are down.
  const hasLinks = () => netns.run(() => listLinks().some(({ isLoopback, isUp }) => isUp && !isLoopback));
  if (!netns.same(own) && !hasLinks()) return;
  throw foreign(path);
}

function foreign(where: string): LocalError {
  return new LocalError('local.foreign_network', 'the process is in a network that is not fresh', { where });
}

function furnishHost({ subnets, hasIp6 }: HostNetwork, number: number): void {
  const name = hostInterfaceOf(number);
  using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  if (hasIp6) usableAtOnce(name);
  const { index } = mustFind(name, socket);
  setLink(index, { up: true }, socket);
  const host = addressOf(subnets, HOST_NUMBER);
  const workload = addressOf(subnets, number);
  addAddress(index, `${host.ip4}/32`, socket);
  replaceRoute({ to: `${workload.ip4}/32`, device: index, source: host.ip4 }, socket);
  if (!hasIp6) return;
  addAddress(index, `${host.ip6}/128`, socket);
  replaceRoute({ to: `${workload.ip6}/128`, device: index, source: host.ip6 }, socket);
}

/** Runs in the workload's namespace. */
function furnishInside({ subnets, hasIp6 }: HostNetwork, number: number): void {
  using socket = NetlinkSocket.open(NetlinkProtocol.ROUTE);
  if (hasIp6) usableAtOnce(INSIDE);
  const loopback = listLinks(socket).find(({ isLoopback }) => isLoopback);
  if (loopback !== undefined) setLink(loopback.index, { up: true }, socket);
  const { index } = mustFind(INSIDE, socket);
  setLink(index, { up: true }, socket);
  const host = addressOf(subnets, HOST_NUMBER);
  const workload = addressOf(subnets, number);
  addAddress(index, `${workload.ip4}/32`, socket);
  replaceRoute({ to: `${host.ip4}/32`, device: index, source: workload.ip4 }, socket);
  replaceRoute({ to: '0.0.0.0/0', device: index, gateway: host.ip4, source: workload.ip4 }, socket);
  if (!hasIp6) return;
  addAddress(index, `${workload.ip6}/128`, socket);
  replaceRoute({ to: `${host.ip6}/128`, device: index, source: workload.ip6 }, socket);
  replaceRoute({ to: '::/0', device: index, gateway: host.ip6, source: workload.ip6 }, socket);
}

/**
 * The kernel's own link-local address would be checked for duplicates for a second or two, during which neighbours are not
 * found. A link of two ends that we both furnish has none.
 */
function usableAtOnce(name: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/accept_dad`, '0');
  } catch {
    // Read-only in some containers: IPv6 comes a moment later.
  }
}

function mustFind(name: string, socket: NetlinkSocket) {
  const link = findLink(name, socket);
  if (link === undefined) throw new LocalError('local.network', `the link ${name} is gone`);
  return link;
}
