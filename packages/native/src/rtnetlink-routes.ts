// Routes through rtnetlink(7): list, replace, delete, in the namespace of the given socket, else in the one the thread is
// in. Of a route over several paths the listing says so and names none; such routes cannot be written here.
import { Errno } from './errno.ts';
import { NativeError, SysError } from './errors.ts';
import { formatIpv6, parseIp } from './ip-text.ts';
import type { NetlinkSocket } from './netlink.ts';
import {
  type Attributes,
  ipOf,
  NetlinkWriter,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  readAttributes,
  u32Of,
} from './netlink-message.ts';
import { MAX_INDEX, withRoute } from './rtnetlink-links.ts';
import { familyNumber, formatPrefix, parsePrefix, type RouteFamily, routeFamilyOf } from './rtnetlink-text.ts';
import { checkInteger } from './socket-options.ts';

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

/** `struct rtmsg`: family, destination and source lengths, tos, table, protocol, scope, type (1 each), flags (4). */
const RTMSG_BYTES = 12;
const TABLE_AT = 4;
const PROTOCOL_AT = 5;
const SCOPE_AT = 6;
const TYPE_AT = 7;
const FLAGS_AT = 8;
/** A copy the kernel made for one destination. */
const RTM_F_CLONED = 0x200;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
/** An IPv4 route's IPv6 gateway: family (2), then the address. */
const RTA_VIA = 18;

const RTPROT_STATIC = 4;
const SCOPE = { universe: 0, link: 253, host: 254, any: 255 } as const;
const ROUTE_TYPES = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const;
const MAX_U32 = 0xffffffff;

export const MAIN_TABLE = 254;
export const LOCAL_TABLE = 255;

/** rtnetlink(7); kinds without a name here (anycast, multicast, …) are `other`. */
export type RouteType = keyof typeof ROUTE_TYPES | 'other';

export interface Route {
  readonly family: RouteFamily;
  readonly table: number;
  readonly type: RouteType;
  /** Destination prefix, `0.0.0.0/0` for the default route. */
  readonly to: string;
  /** Index of the outgoing interface. */
  readonly device: number | undefined;
  readonly gateway: string | undefined;
  /** Preferred source address. */
  readonly source: string | undefined;
  readonly metric: number;
  /** Who made it: 2 the kernel, 3 at boot, 4 an administrator; others belong to routing daemons. */
  readonly protocol: number;
  /** Over several paths, which are not listed: `device` and `gateway` are undefined. */
  readonly isMultipath: boolean;
}

export interface RouteSpec {
  /** Destination prefix or address; says the family too. */
  readonly to: string;
  /** Default: 254, the main table. */
  readonly table?: number;
  /** Default: `unicast`. `local` delivers to this host whatever address it is. */
  readonly type?: Exclude<RouteType, 'other'>;
  readonly device?: number;
  readonly gateway?: string;
  readonly source?: string;
  /** Default: 0, which IPv6 reads as 1024. */
  readonly metric?: number;
}

/**
 * The routes of one table, or of all. A table that does not exist is empty. @param maxBytes of the kernel's answer for a family
 * @throws SysError, native.netlink, native.bounds, native.argument
 */
export function listRoutes(table?: number, socket?: NetlinkSocket, maxBytes?: number): Route[] {
  if (table !== undefined) checkTable(table);
  const read = (open: NetlinkSocket) => ([4, 6] as const).flatMap(family => dumpFamily(open, family, table, maxBytes));
  return withRoute(socket, read);
}

function dumpFamily(
  socket: NetlinkSocket,
  family: RouteFamily,
  table: number | undefined,
  maxBytes: number | undefined,
): Route[] {
  const request = new NetlinkWriter(RTMSG_BYTES);
  request.header.writeUInt8(familyNumber(family), 0);
  // Kernels before 4.20 ignore it, hence the filter below.
  if (table !== undefined) request.u32(RTA_TABLE, table);
  let entries: Buffer[];
  try {
    entries = socket.dump(RTM_GETROUTE, request.finish(), maxBytes);
  } catch (error) {
    if (error instanceof SysError && error.errno === Errno.ENOENT) return [];
    throw error;
  }
  const routes = entries.flatMap(entry => readRoute(entry) ?? []);
  return routes.filter(route => route.family === family && (table === undefined || route.table === table));
}

/** Adds a route, or replaces the one to the same destination with the same metric. @throws SysError (ENETUNREACH, ENODEV), native.argument */
export function replaceRoute(route: RouteSpec, socket?: NetlinkSocket): void {
  const type = route.type ?? 'unicast';
  const request = routeRequest(route);
  request.header.writeUInt8(RTPROT_STATIC, PROTOCOL_AT);
  request.header.writeUInt8(ROUTE_TYPES[type], TYPE_AT);
  request.header.writeUInt8(scopeOf(route), SCOPE_AT);
  withRoute(socket, open => open.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, request.finish()));
}

/** Deletes the first route that has everything `route` names. @throws SysError (ESRCH when there is none), native.argument */
export function deleteRoute(route: RouteSpec, socket?: NetlinkSocket): void {
  const request = routeRequest(route);
  if (route.type !== undefined) request.header.writeUInt8(ROUTE_TYPES[route.type], TYPE_AT);
  request.header.writeUInt8(SCOPE.any, SCOPE_AT);
  withRoute(socket, open => open.request(RTM_DELROUTE, 0, request.finish()));
}

/** As iproute2 decides: how far away the destination is. */
function scopeOf({ type, gateway }: RouteSpec): number {
  if (type === 'local') return SCOPE.host;
  if (type === 'broadcast') return SCOPE.link;
  return (type ?? 'unicast') === 'unicast' && gateway === undefined ? SCOPE.link : SCOPE.universe;
}

function routeRequest(route: RouteSpec): NetlinkWriter {
  const { bytes, length, family } = parsePrefix(route.to);
  const table = route.table ?? MAIN_TABLE;
  checkTable(table);
  const request = new NetlinkWriter(RTMSG_BYTES);
  request.header.writeUInt8(familyNumber(family), 0);
  request.header.writeUInt8(length, 1);
  // One byte was not enough for tables: the attribute counts.
  request.header.writeUInt8(table < 256 ? table : 0, TABLE_AT);
  request.u32(RTA_TABLE, table);
  if (length > 0) request.bytes(RTA_DST, bytes);
  if (route.gateway !== undefined) request.bytes(RTA_GATEWAY, addressOf(route.gateway, bytes.length));
  if (route.source !== undefined) request.bytes(RTA_PREFSRC, addressOf(route.source, bytes.length));
  if (route.device !== undefined) {
    checkInteger(route.device, 1, MAX_INDEX, 'interface index');
    request.u32(RTA_OIF, route.device);
  }
  if (route.metric !== undefined) {
    checkInteger(route.metric, 0, MAX_U32, 'metric');
    request.u32(RTA_PRIORITY, route.metric);
  }
  return request;
}

function addressOf(ip: string, size: number): Uint8Array {
  const bytes = parseIp(ip);
  if (bytes.length !== size)
    throw new NativeError('native.argument', `${ip} is of another family than the destination`);
  return bytes;
}

/** Internal to this package: undefined for other families, cached copies and entries that make no sense. */
export function readRoute(entry: Buffer): Route | undefined {
  if (entry.length < RTMSG_BYTES) return undefined;
  const family = routeFamilyOf(entry.readUInt8(0));
  if (family === undefined || (entry.readUInt32LE(FLAGS_AT) & RTM_F_CLONED) !== 0) return undefined;
  const attributes = readAttributes(entry, RTMSG_BYTES);
  const to = formatPrefix(family, attributes.get(RTA_DST), entry.readUInt8(1));
  if (to === undefined) return undefined;
  return {
    family,
    table: u32Of(attributes, RTA_TABLE) ?? entry.readUInt8(TABLE_AT),
    type: routeTypeOf(entry.readUInt8(TYPE_AT)),
    to,
    device: u32Of(attributes, RTA_OIF),
    gateway: ipOf(attributes, RTA_GATEWAY) ?? viaOf(attributes),
    source: ipOf(attributes, RTA_PREFSRC),
    metric: u32Of(attributes, RTA_PRIORITY) ?? 0,
    protocol: entry.readUInt8(PROTOCOL_AT),
    isMultipath: attributes.has(RTA_MULTIPATH),
  };
}

function viaOf(attributes: Attributes): string | undefined {
  const via = attributes.get(RTA_VIA);
  return via?.length === 18 ? formatIpv6(via, 2) : undefined;
}

function routeTypeOf(number: number): RouteType {
  for (const [name, value] of Object.entries(ROUTE_TYPES)) {
    if (value === number) return name as keyof typeof ROUTE_TYPES; // a key of that very object
  }
  return 'other';
}

/** Internal to this package. @throws native.argument */
export function checkTable(table: number): void {
  checkInteger(table, 1, MAX_U32, 'routing table');
}
