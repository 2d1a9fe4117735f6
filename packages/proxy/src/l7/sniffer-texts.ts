// Texts of requests from bytes: bounded, without control characters, made only when somebody wants them, and the previous
// one again when the bytes are the same. Method names are interned: an attacker cannot make new ones.
import { Buffer } from 'node:buffer';

/** Longest path and authority that are told. */
export const MAX_TEXT = 256;

/** Methods by number; those of the IANA registry that are met in practice. 0 is every other. */
export const METHODS: readonly string[] = [
  'OTHER',
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'PROPFIND',
  'PROPPATCH',
  'MKCOL',
  'COPY',
  'MOVE',
  'LOCK',
  'UNLOCK',
  'REPORT',
  'SEARCH',
  'QUERY',
  'PURGE',
  'LINK',
  'UNLINK',
  'MERGE',
  'NOTIFY',
  'SUBSCRIBE',
  'UNSUBSCRIBE',
  'M-SEARCH',
  'MKCALENDAR',
  'MKACTIVITY',
  'CHECKOUT',
  'ACL',
  'BIND',
  'UNBIND',
  'REBIND',
];

/** Longest of `METHODS`. */
export const MAX_METHOD = 11;

// Candidates by first letter, so that a common method is found with one comparison.
const byFirstByte: readonly number[][] = Array.from({ length: 128 }, (_, code) =>
  [...METHODS.keys()].filter(index => index > 0 && METHODS[index]?.charCodeAt(0) === code),
);

const NO_METHODS: readonly number[] = [];

/** Number in `METHODS` of a method of `bytes[start, end)`; 0 for one that is not there. Case matters (RFC 9110 §9.1). */
export function methodNumber(bytes: Uint8Array, start: number, end: number): number {
  const candidates = byFirstByte[bytes[start] ?? 0] ?? NO_METHODS;
  // By index, since an iterator would be made for each request.
  for (let i = 0; i < candidates.length; i++) {
    const index = candidates[i] ?? 0;
    const name = METHODS[index] ?? '';
    if (name.length === end - start && hasText(bytes, start, name)) return index;
  }
  return 0;
}

/** Whether `text` (latin-1) stands at `start`; the caller knows that enough bytes are there. */
export function hasText(bytes: Uint8Array, start: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (bytes[start + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** The same for a lower-case `text` and bytes of either case. Only for texts of letters, digits and hyphens. */
export function hasTextAnyCase(bytes: Uint8Array, start: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    // Setting the bit turns upper case into lower and leaves hyphen and digits as they are.
    if (((bytes[start + i] ?? 0) | 0x20) !== text.charCodeAt(i)) return false;
  }
  return true;
}

let lastBytes: Uint8Array = Buffer.alloc(0);
let lastView: Buffer = Buffer.alloc(0);

/**
 * At most MAX_TEXT characters (latin-1) of `bytes[start, end)`. `previous` is returned itself when it is the same text, which
 * spares connections that ask for one thing again and again. Bytes with control characters give ''.
 */
export function textOf(bytes: Uint8Array, start: number, end: number, previous: string): string {
  const length = Math.min(end - start, MAX_TEXT);
  if (previous.length === length && hasText(bytes, start, previous)) return previous;
  for (let i = start; i < start + length; i++) {
    const byte = bytes[i] ?? 0;
    if (byte < 0x20 || byte === 0x7f) return '';
  }
  // Only Buffer makes strings without a decoder; views are made once for the slab that an engine reads into.
  if (Buffer.isBuffer(bytes)) return bytes.toString('latin1', start, start + length);
  if (bytes !== lastBytes) {
    lastBytes = bytes;
    lastView = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  return lastView.toString('latin1', start, start + length);
}

/** The text of an authority (RFC 3986 §3.2) without user and password, which must not reach a log. */
export function authorityOf(bytes: Uint8Array, start: number, end: number, previous: string): string {
  let from = end;
  while (from > start && bytes[from - 1] !== 0x40) from--;
  return textOf(bytes, from, end, previous);
}

/** Length of a `traceparent` of version 00, and of the part that later versions keep. */
const TRACEPARENT_BYTES = 55;

/** The `traceparent` in `bytes[start, end)` as far as version 00 defines it, or '' when it is not well-formed (W3C Trace Context §3.2). */
export function traceparentOf(bytes: Uint8Array, start: number, end: number): string {
  const length = end - start;
  if (length < TRACEPARENT_BYTES) return '';
  const isVersion0 = bytes[start] === 0x30 && bytes[start + 1] === 0x30;
  if (length > TRACEPARENT_BYTES && (isVersion0 || bytes[start + TRACEPARENT_BYTES] !== 0x2d)) return '';
  if (bytes[start] === 0x66 && bytes[start + 1] === 0x66) return '';
  if (!isHex(bytes, start, 2) || !isIdentifier(bytes, start + 3, 32) || !isIdentifier(bytes, start + 36, 16)) return '';
  if (!isHex(bytes, start + 53, 2)) return '';
  if (bytes[start + 2] !== 0x2d || bytes[start + 35] !== 0x2d || bytes[start + 52] !== 0x2d) return '';
  return textOf(bytes, start, start + TRACEPARENT_BYTES, '');
}

function isHex(bytes: Uint8Array, start: number, count: number): boolean {
  for (let i = start; i < start + count; i++) {
    const byte = bytes[i] ?? 0;
    if (!((byte >= 0x30 && byte <= 0x39) || (byte >= 0x61 && byte <= 0x66))) return false;
  }
  return true;
}

// Hexadecimal and not all zeros.
function isIdentifier(bytes: Uint8Array, start: number, count: number): boolean {
  if (!isHex(bytes, start, count)) return false;
  for (let i = start; i < start + count; i++) {
    if (bytes[i] !== 0x30) return true;
  }
  return false;
}
