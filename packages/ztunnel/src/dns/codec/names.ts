// Domain names on the wire (RFC 1035 3.1, 4.1.4). Every function is given the end of the message and reads nothing beyond
// it; a compression pointer ends a name that is only skipped, and is followed backwards only, so nothing can loop.

/** Longest name on the wire, the closing root label included. */
export const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;
const POINTER_BITS = 0xc0;
/** A two-byte pointer to `offset`. */
export function pointerTo(offset: number): number {
  return 0xc000 | offset;
}

/** Where the name at `at` ends, or -1 when it is malformed or crosses `end`. */
export function skipName(bytes: Uint8Array, at: number, end: number): number {
  const limit = at + MAX_NAME_BYTES;
  let next = at;
  while (next < end) {
    const length = bytes[next] ?? 0;
    if (length === 0) return next + 1 - at > MAX_NAME_BYTES ? -1 : next + 1;
    if (length >= POINTER_BITS) return next + 2 <= end ? next + 2 : -1;
    if (length > MAX_LABEL_BYTES) return -1;
    next += 1 + length;
    if (next > limit) return -1;
  }
  return -1;
}

/** As `skipName` for a name without pointers, which is what a question has. */
export function skipPlainName(bytes: Uint8Array, at: number, end: number): number {
  const limit = Math.min(end, at + MAX_NAME_BYTES);
  for (let next = at; next < limit; ) {
    const length = bytes[next] ?? 0;
    if (length === 0) return next + 1;
    if (length > MAX_LABEL_BYTES) return -1;
    next += 1 + length;
  }
  return -1;
}

const name = Buffer.alloc(MAX_NAME_BYTES);

/**
 * The text of a plain name that `skipPlainName` accepted: lower case, no dot at the end, the root empty. Undefined when a
 * label has a dot or anything else that a host name or a service label cannot have: two names could give one text.
 */
export function nameText(bytes: Uint8Array, at: number): string | undefined {
  let next = at;
  let size = 0;
  for (;;) {
    const length = bytes[next++] ?? 0;
    if (length === 0) return name.toString('latin1', 0, Math.max(0, size - 1));
    for (const end = next + length; next < end; next++) {
      const byte = bytes[next] ?? 0;
      // Printable ASCII without space and dot.
      if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e) return undefined;
      name[size++] = lowerCase(byte);
    }
    name[size++] = 0x2e;
  }
}

export function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}

/** Printable ASCII without space, as `nameText` has it: the low byte of anything else would be another name. */
const HOST_TEXT = /^[\x21-\x7e]*$/;

/** The wire form of a name given as text; undefined when it is none. A dot at the end is allowed. */
export function encodeName(text: string): Uint8Array | undefined {
  if (!HOST_TEXT.test(text)) return undefined;
  const labels = (text.endsWith('.') ? text.slice(0, -1) : text).split('.');
  if (text === '' || text === '.') return Uint8Array.of(0);
  const bytes: number[] = [];
  for (const label of labels) {
    const raw = Buffer.from(label, 'latin1');
    if (raw.length === 0 || raw.length > MAX_LABEL_BYTES) return undefined;
    bytes.push(raw.length, ...raw);
  }
  bytes.push(0);
  return bytes.length > MAX_NAME_BYTES ? undefined : Uint8Array.from(bytes);
}

/** Whether two stretches are the same name or question, letter case aside. */
export function sameIgnoringCase(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  for (let index = 0; index < length; index++) {
    if (lowerCase(a[aAt + index] ?? 0) !== lowerCase(b[bAt + index] ?? 0)) return false;
  }
  return true;
}

/** Pointers followed in one name; more than a name has labels is a forgery. */
const MAX_POINTERS = 64;

/** The name at `at` of a message that begins at `start`, pointers followed; undefined as for `nameText`, or when malformed. */
export function nameTextFollowing(bytes: Uint8Array, start: number, at: number, end: number): string | undefined {
  const labels: string[] = [];
  let next = at;
  let size = 0;
  for (let pointers = 0; ; ) {
    if (next >= end) return undefined;
    const length = bytes[next] ?? 0;
    if (length === 0) return labels.join('.');
    if (length >= POINTER_BITS) {
      if (next + 2 > end || ++pointers > MAX_POINTERS) return undefined;
      const target = start + (((length & 0x3f) << 8) | (bytes[next + 1] ?? 0));
      // Backwards only: each jump shortens what is left, so it ends.
      if (target >= next) return undefined;
      next = target;
      continue;
    }
    size += length + 1;
    if (length > MAX_LABEL_BYTES || next + 1 + length > end || size > MAX_NAME_BYTES) return undefined;
    let label = '';
    for (let index = next + 1; index <= next + length; index++) {
      const byte = lowerCase(bytes[index] ?? 0);
      if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e) return undefined;
      label += String.fromCharCode(byte);
    }
    labels.push(label);
    next += 1 + length;
  }
}
