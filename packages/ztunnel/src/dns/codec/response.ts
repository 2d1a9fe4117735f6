// What a resolver answered, as far as passing it on needs: whether it answers our question, how long it may be kept, where
// its TTLs are, and which addresses it holds. The message itself is never rebuilt. Never throws, reads nothing beyond it.
import { nameTextFollowing, sameIgnoringCase, skipName } from './names.ts';
import { CLASS_IN, Flag, HEADER_BYTES, Rcode, RCODE_MASK, Type } from './numbers.ts';

/** Longest that an answer is kept, whatever its TTL: a mistake upstream ends some day. */
const MAX_KEEP_SECONDS = 3600;
const TYPE_AND_CLASS_BYTES = 4;

/** Whether `length` bytes at `at` answer the question of `query` that was sent with `id`. */
export function answersQuery(
  bytes: Buffer,
  at: number,
  length: number,
  id: number,
  query: Buffer,
  questionEnd: number,
): boolean {
  if (length < HEADER_BYTES || bytes.readUInt16BE(at) !== id) return false;
  const flags = bytes.readUInt16BE(at + 2);
  if ((flags & Flag.QR) === 0) return false;
  const questions = bytes.readUInt16BE(at + 4);
  // Servers that could not read the query repeat no question.
  if (questions === 0) return (flags & RCODE_MASK) === Rcode.FORMERR || (flags & RCODE_MASK) === Rcode.NOTIMP;
  if (questions !== 1 || length < questionEnd) return false;
  const kindAt = questionEnd - TYPE_AND_CLASS_BYTES;
  return (
    bytes.readUInt32BE(at + kindAt) === query.readUInt32BE(kindAt) &&
    sameIgnoringCase(bytes, at + HEADER_BYTES, query, HEADER_BYTES, kindAt - HEADER_BYTES)
  );
}

/** Code of the header; EDNS's upper bits say more about version problems only. */
export function rcodeOf(bytes: Buffer, at: number): number {
  return bytes.readUInt16BE(at + 2) & RCODE_MASK;
}

export function isTruncated(bytes: Buffer, at: number): boolean {
  return (bytes.readUInt16BE(at + 2) & Flag.TC) !== 0;
}

/** How an answer may be kept. */
export interface Keeping {
  readonly seconds: number;
  /** Where the TTLs stand, from the beginning of the message. */
  readonly ttlOffsets: readonly number[];
}

/**
 * How long an answer holds: as long as its shortest TTL; without data as long as RFC 2308 5 allows, which needs an SOA record.
 * Undefined when it must not be kept: errors, cut-off, malformed, TTL 0.
 */
export function keepingOf(bytes: Buffer, length: number): Keeping | undefined {
  if (length < HEADER_BYTES) return undefined;
  const rcode = rcodeOf(bytes, 0);
  if (isTruncated(bytes, 0) || (rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN)) return undefined;
  const answers = bytes.readUInt16BE(6);
  const ttlOffsets: number[] = [];
  let seconds = MAX_KEEP_SECONDS;
  let hasSoa = false;
  const isWhole = eachRecord(bytes, 0, length, record => {
    if (record.type === Type.OPT) return;
    ttlOffsets.push(record.ttlAt);
    seconds = Math.min(seconds, ttlOf(bytes, record.ttlAt));
    if (record.type !== Type.SOA || record.index < answers || record.dataBytes < 4) return;
    hasSoa = true;
    if (answers === 0 || rcode === Rcode.NXDOMAIN) {
      seconds = Math.min(seconds, ttlOf(bytes, record.dataAt + record.dataBytes - 4));
    }
  });
  const isNegative = answers === 0 || rcode === Rcode.NXDOMAIN;
  return isWhole && seconds > 0 && (hasSoa || !isNegative) ? { seconds, ttlOffsets } : undefined;
}

/** A TTL with its top bit set counts as 0 (RFC 2181 8). */
function ttlOf(bytes: Buffer, at: number): number {
  const ttl = bytes.readUInt32BE(at);
  return ttl > 0x7fff_ffff ? 0 : ttl;
}

/** Addresses of the asked name's family in the answer section, and the shortest TTL among them. */
export interface AddressesFound {
  /** 4 or 16 bytes each. */
  readonly addresses: readonly Uint8Array[];
  readonly ttlSeconds: number;
}

/** Follows aliases within the answer. Undefined when the message is malformed. */
export function addressesOf(bytes: Buffer, length: number, type: number): AddressesFound | undefined {
  const answers = length < HEADER_BYTES ? 0 : bytes.readUInt16BE(6);
  const aliases = new Map<string, string>();
  const found: Array<{ readonly owner: string; readonly address: Uint8Array; readonly ttl: number }> = [];
  const wanted = type === Type.A ? 4 : 16;
  const isWhole = eachRecord(bytes, 0, length, record => {
    if (record.index >= answers || record.class !== CLASS_IN) return;
    const owner = nameTextFollowing(bytes, 0, record.nameAt, length);
    if (owner === undefined) return;
    if (record.type === Type.CNAME) {
      const target = nameTextFollowing(bytes, 0, record.dataAt, length);
      if (target !== undefined) aliases.set(owner, target);
    } else if (record.type === type && record.dataBytes === wanted) {
      const address = Uint8Array.from(bytes.subarray(record.dataAt, record.dataAt + wanted));
      found.push({ owner, address, ttl: ttlOf(bytes, record.ttlAt) });
    }
  });
  const asked = nameTextFollowing(bytes, 0, HEADER_BYTES, length);
  if (!isWhole || asked === undefined) return undefined;
  let name = asked;
  // As many steps as there are aliases: a circle ends.
  for (let step = 0; step < aliases.size; step++) name = aliases.get(name) ?? name;
  const own = found.filter(({ owner }) => owner === name);
  const ttlSeconds = own.reduce((least, { ttl }) => Math.min(least, ttl), MAX_KEEP_SECONDS);
  return { addresses: own.map(({ address }) => address), ttlSeconds };
}

interface RecordPlace {
  /** Counted over all sections. */
  readonly index: number;
  readonly nameAt: number;
  readonly type: number;
  readonly class: number;
  readonly ttlAt: number;
  readonly dataAt: number;
  readonly dataBytes: number;
}

/** Calls `then` for each record; false when the message is malformed. */
function eachRecord(bytes: Buffer, at: number, length: number, then: (record: RecordPlace) => void): boolean {
  if (length < HEADER_BYTES) return false;
  const end = at + length;
  let next = at + HEADER_BYTES;
  for (let left = bytes.readUInt16BE(at + 4); left > 0; left--) {
    next = skipName(bytes, next, end);
    if (next < 0 || next + 4 > end) return false;
    next += 4;
  }
  const count = bytes.readUInt16BE(at + 6) + bytes.readUInt16BE(at + 8) + bytes.readUInt16BE(at + 10);
  for (let index = 0; index < count; index++) {
    const nameAt = next;
    next = skipName(bytes, next, end);
    if (next < 0 || next + 10 > end) return false;
    const dataBytes = bytes.readUInt16BE(next + 8);
    const dataAt = next + 10;
    if (dataAt + dataBytes > end) return false;
    const type = bytes.readUInt16BE(next);
    then({ index, nameAt, type, class: bytes.readUInt16BE(next + 2), ttlAt: next + 4, dataAt, dataBytes });
    next = dataAt + dataBytes;
  }
  return true;
}
