// HPACK encoder (RFC 7541 §6) that never indexes: static-table references and literals without indexing, no Huffman.
// HBONE sends a handful of short fields once a connection, so a table would cost memory on both sides and save nothing.
// Writers return the offset after the bytes, or -1 when the text does not fit or may not travel in a header.

import type { Buffer } from 'node:buffer';
import { DEFAULT_HEADER_TABLE_SIZE } from './frames.ts';

/** Static-table indexes (RFC 7541 appendix A) we use. For METHOD only the name fits: CONNECT has no entry. */
export const STATIC_INDEX = { AUTHORITY: 1, METHOD: 2, STATUS_200: 8 } as const;

/** An encoder frozen between two blocks: plain data. */
export interface HpackEncoderState {
  readonly version: 1;
  readonly tableSize: number;
  readonly isUpdateDue: boolean;
}

/** Encodes the header blocks of one direction of one connection. */
export class HpackEncoder {
  // Size of the table that the peer's decoder keeps for us; it stays empty whatever this says.
  #tableSize = DEFAULT_HEADER_TABLE_SIZE;
  #isUpdateDue = false;

  /**
   * The peer announced SETTINGS_HEADER_TABLE_SIZE and we acknowledge it. A lower size than in use must be confirmed at the
   * start of the next block, or the peer treats that block as a compression error (RFC 7541 §4.2; nghttp2 insists).
   */
  setPeerTableSize(size: number): void {
    if (size < this.#tableSize) {
      // Dropping to 0 at once covers any later, smaller announcement too.
      this.#tableSize = 0;
      this.#isUpdateDue = true;
    }
  }

  /** Starts a block: writes the table size update when one is due. Repeats it until `commit`. */
  begin(buffer: Buffer, offset: number): number {
    if (!this.#isUpdateDue) return offset;
    if (offset < 0 || offset >= buffer.length) return -1;
    buffer[offset] = 0x20;
    return offset + 1;
  }

  /** The block begun last will be sent. A block that was given up instead must not take the size update with it. */
  commit(): void {
    this.#isUpdateDue = false;
  }

  exportState(): HpackEncoderState {
    return { version: 1, tableSize: this.#tableSize, isUpdateDue: this.#isUpdateDue };
  }

  /** Continues from an exported state. */
  static fromState(state: HpackEncoderState): HpackEncoder {
    const encoder = new HpackEncoder();
    encoder.#tableSize = state.tableSize;
    encoder.#isUpdateDue = state.isUpdateDue;
    return encoder;
  }
}

/** Writes a field that is wholly in the static table, `index` 1..61. */
export function writeIndexed(buffer: Buffer, offset: number, index: number): number {
  if (offset < 0 || offset >= buffer.length) return -1;
  buffer[offset] = 0x80 | index;
  return offset + 1;
}

/** Writes a literal whose name is entry `nameIndex` (1..14) of the static table. An `offset` of -1 is passed on. */
export function writeNamedLiteral(buffer: Buffer, offset: number, nameIndex: number, value: string): number {
  if (offset < 0 || offset >= buffer.length) return -1;
  buffer[offset] = nameIndex;
  return writeText(buffer, offset + 1, value);
}

/** Writes a literal with its own name, which must be lower case already. An `offset` of -1 is passed on. */
export function writeLiteral(buffer: Buffer, offset: number, name: string, value: string): number {
  if (offset < 0 || offset >= buffer.length) return -1;
  buffer[offset] = 0;
  return writeText(buffer, writeText(buffer, offset + 1, name), value);
}

// Checks while it copies: a control character or one beyond latin-1 in a value from configuration must not become a
// second header, nor be cut to a byte that is one.
function writeText(buffer: Buffer, offset: number, text: string): number {
  // 6 bytes hold the longest length prefix of a JavaScript string.
  if (offset < 0 || offset + 6 + text.length > buffer.length) return -1;
  let at = writeInteger(buffer, offset, 0x7f, text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0xff || code === 0x7f || (code < 0x20 && code !== 0x09)) return -1;
    buffer[at++] = code;
  }
  return at;
}

// RFC 7541 §5.1 with the bits above the prefix clear.
function writeInteger(buffer: Buffer, offset: number, prefixMask: number, value: number): number {
  if (value < prefixMask) {
    buffer[offset] = value;
    return offset + 1;
  }
  let at = offset;
  buffer[at++] = prefixMask;
  let rest = value - prefixMask;
  while (rest >= 0x80) {
    buffer[at++] = 0x80 | (rest & 0x7f);
    rest >>>= 7;
  }
  buffer[at++] = rest;
  return at;
}
