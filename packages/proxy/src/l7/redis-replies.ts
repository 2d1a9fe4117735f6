// The server's direction of Redis: replies of RESP2 and RESP3. A reply may hold others; how many of them are still to come is
// all that is remembered of its shape. Strings are passed over by their length, except the first word of an error.
import type { SideReader } from './command-reader.ts';
import type { Move } from './moving.ts';
import { REDIS_ERRORS } from './redis-words.ts';

export interface RedisReplySink {
  /** A whole reply was seen, `bytes` long; `error` is the first word of an error, and '' without one. */
  onReply(error: string, bytes: number, nowMs: number): void;
  /** `unknown`: it is RESP3, but of a kind that no server sends. */
  onReplyFault(isUnknown: boolean): void;
}

const CR = 0x0d;
const LF = 0x0a;
const ERROR = 0x2d; // -
const LONG_ERROR = 0x21; // !
const MAP = 0x25; // %
const ATTRIBUTE = 0x7c; // |
const PUSH = 0x3e; // >
const MOST_NUMBER = 2 ** 32;
const WORD_BYTES = 16;

/** What a type byte is followed by. */
const LINE = 1;
const STRING = 2;
const AGGREGATE = 3;
const SHAPES = shapes();

function shapes(): Uint8Array {
  const table = new Uint8Array(128);
  for (const type of '+-:_,#(') table[type.charCodeAt(0)] = LINE;
  for (const type of '$!=') table[type.charCodeAt(0)] = STRING;
  for (const type of '*%~>|') table[type.charCodeAt(0)] = AGGREGATE;
  return table;
}

const AT_TYPE = 0;
const AT_LINE = 1;
const AT_LINE_LF = 2;
const AT_NUMBER = 3;
const AT_NUMBER_LF = 4;
const AT_STRING = 5;
const AT_STRING_CR = 6;
const AT_STRING_LF = 7;

export class RedisReplies implements SideReader {
  readonly #sink: RedisReplySink;
  #at = AT_TYPE;
  #isStopped = false;
  #bytes = 0;
  #type = 0;
  #number = -1;
  #isNegative = false;
  #rest = 0;
  // Values still to come until the reply is whole, the one under way included. 0: between replies.
  #missing = 0;
  // Type of the reply itself, past its attributes; 0 until it is seen.
  #outerType = 0;
  readonly #word = new Uint8Array(WORD_BYTES);
  #wordBytes = 0;
  #isWordWhole = false;

  constructor(sink: RedisReplySink) {
    this.#sink = sink;
  }

  get rest(): number {
    if (this.#isStopped) return Number.POSITIVE_INFINITY;
    return this.#at === AT_STRING && !this.#isError() ? this.#rest : 0;
  }

  skip(bytes: number): void {
    this.#bytes += bytes;
    this.#rest -= bytes;
    if (this.#rest === 0 && !this.#isStopped) this.#at = AT_STRING_CR;
  }

  stop(): void {
    this.#isStopped = true;
  }

  push(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    let at = start;
    while (at < end && !this.#isStopped) {
      if (this.#at === AT_STRING) {
        const step = Math.min(this.#rest, end - at);
        if (this.#isError()) for (let i = at; i < at + step; i++) this.#readWord(bytes[i] ?? 0);
        at += step;
        this.skip(step);
      } else {
        if (this.#missing === 0) this.#begin();
        this.#bytes++;
        this.#readByte(bytes[at++] ?? 0, nowMs);
      }
    }
  }

  carry(move: Move): void {
    this.#at = move.number(this.#at);
    this.#isStopped = move.flag(this.#isStopped);
    this.#bytes = move.number(this.#bytes);
    this.#type = move.number(this.#type);
    this.#number = move.number(this.#number);
    this.#isNegative = move.flag(this.#isNegative);
    this.#rest = move.number(this.#rest);
    this.#missing = move.number(this.#missing);
    this.#outerType = move.number(this.#outerType);
    this.#word.set(move.bytes(this.#word));
    this.#wordBytes = move.number(this.#wordBytes);
    this.#isWordWhole = move.flag(this.#isWordWhole);
  }

  #begin(): void {
    this.#missing = 1;
    this.#outerType = 0;
    this.#bytes = 0;
    this.#wordBytes = 0;
    this.#isWordWhole = false;
  }

  // Errors inside of arrays are what a transaction or a script met: the command itself was carried out.
  #isError(): boolean {
    return this.#missing === 1 && (this.#outerType === ERROR || this.#outerType === LONG_ERROR);
  }

  #readByte(byte: number, nowMs: number): void {
    switch (this.#at) {
      case AT_TYPE:
        return this.#readType(byte);
      case AT_LINE:
        if (byte === CR) this.#at = AT_LINE_LF;
        else if (this.#isError()) this.#readWord(byte);
        return;
      case AT_NUMBER:
        return this.#readDigit(byte);
      case AT_NUMBER_LF:
        return byte === LF ? this.#onNumber(nowMs) : this.#sink.onReplyFault(false);
      case AT_STRING_CR:
        if (byte !== CR) return this.#sink.onReplyFault(false);
        this.#at = AT_STRING_LF;
        return;
      default:
        // The LF behind a line or a string.
        return byte === LF ? this.#onValue(nowMs) : this.#sink.onReplyFault(false);
    }
  }

  #readType(byte: number): void {
    const shape = byte < 128 ? (SHAPES[byte] ?? 0) : 0;
    if (shape === 0) return this.#sink.onReplyFault(false);
    // With attributes before it, a reply is the last of what is missing.
    if (this.#missing === 1 && this.#outerType === 0 && byte !== ATTRIBUTE) this.#outerType = byte;
    this.#type = byte;
    this.#number = -1;
    this.#isNegative = false;
    this.#at = shape === LINE ? AT_LINE : AT_NUMBER;
  }

  #readDigit(byte: number): void {
    if (byte >= 0x30 && byte <= 0x39) {
      this.#number = (this.#number < 0 ? 0 : this.#number) * 10 + (byte - 0x30);
      if (this.#number > MOST_NUMBER) this.#sink.onReplyFault(false);
    } else if (byte === CR && this.#number >= 0) {
      this.#at = AT_NUMBER_LF;
    } else if (byte === 0x2d && this.#number < 0 && !this.#isNegative) {
      this.#isNegative = true;
    } else {
      // `$?` and `*?` are RESP3's streamed values.
      this.#sink.onReplyFault(byte === 0x3f && this.#number < 0);
    }
  }

  #onNumber(nowMs: number): void {
    // The absent string and the absent array of RESP2 have length -1 and nothing behind it.
    if (this.#isNegative) return this.#number === 1 ? this.#onValue(nowMs) : this.#sink.onReplyFault(false);
    if (SHAPES[this.#type] === STRING) {
      this.#rest = this.#number;
      this.#at = this.#rest === 0 ? AT_STRING_CR : AT_STRING;
      return;
    }
    const isPairs = this.#type === MAP || this.#type === ATTRIBUTE;
    this.#missing += isPairs ? 2 * this.#number : this.#number;
    if (this.#missing > Number.MAX_SAFE_INTEGER) return this.#sink.onReplyFault(false);
    // Attributes only stand before a value.
    if (this.#type === ATTRIBUTE) this.#at = AT_TYPE;
    else this.#onValue(nowMs);
  }

  #onValue(nowMs: number): void {
    this.#at = AT_TYPE;
    if (--this.#missing > 0) return;
    // A push answers nothing.
    if (this.#outerType !== PUSH) this.#sink.onReply(this.#errorWord(), this.#bytes, nowMs);
  }

  #readWord(byte: number): void {
    if (byte <= 0x20) this.#isWordWhole = true;
    if (this.#isWordWhole || this.#wordBytes > WORD_BYTES) return;
    if (this.#wordBytes < WORD_BYTES) this.#word[this.#wordBytes] = byte;
    this.#wordBytes++;
  }

  #errorWord(): string {
    if (this.#outerType !== ERROR && this.#outerType !== LONG_ERROR) return '';
    const isKnown = this.#wordBytes <= WORD_BYTES;
    return REDIS_ERRORS.word(isKnown ? REDIS_ERRORS.find(this.#word, 0, this.#wordBytes) : 0);
  }
}
