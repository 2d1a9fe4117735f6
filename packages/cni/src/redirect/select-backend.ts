// Which back end programs the pods of this node. nftables where it works, tried with the real rules in an empty namespace;
// iptables where it does not, where it is asked for, and where Istio's iptables back end has been since the last boot: its
// rules are in the pods already, and two sets of them must not meet.
import { type NetNs, Nftables } from '@ambit/native';
import { CniError } from '../errors.ts';
import { IptablesBackend } from './iptables-backend.ts';
import { chooseIptables, type IptablesWish } from './iptables-binary.ts';
import { NftablesBackend } from './nft-backend.ts';
import { REDIRECT_TABLES, renderNftRedirect } from './nft-redirect.ts';
import { referenceTables } from './nft-tables.ts';
import type { RedirectBackend } from './redirect-plan.ts';
import { DEFAULT_PROBE_SNAT } from './redirect-rules.ts';
import { runTool } from './tool-in-netns.ts';
import { textOf } from './visit.ts';

export interface BackendWish extends IptablesWish {
  readonly want: 'auto' | 'nftables' | 'iptables';
}

export interface BackendChoice {
  readonly backend: RedirectBackend;
  /** One line for the log. */
  readonly why: string;
}

/** Sets that only Istio's iptables back end makes. */
const ISTIO_IP_SETS = ['istio-inpod-probes-v4', 'istio-inpod-probes-v6'];

/** @param node the node's own namespace, which is only read @throws CniError cni.unsupported */
export async function selectBackend(node: NetNs, wish: BackendWish): Promise<BackendChoice> {
  if (wish.want === 'iptables') return iptables(node, wish, 'as configured');
  const set = await istioIpSet(node);
  if (set !== undefined) {
    return iptables(node, wish, `Istio's ipset ${set} is on this node; nftables can be used after a reboot`);
  }
  const failure = nftablesFailure(wish.ipv6);
  if (failure === undefined) {
    return { backend: new NftablesBackend(), why: wish.want === 'auto' ? 'nftables works here' : 'as configured' };
  }
  if (wish.want === 'auto') return iptables(node, wish, `nftables does not work here: ${failure}`);
  throw new CniError('cni.unsupported', `nftables does not work here: ${failure}`, {
    next: 'install libnftables1 (Debian, Ubuntu) or nftables, or use the iptables back end',
  });
}

async function iptables(node: NetNs, wish: BackendWish, why: string): Promise<BackendChoice> {
  const backend = new IptablesBackend(await chooseIptables(node, wish));
  const { variant, version } = backend.binary;
  return { backend, why: `${why} (${variant}, ${version})` };
}

/** Without the tool, or when it fails, there is none. */
async function istioIpSet(node: NetNs): Promise<string | undefined> {
  const listed = await runTool(node, 'ipset', ['list', '-name']).catch(() => undefined);
  const names = listed?.code === 0 ? listed.stdout.split('\n').map(name => name.trim()) : [];
  return ISTIO_IP_SETS.find(name => names.includes(name));
}

/** Why the rules cannot be programmed, in nft's words; undefined when they can. */
function nftablesFailure(ipv6: boolean): string | undefined {
  if (!Nftables.available()) return 'libnftables is not installed';
  const plan = { dnsCapture: true, bypassInbound: false, virtualInterfaces: [], ipv6, probeSnat: DEFAULT_PROBE_SNAT };
  try {
    const listed = referenceTables(renderNftRedirect(plan, 'first'), REDIRECT_TABLES);
    return listed.size === REDIRECT_TABLES.length ? undefined : 'it does not list what it was told';
  } catch (error) {
    return textOf(error).split('\n', 1)[0];
  }
}
