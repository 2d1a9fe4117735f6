// HPACK decoder (RFC 7541), complete: indexed fields, all literals, Huffman, size updates, eviction.
// Guarantees: never throws on input; holds at most the table size the peer may use; a header list over the limit is
// counted without being built, and the block is still read to its end so that the table stays in step.
// It does not judge names and values: header-rules.ts does.

import { Buffer } from 'node:buffer';
import { DEFAULT_HEADER_TABLE_SIZE } from './frames.ts';
import { DynamicTable } from './hpack-dynamic-table.ts';
import { STATIC_TABLE } from './hpack-tables.ts';
import { huffmanDecode, huffmanDecodedBound } from './huffman.ts';

/** Receives decoded fields in order. Strings hold one byte a character (latin-1). */
export interface HeaderSink {
  header(name: string, value: string): void;
}

/**
 * Why a block was not decoded to the satisfaction of both. `compression`: the tables are out of step, the connection
 * must end with COMPRESSION_ERROR. `too_large`: only this header list is refused, the connection may go on.
 */
export interface HpackFault {
  readonly kind: 'compression' | 'too_large';
  readonly message: string;
}

/** Bounds of one decoder. */
export interface HpackDecoderOptions {
  /** Our announced SETTINGS_HEADER_TABLE_SIZE, bytes as RFC 7541 §4.1 counts them. Default 4096. */
  readonly maxTableSize?: number;
  /** Longest header list, counted as SETTINGS_MAX_HEADER_LIST_SIZE: name + value + 32 a field. */
  readonly maxHeaderListBytes: number;
}

/** A decoder frozen between two blocks: plain structured-cloneable data. */
export interface HpackState {
  readonly version: 1;
  /** Size the peer's encoder uses now. */
  readonly capacity: number;
  /** Size the peer's encoder may use. */
  readonly limit: number;
  readonly isUpdateDue: boolean;
  /** Newest first. */
  readonly entries: readonly (readonly [name: string, value: string])[];
}

const TRUNCATED = compression('header block ends inside a field');
const INTEGER_OVERFLOW = compression('header block has an integer over 2^31');
const BAD_INDEX = compression('header block refers to a table entry that does not exist');
const BAD_HUFFMAN = compression('header block has a malformed Huffman string');
const LATE_UPDATE = compression('table size update after the first field');
const LARGE_UPDATE = compression('table size update over the announced size');
const MISSING_UPDATE = compression('header block must begin with a table size update');
const TOO_LARGE: HpackFault = { kind: 'too_large', message: 'header list is over our limit' };

// Where Huffman strings are unpacked before they become JavaScript strings. Decoding is synchronous and the strings
// exist before the sink is called, so all connections of a thread share it; a larger one is made for one block only.
const SHARED_SCRATCH = Buffer.alloc(16_384);

/** Decodes the header blocks of one direction of one connection, in wire order. */
export class HpackDecoder {
  readonly #maxTableSize: number;
  readonly #maxHeaderListBytes: number;
  readonly #table: DynamicTable;
  #limit: number;
  #isUpdateDue = false;
  // State of the block being decoded.
  #block: Buffer = SHARED_SCRATCH;
  #at = 0;
  #end = 0;
  #listBytes = 0;
  #fault: HpackFault | 0 = 0;
  // The string read last: a span of the block or of the scratch.
  #scratch: Buffer = SHARED_SCRATCH;
  #scratchFill = 0;
  #spanIn: Buffer = SHARED_SCRATCH;
  #spanStart = 0;
  #spanEnd = 0;

  constructor(options: HpackDecoderOptions) {
    this.#maxTableSize = options.maxTableSize ?? DEFAULT_HEADER_TABLE_SIZE;
    this.#maxHeaderListBytes = options.maxHeaderListBytes;
    // Until the peer has seen our SETTINGS it may use the protocol's default.
    this.#limit = Math.max(this.#maxTableSize, DEFAULT_HEADER_TABLE_SIZE);
    this.#table = new DynamicTable(DEFAULT_HEADER_TABLE_SIZE);
  }

  /**
   * Tells that the peer acknowledged our SETTINGS: from now on our table size binds it, and if its table was larger its
   * next block must begin with an update (RFC 7541 §4.2).
   */
  settingsAcknowledged(): void {
    this.#limit = this.#maxTableSize;
    if (this.#table.capacity > this.#limit) this.#isUpdateDue = true;
  }

  /**
   * Decodes `block[start, end)`, one whole header block, into `sink`.
   * @returns 0, or the fault. After `too_large` fields beyond the limit did not reach the sink; after `compression` the
   * decoder must not be used any more.
   */
  decode(block: Buffer, start: number, end: number, sink: HeaderSink): HpackFault | 0 {
    this.#block = block;
    this.#at = start;
    this.#end = end;
    this.#listBytes = 0;
    this.#fault = 0;
    this.#sizeUpdates();
    while (this.#at < this.#end && this.#fault === 0) this.#field(sink);
    // Nothing of the caller's memory is kept alive.
    this.#block = SHARED_SCRATCH;
    this.#scratch = SHARED_SCRATCH;
    this.#spanIn = SHARED_SCRATCH;
    if (this.#fault !== 0) return this.#fault;
    return this.#listBytes > this.#maxHeaderListBytes ? TOO_LARGE : 0;
  }

  /** Copies what is needed to go on elsewhere; only between blocks. */
  exportState(): HpackState {
    return {
      version: 1,
      capacity: this.#table.capacity,
      limit: this.#limit,
      isUpdateDue: this.#isUpdateDue,
      entries: this.#table.entries(),
    };
  }

  /**
   * Continues from an exported state.
   * @throws RangeError when the state cannot have come from a decoder with these options.
   */
  static fromState(state: HpackState, options: HpackDecoderOptions): HpackDecoder {
    const decoder = new HpackDecoder(options);
    const isSound =
      state.version === 1 &&
      (state.limit === decoder.#limit || state.limit === decoder.#maxTableSize) &&
      state.capacity >= 0 &&
      (state.capacity <= state.limit || state.isUpdateDue);
    if (!isSound || !decoder.#table.restore(state.capacity, state.entries)) {
      throw new RangeError('HPACK decoder state is not sound');
    }
    decoder.#limit = state.limit;
    decoder.#isUpdateDue = state.isUpdateDue;
    return decoder;
  }

  #sizeUpdates(): void {
    while (this.#at < this.#end && ((this.#block[this.#at] ?? 0) & 0xe0) === 0x20) {
      const size = this.#integer(0x1f);
      if (this.#fault !== 0) return;
      if (size > this.#limit) {
        this.#fault = LARGE_UPDATE;
        return;
      }
      this.#table.resize(size);
      this.#isUpdateDue = false;
    }
    if (this.#isUpdateDue) this.#fault = MISSING_UPDATE;
  }

  #field(sink: HeaderSink): void {
    const first = this.#block[this.#at] ?? 0;
    if ((first & 0x80) !== 0) {
      this.#indexed(sink);
    } else if ((first & 0x40) !== 0) {
      this.#literal(0x3f, true, sink);
    } else if ((first & 0x20) !== 0) {
      this.#fault = LATE_UPDATE;
    } else {
      // Without indexing and never indexed differ only for someone who encodes again.
      this.#literal(0x0f, false, sink);
    }
  }

  #indexed(sink: HeaderSink): void {
    const index = this.#integer(0x7f);
    if (this.#fault !== 0) return;
    if (!this.#hasEntry(index)) {
      this.#fault = BAD_INDEX;
      return;
    }
    const name = this.#nameAt(index);
    const value = this.#valueAt(index);
    if (this.#count(name.length, value.length)) sink.header(name, value);
  }

  #literal(prefixMask: number, isIndexing: boolean, sink: HeaderSink): void {
    this.#scratchFill = 0;
    const index = this.#integer(prefixMask);
    if (this.#fault !== 0) return;
    let name = '';
    let nameIn = this.#block;
    let nameStart = 0;
    let nameEnd = 0;
    if (index === 0) {
      if (!this.#string()) return;
      nameIn = this.#spanIn;
      nameStart = this.#spanStart;
      nameEnd = this.#spanEnd;
    } else if (this.#hasEntry(index)) {
      name = this.#nameAt(index);
    } else {
      this.#fault = BAD_INDEX;
      return;
    }
    if (!this.#string()) return;
    const nameBytes = index === 0 ? nameEnd - nameStart : name.length;
    const valueBytes = this.#spanEnd - this.#spanStart;
    const isWanted = this.#count(nameBytes, valueBytes);
    const isKept = isIndexing && this.#table.makeRoom(nameBytes + valueBytes + 32);
    if (!isWanted && !isKept) return;
    if (index === 0) name = nameIn.toString('latin1', nameStart, nameEnd);
    const value = this.#spanIn.toString('latin1', this.#spanStart, this.#spanEnd);
    if (isKept) this.#table.insert(name, value);
    if (isWanted) sink.header(name, value);
  }

  #count(nameBytes: number, valueBytes: number): boolean {
    // Saturates far below 2^53: a block has at most its own length of fields, each as large as the table.
    this.#listBytes += nameBytes + valueBytes + 32;
    return this.#listBytes <= this.#maxHeaderListBytes;
  }

  #hasEntry(index: number): boolean {
    return index > 0 && index <= STATIC_TABLE.length + this.#table.count;
  }

  #nameAt(index: number): string {
    const fixed = STATIC_TABLE[index - 1];
    return fixed === undefined ? this.#table.nameAt(index - STATIC_TABLE.length - 1) : fixed[0];
  }

  #valueAt(index: number): string {
    const fixed = STATIC_TABLE[index - 1];
    return fixed === undefined ? this.#table.valueAt(index - STATIC_TABLE.length - 1) : fixed[1];
  }

  // RFC 7541 §5.1. Five continuation bytes reach beyond 2^31; more, even of zeros, are refused as too long.
  #integer(prefixMask: number): number {
    if (this.#at >= this.#end) {
      this.#fault = TRUNCATED;
      return 0;
    }
    let value = (this.#block[this.#at++] ?? 0) & prefixMask;
    if (value < prefixMask) return value;
    let scale = 1;
    for (let i = 0; i < 5; i++) {
      if (this.#at >= this.#end) {
        this.#fault = TRUNCATED;
        return 0;
      }
      const byte = this.#block[this.#at++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value <= 0x7fff_ffff) return value;
        break;
      }
      scale *= 128;
    }
    this.#fault = INTEGER_OVERFLOW;
    return 0;
  }

  // Reads a string and leaves it in the span; false with the fault set when it is malformed.
  #string(): boolean {
    const isHuffman = ((this.#block[this.#at] ?? 0) & 0x80) !== 0;
    const length = this.#integer(0x7f);
    if (this.#fault !== 0) return false;
    const start = this.#at;
    if (length > this.#end - start) {
      this.#fault = TRUNCATED;
      return false;
    }
    this.#at = start + length;
    if (!isHuffman) {
      this.#spanIn = this.#block;
      this.#spanStart = start;
      this.#spanEnd = this.#at;
      return true;
    }
    const offset = this.#scratchFill;
    this.#reserve(offset + huffmanDecodedBound(length));
    const end = huffmanDecode(this.#block, start, this.#at, this.#scratch, offset);
    if (end < 0) {
      this.#fault = BAD_HUFFMAN;
      return false;
    }
    this.#scratchFill = end;
    this.#spanIn = this.#scratch;
    this.#spanStart = offset;
    this.#spanEnd = end;
    return true;
  }

  // A name may lie in the old scratch while its value needs a larger one: the name's span keeps its buffer.
  #reserve(bytes: number): void {
    if (bytes > this.#scratch.length) this.#scratch = Buffer.alloc(bytes);
  }
}

function compression(message: string): HpackFault {
  return { kind: 'compression', message };
}
