// Routing policy rules through rtnetlink(7): list, add, delete, in the namespace of the given socket, else in the one the
// thread is in. Listed rules show everything that narrows them, so that nobody else's rule is taken for ours.
import type { NetlinkSocket } from './netlink.ts';
import { NetlinkWriter, NLM_F_CREATE, NLM_F_EXCL, readAttributes, textOf, u32Of } from './netlink-message.ts';
import { linkName, withRoute } from './rtnetlink-links.ts';
import { checkTable } from './rtnetlink-routes.ts';
import { familyNumber, formatPrefix, parsePrefixOf, type RouteFamily, routeFamilyOf } from './rtnetlink-text.ts';
import { checkInteger } from './socket-options.ts';

const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;

/** `struct fib_rule_hdr`: family, destination and source lengths, tos, table, two unused, action (1 each), flags (4). */
const FIB_RULE_HDR_BYTES = 12;
const TABLE_AT = 4;
const ACTION_AT = 7;
const FLAGS_AT = 8;
const FR_ACT_TO_TBL = 1;
const FIB_RULE_INVERT = 0x2;

const FRA_DST = 1;
const FRA_SRC = 2;
const FRA_IIFNAME = 3;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_OIFNAME = 17;
const MAX_U32 = 0xffffffff;
/** The attributes that `Rule` has a field for, or that every rule carries without narrowing it (protocol, padding). */
const FRA_PROTOCOL = 21;
const FRA_PAD = 18;
const FRA_SUPPRESS_IFGROUP = 13;
const SHOWN = new Set([
  FRA_DST,
  FRA_SRC,
  FRA_IIFNAME,
  FRA_PRIORITY,
  FRA_FWMARK,
  FRA_TABLE,
  FRA_FWMASK,
  FRA_OIFNAME,
  FRA_PROTOCOL,
  FRA_PAD,
]);

/** Matches packets whose mark, cut down to `mask`, is `value`. */
export interface MarkMatch {
  readonly value: number;
  readonly mask: number;
}

/** What a rule written here can say: which packets look up which table. */
export interface RuleSpec {
  readonly family: RouteFamily;
  /** Lower comes first, 0..2^32-1. */
  readonly priority: number;
  readonly table: number;
  readonly mark?: MarkMatch;
  /** Destination prefix. */
  readonly to?: string;
  /** Source prefix. */
  readonly from?: string;
  /** Name of the incoming interface, also one that does not exist yet; `lo` means packets of this host. */
  readonly iif?: string;
}

export interface Rule {
  readonly family: RouteFamily;
  readonly priority: number;
  /** 0 when the rule does something else than look up a table. */
  readonly table: number;
  readonly mark: MarkMatch | undefined;
  readonly to: string | undefined;
  readonly from: string | undefined;
  readonly iif: string | undefined;
  readonly oif: string | undefined;
  /** It also narrows or acts by something that is not shown here: inversion, ports, users, other actions, … */
  readonly hasMore: boolean;
}

/**
 * All rules of both families, each family in order of priority. @param maxBytes of the kernel's answer for a family
 * @throws SysError, native.netlink, native.bounds
 */
export function listRules(socket?: NetlinkSocket, maxBytes?: number): Rule[] {
  return withRoute(socket, open => ([4, 6] as const).flatMap(family => dumpFamily(open, family, maxBytes)));
}

function dumpFamily(socket: NetlinkSocket, family: RouteFamily, maxBytes: number | undefined): Rule[] {
  const payload = new Uint8Array(FIB_RULE_HDR_BYTES);
  payload[0] = familyNumber(family);
  return socket
    .dump(RTM_GETRULE, payload, maxBytes)
    .flatMap(entry => readRule(entry) ?? [])
    .filter(rule => rule.family === family);
}

/** @throws SysError (EEXIST for the very same rule), native.argument */
export function addRule(rule: RuleSpec, socket?: NetlinkSocket): void {
  withRoute(socket, open => open.request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, ruleRequest(rule)));
}

/**
 * Deletes the first rule that has everything `rule` names; what it leaves open may be anything.
 * @throws SysError (ENOENT when there is none), native.argument
 */
export function deleteRule(rule: RuleSpec, socket?: NetlinkSocket): void {
  withRoute(socket, open => open.request(RTM_DELRULE, 0, ruleRequest(rule)));
}

function ruleRequest(rule: RuleSpec): Buffer {
  const { family, table, mark } = rule;
  checkTable(table);
  checkInteger(rule.priority, 0, MAX_U32, 'rule priority');
  const request = new NetlinkWriter(FIB_RULE_HDR_BYTES);
  request.header.writeUInt8(familyNumber(family), 0);
  request.header.writeUInt8(table < 256 ? table : 0, TABLE_AT);
  request.header.writeUInt8(FR_ACT_TO_TBL, ACTION_AT);
  request.u32(FRA_TABLE, table).u32(FRA_PRIORITY, rule.priority);
  if (mark !== undefined) {
    checkInteger(mark.value, 0, MAX_U32, 'mark');
    checkInteger(mark.mask, 0, MAX_U32, 'mark mask');
    request.u32(FRA_FWMARK, mark.value).u32(FRA_FWMASK, mark.mask);
  }
  if (rule.to !== undefined) writePrefix(request, FRA_DST, 1, family, rule.to);
  if (rule.from !== undefined) writePrefix(request, FRA_SRC, 2, family, rule.from);
  if (rule.iif !== undefined) request.text(FRA_IIFNAME, linkName(rule.iif));
  return request.finish();
}

function writePrefix(request: NetlinkWriter, type: number, lengthAt: number, family: RouteFamily, text: string): void {
  const { bytes, length } = parsePrefixOf(family, text);
  request.header.writeUInt8(length, lengthAt);
  request.bytes(type, bytes);
}

/** Internal to this package: undefined for other families and entries that make no sense. */
export function readRule(entry: Buffer): Rule | undefined {
  if (entry.length < FIB_RULE_HDR_BYTES) return undefined;
  const family = routeFamilyOf(entry.readUInt8(0));
  if (family === undefined) return undefined;
  const attributes = readAttributes(entry, FIB_RULE_HDR_BYTES);
  const prefix = (type: number, lengthAt: number) => {
    const bytes = attributes.get(type);
    return bytes === undefined ? undefined : formatPrefix(family, bytes, entry.readUInt8(lengthAt));
  };
  const mark = u32Of(attributes, FRA_FWMARK);
  const isLookup = entry.readUInt8(ACTION_AT) === FR_ACT_TO_TBL;
  const isInverted = (entry.readUInt32LE(FLAGS_AT) & FIB_RULE_INVERT) !== 0;
  return {
    family,
    priority: u32Of(attributes, FRA_PRIORITY) ?? 0,
    table: isLookup ? (u32Of(attributes, FRA_TABLE) ?? entry.readUInt8(TABLE_AT)) : 0,
    mark: mark === undefined ? undefined : { value: mark, mask: u32Of(attributes, FRA_FWMASK) ?? MAX_U32 },
    to: prefix(FRA_DST, 1),
    from: prefix(FRA_SRC, 2),
    iif: textOf(attributes, FRA_IIFNAME),
    oif: textOf(attributes, FRA_OIFNAME),
    hasMore: !isLookup || isInverted || entry.readUInt8(3) !== 0 || hasHidden(attributes),
  };
}

/** Whether an attribute says something that `Rule` has no field for. */
function hasHidden(attributes: ReadonlyMap<number, Buffer>): boolean {
  for (const [type, value] of attributes) {
    // The suppressors are always there; all ones means off.
    const isOff =
      type === FRA_SUPPRESS_PREFIXLEN || type === FRA_SUPPRESS_IFGROUP ? value.every(byte => byte === 255) : false;
    if (!SHOWN.has(type) && !isOff) return true;
  }
  return false;
}
