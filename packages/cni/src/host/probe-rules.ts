// The node's rules for probes in nft's language; pure. TCP of the kubelet to enrolled pods gets a source address that the
// rules in the pods let pass. Table, chain, set names and the pod's UID as comment are those of Istio's agent, so that
// either can go on with what the other left.
import { hash } from 'node:crypto';
import type { RedirectPlan } from '../redirect/redirect-plan.ts';
import {
  NFT_FAMILY,
  type NftJson,
  type NftProgram,
  nftBaseChain,
  nftMatch,
  nftMeta,
  nftNoTable,
  nftPayload,
  nftRule,
  nftTable,
} from '../redirect/nft-json.ts';
import type { IpFamily } from '../redirect/redirect-rules.ts';

export interface ProbePlan {
  readonly snat: RedirectPlan['probeSnat'];
  readonly ipv6: boolean;
  readonly kubeletUid: number;
}

export const PROBE_TABLE = 'istio-ambient-nat';
const CHAIN = 'postrouting';
const SRCNAT_PRIORITY = 100;

export interface ProbeEntry {
  readonly ip: string;
  readonly uid: string;
}

export function probeSetName(family: IpFamily): string {
  return `istio-inpod-probes-v${family}`;
}

export function ipFamilyOf(ip: string): IpFamily {
  return ip.includes(':') ? 6 : 4;
}

export function probeFamilies({ ipv6 }: Pick<ProbePlan, 'ipv6'>): readonly IpFamily[] {
  return ipv6 ? [4, 6] : [4];
}

/** One transaction that leaves exactly our rules in the chain; addresses that are in the sets stay there. */
export function renderProbeRules(plan: ProbePlan): NftProgram {
  const chain: NftJson = { chain: { family: NFT_FAMILY, table: PROBE_TABLE, name: CHAIN } };
  return {
    nftables: [
      { add: nftTable(PROBE_TABLE) },
      ...probeFamilies(plan).map(family => ({ add: probeSet(family) })),
      nftBaseChain(PROBE_TABLE, CHAIN, 'nat', 'postrouting', SRCNAT_PRIORITY),
      { flush: chain },
      ...probeFamilies(plan).map(family => probeRule(family, plan)),
    ],
  };
}

export function renderProbeRemoval(): NftProgram {
  return { nftables: nftNoTable(PROBE_TABLE) };
}

/**
 * Puts addresses in, or changes whose they are. nft leaves the comment of an element that exists, hence out and in again;
 * and in first, since taking out what is not there fails.
 */
export function renderProbeAdd(entries: readonly ProbeEntry[]): NftProgram {
  return {
    nftables: entries.flatMap(({ ip, uid }) => [
      { add: element(ip, ip) },
      { delete: element(ip, ip) },
      { add: element(ip, { elem: { val: ip, comment: probeComment(uid) } }) },
    ]),
  };
}

/** Fails as a whole when one is not there. */
export function renderProbeDelete(ips: readonly string[]): NftProgram {
  return { nftables: ips.map(ip => ({ delete: element(ip, ip) })) };
}

/** nft refuses longer comments. UIDs of Kubernetes have 36 bytes. */
const MAX_COMMENT_BYTES = 127;

/** What an element says of its pod: the UID, or a digest of one that is too long. */
export function probeComment(uid: string): string {
  return Buffer.byteLength(uid) <= MAX_COMMENT_BYTES ? uid : `sha256-${hash('sha256', uid)}`;
}

/** The elements in nft's answer to `list set`; those without a comment belong to ''. */
export function readProbeSet(listing: unknown): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const item of listOf(fieldOf(listing, 'nftables'))) {
    for (const listed of listOf(fieldOf(fieldOf(item, 'set'), 'elem'))) {
      const inner = fieldOf(listed, 'elem');
      const ip = inner === undefined ? listed : fieldOf(inner, 'val');
      const comment = fieldOf(inner, 'comment');
      if (typeof ip === 'string') found.set(ip, typeof comment === 'string' ? comment : '');
    }
  }
  return found;
}

/** A question for one set. */
export function renderProbeList(family: IpFamily): NftProgram {
  return { nftables: [{ list: { set: { family: NFT_FAMILY, table: PROBE_TABLE, name: probeSetName(family) } } }] };
}

function probeSet(family: IpFamily): NftJson {
  const type = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  return { set: { family: NFT_FAMILY, table: PROBE_TABLE, name: probeSetName(family), type } };
}

function probeRule(family: IpFamily, { snat, kubeletUid }: ProbePlan): NftJson {
  const ip = family === 4 ? 'ip' : 'ip6';
  const when = [
    nftMatch('==', nftMeta('l4proto'), 'tcp'),
    nftMatch('==', nftMeta('skuid'), kubeletUid),
    nftMatch('==', nftPayload(ip, 'daddr'), `@${probeSetName(family)}`),
  ];
  return nftRule(PROBE_TABLE, CHAIN, when, { snat: { family: ip, addr: family === 4 ? snat.ip : snat.ip6 } });
}

function element(ip: string, elem: NftJson): NftJson {
  const name = probeSetName(ipFamilyOf(ip));
  return { element: { family: NFT_FAMILY, table: PROBE_TABLE, name, elem: [elem] } };
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Readonly<Record<string, unknown>>)[key] // an object, as just seen
    : undefined;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
