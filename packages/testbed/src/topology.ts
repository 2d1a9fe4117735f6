// The networks of a bed: the sandbox's own namespace is the fabric, a router; each node is a namespace behind it and
// routes for its pods; each pod is a namespace behind its node. Point-to-point links everywhere, both IP families, no
// bridge and no NAT, so a packet keeps its addresses from end to end and can be watched on each link. Knows nothing of
// the mesh. Namespaces are named by `ip netns`, so `ip netns exec n1 …` works for whoever looks into the sandbox.
import { existsSync } from 'node:fs';
import {
  type DualAddress,
  FABRIC_ADDRESS,
  LOWER_LINK_LOCAL,
  MAX_NODES,
  MAX_PODS_PER_NODE,
  NumberPool,
  nodeAddress,
  nodeSubnets,
  podAddress,
  UPPER_LINK_LOCAL,
} from './address-plan.ts';
import { BedLock } from './bed-lock.ts';
import { TestbedError } from './errors.ts';
import { mustRun, runCommand } from './run-command.ts';
import { insideSandbox } from './sandbox.ts';

/** A network namespace of the bed. */
export interface Netns {
  /** As `ip netns` knows it. */
  readonly netns: string;
  readonly netnsPath: string;
}

export interface NodeNet extends Netns {
  readonly name: string;
  readonly number: number;
  readonly ip4: string;
  readonly ip6: string;
  readonly subnet4: string;
  readonly subnet6: string;
  /** The link to the fabric, seen from the node. */
  readonly uplink: string;
}

export interface PodNet extends Netns {
  readonly node: NodeNet;
  readonly number: number;
  readonly ip4: string;
  readonly ip6: string;
  /** The link to the pod, seen from the node. */
  readonly hostInterface: string;
}

const NODE_NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;
const UPLINK = 'up0';
const DEFAULT_BUSY_TIMEOUT_MS = 120_000;
/** Forwarding is off in a new namespace. Pods keep it off. */
const FORWARD =
  'for name in ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/default/forwarding; do echo 1 > /proc/sys/net/$name; done';

export class Topology {
  readonly nodes: ReadonlyMap<string, NodeNet>;
  readonly #podNumbers: ReadonlyMap<string, NumberPool>;
  readonly #pods = new Map<string, PodNet>();

  readonly #lock: BedLock;

  private constructor(nodes: readonly NodeNet[], lock: BedLock) {
    this.#lock = lock;
    this.nodes = new Map(nodes.map(node => [node.name, node]));
    this.#podNumbers = new Map(nodes.map(({ name }) => [name, new NumberPool('pods on a node', MAX_PODS_PER_NODE)]));
  }

  /**
   * Makes the fabric and the nodes, which get numbers from 1 in this order. Waits for another topology of this sandbox
   * to end, up to `busyTimeoutMs`.
   * @throws testbed.no_sandbox, testbed.argument, testbed.limit, testbed.name_taken, testbed.busy, testbed.command_failed
   */
  static async create(names: readonly string[], busyTimeoutMs = DEFAULT_BUSY_TIMEOUT_MS): Promise<Topology> {
    requireIsolation();
    checkNames(names);
    const nodes = names.map((name, i) => describeNode(name, i + 1));
    const topology = new Topology(nodes, await BedLock.take(busyTimeoutMs));
    try {
      await mustRun('sh', ['-c', FORWARD]);
      await batch(undefined, [
        ...addressLines(FABRIC_ADDRESS, 'lo'),
        ...nodes.flatMap(node => [`netns add ${node.netns}`, ...linkPair(fabricInterface(node), node.netns, UPLINK)]),
      ]);
      await Promise.all(nodes.map(furnishNode));
      await batch(undefined, nodes.flatMap(routesToNode));
    } catch (error) {
      await topology.close();
      throw error;
    }
    return topology;
  }

  /** @throws testbed.name_taken, testbed.limit, testbed.command_failed; nothing is left of the pod then */
  async addPod(node: NodeNet, netns: string): Promise<PodNet> {
    const numbers = this.#podNumbers.get(node.name);
    if (numbers === undefined) throw new TestbedError('testbed.unknown', `no node ${node.name} on this bed`);
    if (this.#pods.has(netns)) throw new TestbedError('testbed.name_taken', `there is a pod ${netns} already`);
    const number = numbers.take();
    const pod = describePod(node, number, netns);
    this.#pods.set(netns, pod);
    try {
      // Both ends of the link are made from here, then each side is furnished in its own namespace.
      await batch(undefined, [
        `netns add ${netns}`,
        `link add ${pod.hostInterface} netns ${node.netns} type veth peer name eth0 netns ${netns}`,
      ]);
      await Promise.all([batch(node.netns, nodeSideOfPod(pod)), batch(netns, podSide(pod))]);
    } catch (error) {
      await this.removePod(pod);
      throw error;
    }
    return pod;
  }

  /**
   * Cuts the pod's link and forgets its namespace. The namespace itself lives as long as a process or descriptor is in
   * it, but it can reach nobody any more. Removing twice is fine.
   */
  async removePod(pod: PodNet): Promise<void> {
    if (this.#pods.get(pod.netns) !== pod) return;
    this.#pods.delete(pod.netns);
    // Either may be missing when addPod failed half-way.
    await runCommand('ip', ['-n', pod.node.netns, 'link', 'del', pod.hostInterface]);
    await runCommand('ip', ['netns', 'del', pod.netns]);
    this.#podNumbers.get(pod.node.name)?.release(pod.number);
  }

  /** Removes everything again, links first. Processes inside are the caller's to end. Closing twice is fine. */
  async close(): Promise<void> {
    const pods = [...this.#pods.values()].toReversed();
    const nodes = [...this.nodes.values()].toReversed();
    this.#pods.clear();
    // -force goes on where something is missing already. A pod's link ends with its node's or its own namespace.
    const lines = [
      ...nodes.map(node => `link del ${fabricInterface(node)}`),
      ...[...pods, ...nodes].map(({ netns }) => `netns del ${netns}`),
      `addr del ${FABRIC_ADDRESS.ip4}/32 dev lo`,
      `addr del ${FABRIC_ADDRESS.ip6}/128 dev lo`,
    ];
    await runCommand('ip', ['-force', '-batch', '-'], { input: `${lines.join('\n')}\n`, timeoutMs: 60_000 });
    await this.#lock.release();
  }
}

function requireIsolation(): void {
  // Addresses and routes of the fabric go into our own namespace: never on a machine's real one.
  if (!insideSandbox()) {
    throw new TestbedError('testbed.no_sandbox', 'a bed needs a sandbox around it', { next: 'use enterSandbox()' });
  }
  if (!existsSync('/proc/sys/net/ipv6')) {
    throw new TestbedError('testbed.no_sandbox', 'this kernel runs without IPv6', {
      next: 'boot without ipv6.disable=1',
    });
  }
}

function checkNames(names: readonly string[]): void {
  if (names.length === 0) throw new TestbedError('testbed.argument', 'a bed needs at least one node');
  if (names.length > MAX_NODES) throw new TestbedError('testbed.limit', `no more than ${MAX_NODES} nodes`);
  const seen = new Set<string>();
  for (const name of names) {
    if (!NODE_NAME.test(name)) {
      throw new TestbedError('testbed.argument', `bad node name ${JSON.stringify(name)}`, {
        next: 'use up to 32 of a-z, 0-9 and -, not at the ends',
      });
    }
    if (seen.has(name)) throw new TestbedError('testbed.name_taken', `two nodes called ${name}`);
    seen.add(name);
  }
}

function describeNode(name: string, number: number): NodeNet {
  const { ip4: subnet4, ip6: subnet6 } = nodeSubnets(number);
  const path = `/run/netns/${name}`;
  return { name, number, ...nodeAddress(number), subnet4, subnet6, netns: name, netnsPath: path, uplink: UPLINK };
}

function describePod(node: NodeNet, number: number, netns: string): PodNet {
  const names = { netns, netnsPath: `/run/netns/${netns}`, hostInterface: `pod${number}` };
  return { node, number, ...names, ...podAddress(node.number, number) };
}

function fabricInterface(node: NodeNet): string {
  return `node${node.number}`;
}

/** Both addresses for a device. Without `nodad` an IPv6 address cannot be a route's source for a moment. */
function addressLines({ ip4, ip6 }: DualAddress, device: string): string[] {
  return [`addr add ${ip4}/32 dev ${device}`, `addr add ${ip6}/128 dev ${device} nodad`];
}

/** A link from here into a namespace, this end ready. */
function linkPair(here: string, netns: string, there: string): string[] {
  return [`link add ${here} type veth peer name ${there} netns ${netns}`, ...linkUp(here, UPPER_LINK_LOCAL)];
}

/**
 * Brings one end up with a link-local address of our choice. Duplicate detection would keep a link-local address useless
 * for a second or two, and neighbours of forwarded packets are solicited from it.
 */
function linkUp(device: string, linkLocal: string): string[] {
  return [
    `link set ${device} addrgenmode none`,
    `link set ${device} up`,
    `addr add ${linkLocal}/64 dev ${device} nodad`,
  ];
}

async function furnishNode(node: NodeNet): Promise<void> {
  await batch(node.netns, [
    'link set lo up',
    ...addressLines(node, 'lo'),
    ...linkUp(UPLINK, LOWER_LINK_LOCAL),
    `route add default via ${FABRIC_ADDRESS.ip4} dev ${UPLINK} onlink src ${node.ip4}`,
    `route add ::/0 via ${UPPER_LINK_LOCAL} dev ${UPLINK} src ${node.ip6}`,
  ]);
  await mustRun('ip', ['netns', 'exec', node.netns, 'sh', '-c', FORWARD]);
}

function routesToNode(node: NodeNet): string[] {
  const device = fabricInterface(node);
  return [
    `route add ${node.ip4} dev ${device} src ${FABRIC_ADDRESS.ip4}`,
    `route add ${node.subnet4} via ${node.ip4} dev ${device} src ${FABRIC_ADDRESS.ip4}`,
    `route add ${node.subnet6} via ${LOWER_LINK_LOCAL} dev ${device} src ${FABRIC_ADDRESS.ip6}`,
  ];
}

function nodeSideOfPod(pod: PodNet): string[] {
  const { node, hostInterface } = pod;
  return [
    ...linkUp(hostInterface, UPPER_LINK_LOCAL),
    `route add ${pod.ip4} dev ${hostInterface} src ${node.ip4}`,
    `route add ${pod.ip6} dev ${hostInterface} src ${node.ip6}`,
  ];
}

function podSide(pod: PodNet): string[] {
  return [
    'link set lo up',
    ...linkUp('eth0', LOWER_LINK_LOCAL),
    ...addressLines(pod, 'eth0'),
    `route add default via ${pod.node.ip4} dev eth0 onlink src ${pod.ip4}`,
    `route add ::/0 via ${UPPER_LINK_LOCAL} dev eth0 src ${pod.ip6}`,
  ];
}

/** Runs many `ip` commands in one process, in a namespace or here. Stops at the first that fails and names it. */
async function batch(netns: string | undefined, lines: readonly string[]): Promise<void> {
  const args = [...(netns === undefined ? [] : ['-n', netns]), '-batch', '-'];
  const result = await runCommand('ip', args, { input: `${lines.join('\n')}\n` });
  if (result.code === 0) return;
  const failed = /Command failed -:(\d+)/.exec(result.stderr)?.[1];
  const line = failed === undefined ? undefined : lines[Number(failed) - 1];
  const where = `ip ${line ?? args.join(' ')}${netns === undefined ? '' : ` in ${netns}`}`;
  throw new TestbedError('testbed.command_failed', `ip failed: ${result.stderr.trim().split('\n')[0] ?? ''}`, {
    where,
  });
}
