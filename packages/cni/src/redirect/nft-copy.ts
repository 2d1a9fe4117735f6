// A plan's tables in the kernel's own words: what it dumps of a namespace that libnftables has programmed, kept to be given to it
// for the next namespace as one transaction, and to be compared with what it dumps elsewhere. Each at a tenth of what
// libnftables takes, whose JSON costs more than the rules. Understands only what may differ between equal rules (handles,
// counters): whatever else differs is another rule. Acts in the namespace the thread is in.
import { NativeError, NetlinkProtocol, type NetlinkRequest, NetlinkSocket } from '@ambit/native';
import { FAMILY_NUMBERS } from './nft-table-list.ts';

/** linux/netfilter/nfnetlink.h */
const SUBSYSTEM = 10;
/** NLM_F_CREATE, NLM_F_EXCL, NLM_F_APPEND of linux/netlink.h. */
const CREATE = 0x400;
const EXCLUSIVE = 0x200;
const APPEND = 0x800;

interface Part {
  /** NFT_MSG_NEW… and NFT_MSG_GET… of linux/netfilter/nf_tables.h. */
  readonly create: number;
  readonly get: number;
  readonly flags: number;
  /** Attributes that are the kernel's own: handles, positions, numbers of users, counters of chains, padding. */
  readonly left: ReadonlySet<number>;
}

const TABLES: Part = { create: 0, get: 1, flags: CREATE | EXCLUSIVE, left: new Set([3, 4, 5]) };
const CHAINS: Part = { create: 3, get: 4, flags: CREATE, left: new Set([2, 6, 8, 9]) };
const RULES: Part = { create: 6, get: 7, flags: CREATE | APPEND, left: new Set([3, 6, 8]) };
/** In this order they can be made. */
const PARTS: readonly Part[] = [TABLES, CHAINS, RULES];
/** NFT_MSG_GETSET, GETOBJ, GETFLOWTABLE: ours have none, and of others' none is let pass. */
const GET_FOREIGN: readonly number[] = [10, 19, 23];

/** The name of the table, in all of them. */
const TABLE = 1;
const RULE_EXPRESSIONS = 4;
const EXPRESSION_NAME = 1;
const EXPRESSION_DATA = 2;
const COUNTER = Buffer.from('counter\0');

const TYPE_MASK = 0x3fff;
const ATTRIBUTE_HEADER_BYTES = 4;
/** `struct nfgenmsg`; what follows the family differs from dump to dump. */
const HEADER_BYTES = 4;
/** Of all tables of the family: ours take some 12 KB. */
const MAX_BYTES = 256 * 1024;

export class NftCopy {
  readonly #names: ReadonlySet<string>;
  readonly #requests: readonly NetlinkRequest[];

  private constructor(names: ReadonlySet<string>, requests: readonly NetlinkRequest[]) {
    this.#names = names;
    this.#requests = requests;
  }

  /**
   * What the namespace has of tables of these names. @returns undefined when there is anything that a copy would lack
   * @throws SysError, NativeError
   */
  static of(names: readonly string[]): NftCopy | undefined {
    const set = new Set(names);
    const requests = dumpAll(set);
    return requests === undefined ? undefined : new NftCopy(set, requests);
  }

  /** Makes the tables, all or none. @throws SysError EEXIST when one is there; native.bounds when they are too many rules for a transaction */
  load(): void {
    using socket = NetlinkSocket.open(NetlinkProtocol.NETFILTER);
    socket.transaction(SUBSYSTEM, this.#requests);
  }

  /** Whether exactly this is here, of the tables of these names. @returns false also when there is too much to tell @throws SysError */
  isHere(): boolean {
    const there = dumpAll(this.#names);
    return (
      there?.length === this.#requests.length &&
      this.#requests.every(({ type, payload }, index) => {
        const other = there[index];
        return other !== undefined && other.type === type && Buffer.compare(other.payload, payload) === 0;
      })
    );
  }
}

/** As requests that would make it; undefined: too much, or not only tables, chains and rules. */
function dumpAll(names: ReadonlySet<string>): NetlinkRequest[] | undefined {
  using socket = NetlinkSocket.open(NetlinkProtocol.NETFILTER);
  const family = Uint8Array.of(FAMILY_NUMBERS.inet, 0, 0, 0);
  let rest = MAX_BYTES;
  const dump = (what: number): Buffer[] => {
    const entries = socket.dump((SUBSYSTEM << 8) | what, family, rest);
    for (const { length } of entries) rest -= length;
    return entries.filter(entry => names.has(tableOf(entry)));
  };
  try {
    const requests = PARTS.flatMap(part =>
      dump(part.get).map(entry => ({
        type: (SUBSYSTEM << 8) | part.create,
        flags: part.flags,
        payload: essenceOf(entry, part),
      })),
    );
    return GET_FOREIGN.some(what => dump(what).length > 0) ? undefined : requests;
  } catch (error) {
    if (error instanceof NativeError && error.code === 'native.bounds') return undefined;
    throw error;
  }
}

function tableOf(entry: Buffer): string {
  for (const { type, start, end } of attributesOf(entry, HEADER_BYTES, entry.length)) {
    if (type === TABLE) return entry.toString('utf8', start, Math.max(start, end - 1));
  }
  return '';
}

/** The entry without what is not its own, and with its counters at zero. */
function essenceOf(entry: Buffer, part: Part): Buffer {
  const parts: Buffer[] = [Buffer.of(entry[0] ?? 0, 0, 0, 0)];
  for (const { type, start, end } of attributesOf(entry, HEADER_BYTES, entry.length)) {
    if (!part.left.has(type)) parts.push(entry.subarray(start - ATTRIBUTE_HEADER_BYTES, align4(end)));
  }
  const essence = Buffer.concat(parts);
  if (part === RULES) resetCounters(essence);
  return essence;
}

function resetCounters(rule: Buffer): void {
  for (const part of attributesOf(rule, HEADER_BYTES, rule.length)) {
    if (part.type !== RULE_EXPRESSIONS) continue;
    for (const expression of attributesOf(rule, part.start, part.end)) {
      let isCounter = false;
      for (const { type, start, end } of attributesOf(rule, expression.start, expression.end)) {
        if (type === EXPRESSION_NAME) isCounter = rule.subarray(start, end).equals(COUNTER);
        if (type !== EXPRESSION_DATA || !isCounter) continue;
        for (const value of attributesOf(rule, start, end)) rule.fill(0, value.start, value.end);
      }
    }
  }
}

/** Where the values of attributes are. The kernel says it, of its own messages; nothing outside is ever told. */
function* attributesOf(
  bytes: Buffer,
  from: number,
  to: number,
): Generator<{ readonly type: number; readonly start: number; readonly end: number }> {
  for (let at = from; at + ATTRIBUTE_HEADER_BYTES <= to; ) {
    const length = bytes.readUInt16LE(at);
    const end = at + length;
    if (length < ATTRIBUTE_HEADER_BYTES || end > to) return;
    yield { type: bytes.readUInt16LE(at + 2) & TYPE_MASK, start: at + ATTRIBUTE_HEADER_BYTES, end };
    at = align4(end);
  }
}

function align4(length: number): number {
  return (length + 3) & ~3;
}
