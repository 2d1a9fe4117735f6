// Network interfaces through rtnetlink(7): list, make, change, delete. In the namespace of the socket that is given, else
// in the one the thread is in. Reading shows what the kernel says; names are bytes to it, so odd ones may come.
import { Errno } from './errno.ts';
import { SysError } from './errors.ts';
import type { Fd } from './fd.ts';
import { NetlinkProtocol, type NetlinkSocket, withSocket } from './netlink.ts';
import { NetlinkWriter, NLM_F_CREATE, NLM_F_EXCL, readAttributes, textOf, u32Of } from './netlink-message.ts';
import { nameBytes } from './path.ts';
import { formatHardwareAddress } from './rtnetlink-text.ts';
import { checkInteger } from './socket-options.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

/** `struct ifinfomsg`: family, padding, type (2), index (4), flags (4), change mask (4). */
const IFINFOMSG_BYTES = 16;
const INDEX_AT = 4;
const FLAGS_AT = 8;
const CHANGE_AT = 12;
const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_EXT_MASK = 29;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
/** Leaves the counters out: two thirds of an entry. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3;

/** IFNAMSIZ less the terminating zero. */
const MAX_NAME_BYTES = 15;
export const MAX_INDEX = 0x7fffffff;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Administratively up (IFF_UP), whether or not there is a carrier. */
  readonly isUp: boolean;
  readonly isLoopback: boolean;
  /** Hardware address, `0a:00:27:ff:fe:01`; '' when it has none. */
  readonly address: string;
  readonly mtu: number;
  /** `veth`, `bridge`, `vxlan`, …; undefined for hardware and loopback. */
  readonly kind: string | undefined;
  /** Index of the bridge or bond it is part of. */
  readonly master: number | undefined;
  /** Index of the other end of a veth, or the device below a vlan; it may be an index of another namespace. */
  readonly link: number | undefined;
}

/** Every interface. @throws SysError, native.netlink */
export function listLinks(socket?: NetlinkSocket): Link[] {
  const payload = new NetlinkWriter(IFINFOMSG_BYTES).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).finish();
  return withRoute(socket, open => open.dump(RTM_GETLINK, payload)).flatMap(entry => readLink(entry) ?? []);
}

/** One interface by name or index, or undefined when there is none. @throws SysError, native.netlink, native.argument */
export function findLink(which: string | number, socket?: NetlinkSocket): Link | undefined {
  const request = new NetlinkWriter(IFINFOMSG_BYTES);
  if (typeof which === 'number') {
    checkInteger(which, 1, MAX_INDEX, 'interface index');
    request.header.writeInt32LE(which, INDEX_AT);
  } else {
    request.text(IFLA_IFNAME, linkName(which));
  }
  const payload = request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).finish();
  try {
    const [entry] = withRoute(socket, open => open.request(RTM_GETLINK, 0, payload));
    return entry === undefined ? undefined : readLink(entry);
  } catch (error) {
    if (error instanceof SysError && error.errno === Errno.ENODEV) return undefined;
    throw error;
  }
}

export interface VethOptions {
  /** Namespace of the other end; absent: the same as of this end. */
  readonly peerNetns?: Fd;
  /** Of both ends. Default: the kernel's 1500. */
  readonly mtu?: number;
}

/** Makes a pair of connected interfaces, both down. @throws SysError (EEXIST for a name taken on either side), native.argument */
export function addVeth(name: string, peer: string, options: VethOptions = {}, socket?: NetlinkSocket): void {
  const { peerNetns, mtu } = options;
  const writeMtu = () => (mtu === undefined ? undefined : request.u32(IFLA_MTU, checkedMtu(mtu)));
  const request = new NetlinkWriter(IFINFOMSG_BYTES).text(IFLA_IFNAME, linkName(name));
  writeMtu();
  request.nested(IFLA_LINKINFO, () => {
    request.text(IFLA_INFO_KIND, Buffer.from('veth')).nested(IFLA_INFO_DATA, () => {
      const writePeer = () => {
        request.text(IFLA_IFNAME, linkName(peer));
        writeMtu();
        if (peerNetns !== undefined) request.u32(IFLA_NET_NS_FD, peerNetns.number);
      };
      request.nested(VETH_INFO_PEER, writePeer, IFINFOMSG_BYTES);
    });
  });
  create(request, socket);
}

/** Makes a bridge, down. @throws SysError (EEXIST), native.argument */
export function addBridge(name: string, socket?: NetlinkSocket): void {
  const request = new NetlinkWriter(IFINFOMSG_BYTES).text(IFLA_IFNAME, linkName(name));
  request.nested(IFLA_LINKINFO, () => void request.text(IFLA_INFO_KIND, Buffer.from('bridge')));
  create(request, socket);
}

export interface LinkChange {
  readonly up?: boolean;
  /** Index of a bridge; 0 takes it out. */
  readonly master?: number;
  readonly mtu?: number;
  /** Some kernels rename only an interface that is down (EBUSY). */
  readonly name?: string;
  /** Moves it into this namespace, where it arrives down and without addresses. */
  readonly netns?: Fd;
}

/** Changes what is named, all or nothing. @throws SysError (ENODEV), native.argument */
export function setLink(index: number, change: LinkChange, socket?: NetlinkSocket): void {
  const request = indexed(index);
  if (change.up !== undefined) {
    request.header.writeUInt32LE(change.up ? IFF_UP : 0, FLAGS_AT);
    request.header.writeUInt32LE(IFF_UP, CHANGE_AT);
  }
  if (change.master !== undefined) {
    checkInteger(change.master, 0, MAX_INDEX, 'master index');
    request.u32(IFLA_MASTER, change.master);
  }
  if (change.mtu !== undefined) request.u32(IFLA_MTU, checkedMtu(change.mtu));
  if (change.name !== undefined) request.text(IFLA_IFNAME, linkName(change.name));
  if (change.netns !== undefined) request.u32(IFLA_NET_NS_FD, change.netns.number);
  withRoute(socket, open => open.request(RTM_NEWLINK, 0, request.finish()));
}

/** Deletes an interface, and the other end of a veth with it. @throws SysError (ENODEV), native.argument */
export function deleteLink(index: number, socket?: NetlinkSocket): void {
  withRoute(socket, open => open.request(RTM_DELLINK, 0, indexed(index).finish()));
}

/** Internal to this package: undefined for an entry that is too short to be a link. */
export function readLink(entry: Buffer): Link | undefined {
  if (entry.length < IFINFOMSG_BYTES) return undefined;
  const attributes = readAttributes(entry, IFINFOMSG_BYTES);
  const info = readAttributes(attributes.get(IFLA_LINKINFO) ?? Buffer.alloc(0));
  const flags = entry.readUInt32LE(FLAGS_AT);
  return {
    index: entry.readInt32LE(INDEX_AT),
    name: textOf(attributes, IFLA_IFNAME) ?? '',
    isUp: (flags & IFF_UP) !== 0,
    isLoopback: (flags & IFF_LOOPBACK) !== 0,
    address: formatHardwareAddress(attributes.get(IFLA_ADDRESS) ?? Buffer.alloc(0)),
    mtu: u32Of(attributes, IFLA_MTU) ?? 0,
    kind: textOf(info, IFLA_INFO_KIND),
    master: u32Of(attributes, IFLA_MASTER),
    link: u32Of(attributes, IFLA_LINK),
  };
}

/** Internal to this package: runs `f` with the caller's route socket or one of the current namespace. */
export function withRoute<T>(socket: NetlinkSocket | undefined, f: (socket: NetlinkSocket) => T): T {
  return withSocket(socket, NetlinkProtocol.ROUTE, f);
}

function create(request: NetlinkWriter, socket: NetlinkSocket | undefined): void {
  withRoute(socket, open => open.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, request.finish()));
}

function indexed(index: number): NetlinkWriter {
  checkInteger(index, 1, MAX_INDEX, 'interface index');
  const request = new NetlinkWriter(IFINFOMSG_BYTES);
  request.header.writeInt32LE(index, INDEX_AT);
  return request;
}

/** Internal to this package: an interface name as bytes. @throws native.argument */
export function linkName(name: string): Buffer {
  return nameBytes(name, MAX_NAME_BYTES, 'interface name');
}

function checkedMtu(mtu: number): number {
  checkInteger(mtu, 1, MAX_INDEX, 'MTU');
  return mtu;
}
