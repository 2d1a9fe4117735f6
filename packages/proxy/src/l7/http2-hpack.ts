// HPACK (RFC 7541) as a bystander: follows the table of one direction without keeping its contents. Of an entry it knows the size,
// which decides evictions, and the meaning of the few fields that are told. Complete in what changes the table: all literals,
// Huffman, size updates. Whatever is wrong loses the table for good.
import { Buffer } from 'node:buffer';
import { DEFAULT_HEADER_TABLE_SIZE } from '../h2/frames.ts';
import { huffmanDecode, huffmanDecodedBound } from '../h2/huffman.ts';
import { FIELD, fieldOf, fieldText, type Http2Fields, numberOf, STATIC_FIELDS } from './http2-fields.ts';
import type { Move } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';

/** Longest header block. nginx and Go's proxies stop at 8 to 16 KiB too. */
export const MAX_BLOCK_BYTES = 16_384;

/** Largest table that is followed: 512 entries. Peers announce 4 096 unless somebody tuned them. */
const MAX_TABLE_BYTES = 16_384;

const STATIC_COUNT = STATIC_FIELDS.field.length;
const ENTRY_OVERHEAD = 32;

const NO_ENTRIES = new Int32Array(0);
const NO_TEXTS: string[] = [];

/** '', or why the table is lost. */
export type HpackOutcome = '' | 'malformed' | 'limit';

// Huffman strings of a block are unpacked here, names before their values; a block cannot fill it.
const scratch = Buffer.alloc(huffmanDecodedBound(MAX_BLOCK_BYTES) + 16);

/** The table of one direction. `decode` every header block of it, in order. */
export class PassiveHpack {
  readonly #options: L7Options;
  #capacity = DEFAULT_HEADER_TABLE_SIZE;
  #limit = DEFAULT_HEADER_TABLE_SIZE;
  #size = 0;
  // A ring, newest first; its length is a power of two, and nothing until the first insertion.
  #count = 0;
  #newest = 0;
  // An entry is three numbers, by slot: its size, the size of its name, and what it means (number * 16 + field).
  #slots = 0;
  #entries = NO_ENTRIES;
  #texts: string[] = NO_TEXTS;
  #lastPath = '';
  // The block being decoded.
  #bytes: Uint8Array = scratch;
  #at = 0;
  #end = 0;
  #outcome: HpackOutcome = '';
  // The string read last, and how much of the scratch is taken.
  #spanIn: Uint8Array = scratch;
  #spanStart = 0;
  #spanEnd = 0;
  #scratchFill = 0;

  constructor(options: L7Options) {
    this.#options = options;
  }

  /**
   * The largest table that the encoder may use now, by the receiver's SETTINGS. Until they are acknowledged either value may
   * be in use, so the owner passes the larger.
   */
  setLimit(bytes: number): void {
    this.#limit = bytes;
  }

  /** Decodes the block `bytes[start, end)` of at most MAX_BLOCK_BYTES into `fields`. Unwanted texts are left out where possible. */
  decode(bytes: Uint8Array, start: number, end: number, fields: Http2Fields): HpackOutcome {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#outcome = '';
    while (this.#at < end && ((bytes[this.#at] ?? 0) & 0xe0) === 0x20) {
      this.#sizeUpdate();
      if (this.#outcome !== '') break;
    }
    while (this.#at < end && this.#outcome === '') {
      const first = bytes[this.#at] ?? 0;
      if (first >= 0x80) this.#indexed(fields);
      else if (first >= 0x40) this.#literal(0x3f, true, fields);
      else if (first >= 0x20) this.#outcome = 'malformed';
      else this.#literal(0x0f, false, fields);
    }
    // Nothing of the caller's memory is kept alive.
    this.#bytes = scratch;
    this.#spanIn = scratch;
    return this.#outcome;
  }

  /** Between blocks. */
  carry(move: Move): void {
    this.#capacity = move.number(this.#capacity);
    this.#limit = move.number(this.#limit);
    const count = move.number(this.#count);
    for (let age = 0; age < count; age++) {
      // Unpacked oldest last, behind those that are there.
      if (move.isUnpacking && this.#count === this.#slots) this.#grow();
      const slot = this.#slot(age);
      const at = slot * 3;
      this.#entries[at] = move.number(this.#entries[at] ?? 0);
      this.#entries[at + 1] = move.number(this.#entries[at + 1] ?? 0);
      this.#entries[at + 2] = move.number(this.#entries[at + 2] ?? 0);
      this.#texts[slot] = move.text(this.#texts[slot] ?? '');
      if (!move.isUnpacking) continue;
      this.#count++;
      this.#size += this.#entries[at] ?? 0;
    }
  }

  #sizeUpdate(): void {
    const capacity = this.#integer(0x1f);
    if (this.#outcome !== '') return;
    if (capacity > this.#limit) {
      this.#outcome = 'malformed';
    } else if (capacity > MAX_TABLE_BYTES) {
      this.#outcome = 'limit';
    } else {
      this.#capacity = capacity;
      this.#evictFor(0);
    }
  }

  #indexed(fields: Http2Fields): void {
    const index = this.#integer(0x7f);
    if (this.#outcome !== '') return;
    if (index === 0 || index > STATIC_COUNT + this.#count) {
      this.#outcome = 'malformed';
    } else if (index <= STATIC_COUNT) {
      const field = STATIC_FIELDS.field[index - 1] ?? 0;
      if (field !== FIELD.OTHER) {
        fields.take(field, STATIC_FIELDS.number[index - 1] ?? 0, STATIC_FIELDS.text[index - 1] ?? '');
      }
    } else {
      const slot = this.#slot(index - STATIC_COUNT - 1);
      const meaning = this.#entries[slot * 3 + 2] ?? 0;
      const field = meaning & 15;
      if (field !== FIELD.OTHER) fields.take(field, meaning >> 4, this.#texts[slot] ?? '');
    }
  }

  #literal(prefixMask: number, isIndexing: boolean, fields: Http2Fields): void {
    this.#scratchFill = 0;
    const index = this.#integer(prefixMask);
    if (this.#outcome !== '') return;
    let field: number;
    let nameBytes: number;
    if (index === 0) {
      if (!this.#string(true)) return;
      nameBytes = this.#spanEnd - this.#spanStart;
      field = fieldOf(this.#spanIn, this.#spanStart, this.#spanEnd);
    } else if (index <= STATIC_COUNT) {
      nameBytes = STATIC_FIELDS.nameBytes[index - 1] ?? 0;
      field = STATIC_FIELDS.field[index - 1] ?? 0;
    } else if (index <= STATIC_COUNT + this.#count) {
      const slot = this.#slot(index - STATIC_COUNT - 1);
      nameBytes = this.#entries[slot * 3 + 1] ?? 0;
      field = (this.#entries[slot * 3 + 2] ?? 0) & 15;
    } else {
      this.#outcome = 'malformed';
      return;
    }
    // A value that stays in no table and is not told is not even unpacked.
    const isTold = field !== FIELD.OTHER && this.#isWanted(field);
    if (!this.#string(isTold || isIndexing)) return;
    let number = 0;
    let text = '';
    // Path and authority go into the table even when nobody wants them yet: somebody may before the client names them again.
    if (isTold || (isIndexing && (field === FIELD.PATH || field === FIELD.AUTHORITY || field === FIELD.HOST))) {
      number = numberOf(field, this.#spanIn, this.#spanStart, this.#spanEnd);
      text = fieldText(field, this.#spanIn, this.#spanStart, this.#spanEnd, field === FIELD.PATH ? this.#lastPath : '');
      if (field === FIELD.PATH) this.#lastPath = text;
    }
    if (isIndexing) this.#insert(field, nameBytes, this.#spanEnd - this.#spanStart, number, text);
    if (isTold) fields.take(field, number, text);
  }

  #isWanted(field: number): boolean {
    switch (field) {
      case FIELD.PATH:
        return this.#options.wantPath;
      case FIELD.AUTHORITY:
      case FIELD.HOST:
        return this.#options.wantAuthority;
      case FIELD.TRACEPARENT:
        return this.#options.wantTraceparent;
      default:
        return true;
    }
  }

  // RFC 7541 §4.4: an entry larger than the table empties it and is not inserted.
  #insert(field: number, nameBytes: number, valueBytes: number, number: number, text: string): void {
    const size = nameBytes + valueBytes + ENTRY_OVERHEAD;
    this.#evictFor(size);
    if (size > this.#capacity) return;
    if (this.#count === this.#slots) this.#grow();
    this.#newest = (this.#newest - 1) & (this.#slots - 1);
    const slot = this.#newest;
    this.#entries[slot * 3] = size;
    this.#entries[slot * 3 + 1] = nameBytes;
    this.#entries[slot * 3 + 2] = (number << 4) | field;
    this.#texts[slot] = text;
    this.#count++;
    this.#size += size;
  }

  #evictFor(bytes: number): void {
    while (this.#count > 0 && this.#size + bytes > this.#capacity) {
      const slot = this.#slot(this.#count - 1);
      this.#size -= this.#entries[slot * 3] ?? 0;
      this.#texts[slot] = '';
      this.#count--;
    }
  }

  #slot(age: number): number {
    return (this.#newest + age) & (this.#slots - 1);
  }

  #grow(): void {
    const slots = Math.max(8, this.#count * 2);
    const entries = new Int32Array(slots * 3);
    const texts: string[] = [];
    for (let age = 0; age < this.#count; age++) {
      const slot = this.#slot(age);
      entries.set(this.#entries.subarray(slot * 3, slot * 3 + 3), age * 3);
      texts.push(this.#texts[slot] ?? '');
    }
    while (texts.length < slots) texts.push('');
    this.#slots = slots;
    this.#entries = entries;
    this.#texts = texts;
    this.#newest = 0;
  }

  // RFC 7541 §5.1, up to 2^31.
  #integer(prefixMask: number): number {
    if (this.#at >= this.#end) {
      this.#outcome = 'malformed';
      return 0;
    }
    let value = (this.#bytes[this.#at++] ?? 0) & prefixMask;
    if (value < prefixMask) return value;
    let scale = 1;
    for (let i = 0; i < 5 && this.#at < this.#end; i++) {
      const byte = this.#bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80 && value <= 0x7fff_ffff) return value;
      if (byte < 0x80) break;
      scale *= 128;
    }
    this.#outcome = 'malformed';
    return 0;
  }

  // Takes a string; when it is needed, it is left in the span. False with the outcome set when it is malformed.
  #string(isNeeded: boolean): boolean {
    const isHuffman = ((this.#bytes[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(0x7f);
    if (this.#outcome !== '') return false;
    const start = this.#at;
    if (length > this.#end - start) {
      this.#outcome = 'malformed';
      return false;
    }
    this.#at = start + length;
    if (!isNeeded) return true;
    if (!isHuffman) {
      this.#spanIn = this.#bytes;
      this.#spanStart = start;
      this.#spanEnd = this.#at;
      return true;
    }
    const end = huffmanDecode(this.#bytes, start, this.#at, scratch, this.#scratchFill);
    if (end < 0) {
      this.#outcome = 'malformed';
      return false;
    }
    this.#spanIn = scratch;
    this.#spanStart = this.#scratchFill;
    this.#spanEnd = end;
    this.#scratchFill = end;
    return true;
  }
}
