// IP addresses of interfaces through rtnetlink(7): list, add, delete, in the namespace of the given socket, else in the
// one the thread is in.
import type { NetlinkSocket } from './netlink.ts';
import { ipOf, NetlinkWriter, NLM_F_CREATE, NLM_F_EXCL, readAttributes, u32Of } from './netlink-message.ts';
import { MAX_INDEX, withRoute } from './rtnetlink-links.ts';
import { familyNumber, parsePrefix, type RouteFamily, routeFamilyOf } from './rtnetlink-text.ts';
import { checkInteger } from './socket-options.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

/** `struct ifaddrmsg`: family, prefix length, flags, scope (1 each), index (4). */
const IFADDRMSG_BYTES = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 0x02;
const IFA_F_TENTATIVE = 0x40;
const RT_SCOPE_UNIVERSE = 0;

export interface InterfaceAddress {
  /** Of the interface. */
  readonly index: number;
  readonly family: RouteFamily;
  readonly ip: string;
  readonly prefixLength: number;
  /** rtnetlink(7): 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** IPv6 whose uniqueness is still being checked: nothing can bind to it yet. */
  readonly isTentative: boolean;
}

/** Every IPv4 and IPv6 address. @throws SysError, native.netlink */
export function listAddresses(socket?: NetlinkSocket): InterfaceAddress[] {
  const payload = new Uint8Array(IFADDRMSG_BYTES);
  return withRoute(socket, open => open.dump(RTM_GETADDR, payload)).flatMap(entry => readAddress(entry) ?? []);
}

/**
 * Adds `10.0.0.1/24` or `fd00::1/64` to an interface. IPv6 is usable at once: uniqueness is not checked, since addresses
 * here come from an address plan. @throws SysError (EEXIST, ENODEV), native.argument
 */
export function addAddress(index: number, address: string, socket?: NetlinkSocket): void {
  const request = addressRequest(index, address).u32(IFA_FLAGS, IFA_F_NODAD).finish();
  withRoute(socket, open => open.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, request));
}

/** Takes an address away. @throws SysError (EADDRNOTAVAIL, ENODEV), native.argument */
export function deleteAddress(index: number, address: string, socket?: NetlinkSocket): void {
  withRoute(socket, open => open.request(RTM_DELADDR, 0, addressRequest(index, address).finish()));
}

function addressRequest(index: number, address: string): NetlinkWriter {
  checkInteger(index, 1, MAX_INDEX, 'interface index');
  const { bytes, length, family } = parsePrefix(address);
  const request = new NetlinkWriter(IFADDRMSG_BYTES);
  request.header.writeUInt8(familyNumber(family), 0);
  request.header.writeUInt8(length, 1);
  request.header.writeUInt8(RT_SCOPE_UNIVERSE, 3);
  request.header.writeUInt32LE(index, 4);
  return request.bytes(IFA_LOCAL, bytes).bytes(IFA_ADDRESS, bytes);
}

/** Internal to this package: undefined for another family, or an entry without an address. */
export function readAddress(entry: Buffer): InterfaceAddress | undefined {
  if (entry.length < IFADDRMSG_BYTES) return undefined;
  const family = routeFamilyOf(entry.readUInt8(0));
  const attributes = readAttributes(entry, IFADDRMSG_BYTES);
  // Of a point-to-point interface IFA_ADDRESS is the other end.
  const ip = ipOf(attributes, IFA_LOCAL) ?? ipOf(attributes, IFA_ADDRESS);
  if (family === undefined || ip === undefined) return undefined;
  const flags = u32Of(attributes, IFA_FLAGS) ?? entry.readUInt8(2);
  return {
    index: entry.readUInt32LE(4),
    family,
    ip,
    prefixLength: entry.readUInt8(1),
    scope: entry.readUInt8(3),
    isTentative: (flags & IFA_F_TENTATIVE) !== 0,
  };
}
