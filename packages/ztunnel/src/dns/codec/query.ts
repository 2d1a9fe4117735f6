// What a client asks: header, the one question, EDNS (RFC 1035 4.1, RFC 6891). Reads nothing beyond the message and never
// throws. One view is filled anew for each message, since this runs for every datagram.
import { skipName, skipPlainName } from './names.ts';
import { CLASS_IN, Flag, HEADER_BYTES, OPCODE_MASK, Type } from './numbers.ts';

/** Without EDNS a UDP answer may have this many bytes; a smaller wish is lifted to it. */
export const LEAST_UDP_BYTES = 512;

/** One query. Offsets are from the beginning of the message. */
export class QueryView {
  id = 0;
  flags = 0;
  type = 0;
  class = 0;
  /** Where the question ends. It begins behind the header. */
  questionEnd = HEADER_BYTES;
  hasEdns = false;
  ednsVersion = 0;
  /** The DO bit. */
  isDnssecOk = false;
  /** What a UDP answer may measure; at least 512. */
  udpBytes = LEAST_UDP_BYTES;
}

export type QueryFault =
  /** Not even a header: there is nothing to answer to. */
  | 'short'
  /** A message that is itself an answer. */
  | 'response'
  | 'opcode'
  | 'malformed';

/** Fills `view` from `length` bytes at `at`. With a fault only `id` and `flags` are meant. */
export function readQuery(view: QueryView, bytes: Buffer, at: number, length: number): QueryFault | undefined {
  if (length < HEADER_BYTES) return 'short';
  view.id = word(bytes, at);
  view.flags = word(bytes, at + 2);
  view.hasEdns = false;
  view.ednsVersion = 0;
  view.isDnssecOk = false;
  view.udpBytes = LEAST_UDP_BYTES;
  view.questionEnd = HEADER_BYTES;
  if ((view.flags & Flag.QR) !== 0) return 'response';
  if ((view.flags & OPCODE_MASK) !== 0) return 'opcode';
  if (word(bytes, at + 4) !== 1) return 'malformed';
  const end = at + length;
  const afterName = skipPlainName(bytes, at + HEADER_BYTES, end);
  if (afterName < 0 || afterName + 4 > end) return 'malformed';
  view.type = word(bytes, afterName);
  view.class = word(bytes, afterName + 2);
  view.questionEnd = afterName + 4 - at;
  const others = word(bytes, at + 6) + word(bytes, at + 8);
  return readRecords(view, bytes, afterName + 4, end, others, word(bytes, at + 10)) ? undefined : 'malformed';
}

/** Whether it asks for addresses, of which alone the mesh has any. */
export function isAddressQuery(view: QueryView): boolean {
  return view.class === CLASS_IN && (view.type === Type.A || view.type === Type.AAAA);
}

/** Each record takes eleven bytes at least, so a count that promises too much ends at the end of the message. */
function readRecords(
  view: QueryView,
  bytes: Buffer,
  at: number,
  end: number,
  others: number,
  additional: number,
): boolean {
  let next = at;
  for (let index = 0; index < others + additional; index++) {
    const nameAt = next;
    next = skipName(bytes, next, end);
    if (next < 0 || next + 10 > end) return false;
    const dataBytes = word(bytes, next + 8);
    if (next + 10 + dataBytes > end) return false;
    if (index >= others && word(bytes, next) === Type.OPT) {
      // Exactly one, under the root (RFC 6891 6.1.1).
      if (view.hasEdns || next !== nameAt + 1) return false;
      view.hasEdns = true;
      view.udpBytes = Math.max(LEAST_UDP_BYTES, word(bytes, next + 2));
      view.ednsVersion = bytes[next + 5] ?? 0;
      view.isDnssecOk = ((bytes[next + 6] ?? 0) & 0x80) !== 0;
    }
    next += 10 + dataBytes;
  }
  return true;
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

/** Longest query, whatever it came by. */
export const MAX_QUERY_BYTES = 4096;

const folded = Buffer.alloc(MAX_QUERY_BYTES);

/**
 * A text that two messages share exactly when they are the same but for id and letter case of the question. Length bytes are
 * below any letter, so the whole question can be folded. `length` is at most `MAX_QUERY_BYTES`.
 */
export function messageKey(bytes: Buffer, at: number, length: number, questionEnd: number): string {
  bytes.copy(folded, 0, at + 2, at + length);
  foldCase(HEADER_BYTES - 2, questionEnd - 2 - 4);
  return folded.toString('latin1', 0, length - 2);
}

/** The same for the question alone: name, type and class. */
export function questionKey(bytes: Buffer, at: number, questionEnd: number): string {
  bytes.copy(folded, 0, at + HEADER_BYTES, at + questionEnd);
  foldCase(0, questionEnd - HEADER_BYTES - 4);
  return folded.toString('latin1', 0, questionEnd - HEADER_BYTES);
}

function foldCase(from: number, to: number): void {
  for (let index = from; index < to; index++) {
    const byte = folded[index] ?? 0;
    if (byte >= 0x41 && byte <= 0x5a) folded[index] = byte | 0x20;
  }
}
