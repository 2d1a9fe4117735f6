// Which tables a namespace has, and with what flags, asked of the kernel itself (NFT_MSG_GETTABLE of
// linux/netfilter/nf_tables.h). A hundred times cheaper than through libnftables, whose version 1.0.6 moreover writes
// whatever is in its memory for the flags of a table that somebody put to sleep.
import { NetlinkProtocol, NetlinkSocket } from '@ambit/native';

const GET_TABLE = (10 << 8) | 1;
const NFPROTO_UNSPEC = 0;
/** NFPROTO numbers of the families that hold rules of ours or of iptables. */
export const FAMILY_NUMBERS: Readonly<Record<NftTableFamily, number>> = { inet: 1, ip: 2, ip6: 10 };
const FAMILIES: readonly NftTableFamily[] = ['inet', 'ip', 'ip6'];
/** Of some 60 a table. A namespace has a few; libnftables takes 0.1 ms for each that there is, whatever it does. */
const MAX_BYTES = 64 * 1024;
/** `struct nfgenmsg`: family, version, two bytes of a resource id. */
const HEADER_BYTES = 4;
const ATTRIBUTE_HEADER_BYTES = 4;
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const NAME = 1;
const FLAGS = 2;

/** The flag of a table whose chains see no packets. */
export const DORMANT = 1;

export type NftTableFamily = 'inet' | 'ip' | 'ip6';

export interface NftTableEntry {
  readonly family: NftTableFamily;
  readonly name: string;
  readonly flags: number;
}

/**
 * The tables of those families in the namespace the thread is in. @throws SysError, NativeError: native.bounds when there are
 * more than some thousand of any family
 */
export function nftTables(): readonly NftTableEntry[] {
  using socket = NetlinkSocket.open(NetlinkProtocol.NETFILTER);
  const entries = socket.dump(GET_TABLE, Uint8Array.of(NFPROTO_UNSPEC, 0, 0, 0), MAX_BYTES);
  return entries.map(readNftTable).filter(table => table !== undefined);
}

/** Undefined for other families, and for what has no name. */
export function readNftTable(entry: Buffer): NftTableEntry | undefined {
  const family = FAMILIES.find(each => FAMILY_NUMBERS[each] === entry[0]);
  if (entry.length < HEADER_BYTES || family === undefined) return undefined;
  let name: string | undefined;
  let flags = 0;
  for (let at = HEADER_BYTES; at + ATTRIBUTE_HEADER_BYTES <= entry.length; ) {
    const length = entry.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > entry.length) break;
    const type = entry.readUInt16LE(at + 2) & ATTRIBUTE_TYPE_MASK;
    const value = entry.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length);
    if (type === NAME) name = value.toString('utf8').split('\0', 1)[0];
    if (type === FLAGS && value.length === 4) flags = value.readUInt32BE(0);
    at += Math.ceil(length / 4) * 4;
  }
  return name === undefined || name === '' ? undefined : { family, name, flags };
}
