// How much a table holds, asked of the kernel before libnftables lists it: whoever is root in a pod decides what is in its
// tables, and libnftables takes 0.1 ms and 10 KB for each rule, on the thread that serves every other pod. Acts in the
// namespace the thread is in. Says nothing of what the table holds.
import { NativeError, NetlinkProtocol, NetlinkSocket } from '@ambit/native';
import { FAMILY_NUMBERS, type NftTableFamily } from './nft-table-list.ts';

const SUBSYSTEM = 10 << 8;
/** NFT_MSG_GETCHAIN, GETRULE, GETOBJ, GETFLOWTABLE of linux/netfilter/nf_tables.h; the kernel tells chains of all tables. */
const GET_PARTS = [4, 7, 19, 23];
const GET_SETS = 10;
/** NFTA_*_TABLE: the same number for each of them. */
const TABLE = 1;
const ATTRIBUTE_HEADER_BYTES = 4;

/** Of the kernel's description: some 2000 rules, where ours are 20 and two an interface. */
const MAX_BYTES = 256 * 1024;

/**
 * Whether listing the table costs little. One with sets is not listed, since each may hold millions: neither we nor
 * iptables-nft make any. @throws SysError, NativeError as a dump of netlink
 */
export function isListable(family: NftTableFamily, table: string): boolean {
  using socket = NetlinkSocket.open(NetlinkProtocol.NETFILTER);
  const request = ofTable(family, table);
  let rest = MAX_BYTES;
  try {
    for (const part of GET_PARTS) {
      for (const { length } of socket.dump(SUBSYSTEM | part, request, rest)) rest -= length;
    }
    return socket.dump(SUBSYSTEM | GET_SETS, request, rest).length === 0;
  } catch (error) {
    if (error instanceof NativeError && error.code === 'native.bounds') return false;
    throw error;
  }
}

/** `struct nfgenmsg` and the name. */
function ofTable(family: NftTableFamily, table: string): Buffer {
  const name = Buffer.from(`${table}\0`);
  const header = Buffer.from([FAMILY_NUMBERS[family], 0, 0, 0]);
  const attribute = Buffer.alloc(ATTRIBUTE_HEADER_BYTES);
  attribute.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + name.length, 0);
  attribute.writeUInt16LE(TABLE, 2);
  return Buffer.concat([header, attribute, name, Buffer.alloc(-name.length & 3)]);
}
