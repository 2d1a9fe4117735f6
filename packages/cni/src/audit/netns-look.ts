// One short look into a pod's network namespace: which addresses are there and who listens where it matters. Synchronous,
// since a visit is; costs a few netlink dumps whose size the pod decides, so what is kept of them is bounded.
import { listAddresses, listListeners, type NetNs } from '@ambit/native';
import { visit } from '../redirect/visit.ts';

export interface NetnsLook {
  /** Of every interface but those of the host's own scope (loopback); link-local ones included. */
  readonly addresses: ReadonlySet<string>;
  /** False in a pod that is ending: its interfaces are gone, and it speaks to nobody. */
  readonly hasNetwork: boolean;
  /** Ports on which somebody waits for TCP, and for UDP, where it was asked. */
  readonly tcp: ReadonlySet<number>;
  readonly udp: ReadonlySet<number>;
  /** Changes when any of the given sockets is another one than before. */
  readonly sockets: string;
}

/** rtnetlink(7): an address that only the namespace itself reaches. */
const SCOPE_HOST = 254;
const SCOPE_LINK = 253;
const ANY: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
/** Every pod has it; `::1` is not everywhere. */
const LOOPBACK = '127.0.0.1';

/**
 * @param ports those that matter, and where: a port that the pod's own traffic is led to may also be on its loopback alone
 * @throws CniError enrol.netns_gone
 */
export function lookInto(netns: NetNs, ports: ReadonlyMap<number, 'everywhere' | 'loopback'>): NetnsLook {
  return visit(netns, () => {
    const addresses = listAddresses().filter(({ scope }) => scope !== SCOPE_HOST);
    const ours = listListeners().filter(({ ip, port }) => isWhere(ip, ports.get(port)));
    const of = (wanted: 'tcp' | 'udp'): ReadonlySet<number> =>
      new Set(ours.flatMap(({ protocol, port }) => (protocol === wanted ? [port] : [])));
    return {
      addresses: new Set(addresses.map(({ ip }) => ip)),
      hasNetwork: addresses.some(({ scope }) => scope !== SCOPE_LINK),
      tcp: of('tcp'),
      udp: of('udp'),
      sockets: ours
        .map(({ port, inode }) => `${port}:${inode}`)
        .sort()
        .join(),
    };
  });
}

function isWhere(ip: string, where: 'everywhere' | 'loopback' | undefined): boolean {
  return where !== undefined && (ANY.has(ip) || (where === 'loopback' && ip === LOOPBACK));
}
