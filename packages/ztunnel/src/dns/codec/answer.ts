// Writes what this proxy answers itself: addresses, perhaps under an alias, and errors. Names are compressed to pointers;
// when the room does not suffice whole records are left out and TC is set (RFC 2181 9). EDNS is answered when asked with.
import { pointerTo } from './names.ts';
import { CLASS_IN, Flag, HEADER_BYTES, OPCODE_MASK, Rcode, Type } from './numbers.ts';
import type { QueryView } from './query.ts';

/** Addresses of one name, as bytes. */
export interface AddressAnswer {
  /** Wire form of the name that the asked one is an alias of. */
  readonly canonical: Uint8Array | undefined;
  /** 4 bytes each for A, 16 for AAAA. */
  readonly addresses: readonly Uint8Array[];
  readonly ttlSeconds: number;
}

const OPT_BYTES = 11;
/** Of each record besides its name and data. */
const FIXED_BYTES = 10;
const POINTER_BYTES = 2;

/**
 * The answer to `query` (whose message is at `from`), written at `at` of `out`, in at most `limit` bytes, which are at least
 * 512 and there. Addresses begin with number `first` and go round, for clients that take the first one. @returns its length
 */
export function writeAddresses(
  out: Buffer,
  at: number,
  limit: number,
  query: QueryView,
  message: Buffer,
  from: number,
  answer: AddressAnswer,
  first: number,
): number {
  const { canonical, addresses, ttlSeconds } = answer;
  const room = at + limit - (query.hasEdns ? OPT_BYTES : 0);
  let next = at + query.questionEnd;
  message.copy(out, at + HEADER_BYTES, from + HEADER_BYTES, from + query.questionEnd);
  let owner = pointerTo(HEADER_BYTES);
  let records = 0;
  const alias = addresses.length > 0 ? canonical : undefined;
  let isWhole = alias === undefined || next + POINTER_BYTES + FIXED_BYTES + alias.length <= room;
  if (alias !== undefined && isWhole) {
    next = writeFixed(out, next, owner, Type.CNAME, ttlSeconds, alias.length);
    owner = pointerTo(next - at);
    out.set(alias, next);
    next += alias.length;
    records++;
  }
  for (let index = 0; isWhole && index < addresses.length; index++) {
    const address = addresses[(first + index) % addresses.length];
    if (address === undefined) continue;
    if (next + POINTER_BYTES + FIXED_BYTES + address.length > room) {
      isWhole = false;
      break;
    }
    next = writeFixed(out, next, owner, address.length === 4 ? Type.A : Type.AAAA, ttlSeconds, address.length);
    out.set(address, next);
    next += address.length;
    records++;
  }
  writeHeader(out, at, query, Flag.AA | (isWhole ? 0 : Flag.TC), Rcode.NOERROR, 1, records);
  return writeOpt(out, at, next, query, Rcode.NOERROR) - at;
}

/** An answer without records. The question is repeated unless it could not be read. */
export function writeEmpty(
  out: Buffer,
  at: number,
  query: QueryView,
  message: Buffer,
  from: number,
  rcode: number,
): number {
  const questions = query.questionEnd > HEADER_BYTES ? 1 : 0;
  message.copy(out, at + HEADER_BYTES, from + HEADER_BYTES, from + query.questionEnd);
  writeHeader(out, at, query, 0, rcode, questions, 0);
  return writeOpt(out, at, at + query.questionEnd, query, rcode) - at;
}

function writeHeader(
  out: Buffer,
  at: number,
  query: QueryView,
  flags: number,
  rcode: number,
  questions: number,
  answers: number,
): void {
  writeWord(out, at, query.id);
  writeWord(out, at + 2, Flag.QR | (query.flags & (OPCODE_MASK | Flag.RD)) | Flag.RA | flags | (rcode & 0xf));
  writeWord(out, at + 4, questions);
  writeWord(out, at + 6, answers);
  writeWord(out, at + 8, 0);
  writeWord(out, at + 10, query.hasEdns ? 1 : 0);
}

function writeFixed(out: Buffer, at: number, owner: number, type: number, ttl: number, dataBytes: number): number {
  writeWord(out, at, owner);
  writeWord(out, at + 2, type);
  writeWord(out, at + 4, CLASS_IN);
  writeWord(out, at + 6, ttl >>> 16);
  writeWord(out, at + 8, ttl);
  writeWord(out, at + 10, dataBytes);
  return at + POINTER_BYTES + FIXED_BYTES;
}

/** Version 0 is the one there is; of a later one only BADVERS says so (RFC 6891 6.1.3). */
function writeOpt(out: Buffer, start: number, at: number, query: QueryView, rcode: number): number {
  if (!query.hasEdns) return at;
  writeWord(out, start + 10, 1);
  out[at] = 0;
  writeWord(out, at + 1, Type.OPT);
  writeWord(out, at + 3, query.udpBytes);
  out[at + 5] = rcode >>> 4;
  out[at + 6] = 0;
  writeWord(out, at + 7, query.isDnssecOk ? 0x8000 : 0);
  writeWord(out, at + 9, 0);
  return at + OPT_BYTES;
}

function writeWord(out: Buffer, at: number, value: number): void {
  out[at] = value >>> 8;
  out[at + 1] = value;
}
