// Which tables of our family a namespace has, and with what flags, asked of the kernel itself (NFT_MSG_GETTABLE of
// linux/netfilter/nf_tables.h). A hundred times cheaper than through libnftables, whose version 1.0.6 moreover writes
// whatever is in its memory for the flags of a table that somebody put to sleep.
import { NetlinkProtocol, NetlinkSocket } from '@ambit/native';

const GET_TABLE = (10 << 8) | 1;
const NFPROTO_INET = 1;
/** `struct nfgenmsg`: family, version, two bytes of a resource id. */
const HEADER_BYTES = 4;
const ATTRIBUTE_HEADER_BYTES = 4;
const ATTRIBUTE_TYPE_MASK = 0x3fff;
const NAME = 1;
const FLAGS = 2;

/** The flag of a table whose chains see no packets. */
export const DORMANT = 1;

/** Flags by name of the inet tables in the namespace the thread is in. @throws SysError, NativeError */
export function nftTables(): ReadonlyMap<string, number> {
  using socket = NetlinkSocket.open(NetlinkProtocol.NETFILTER);
  const entries = socket.dump(GET_TABLE, Uint8Array.of(NFPROTO_INET, 0, 0, 0));
  const tables = entries.map(readNftTable).filter(table => table !== undefined);
  return new Map(tables.map(({ name, flags }) => [name, flags]));
}

/** Undefined for other families, and for what has no name. */
export function readNftTable(entry: Buffer): { readonly name: string; readonly flags: number } | undefined {
  if (entry.length < HEADER_BYTES || entry[0] !== NFPROTO_INET) return undefined;
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
  return name === undefined || name === '' ? undefined : { name, flags };
}
