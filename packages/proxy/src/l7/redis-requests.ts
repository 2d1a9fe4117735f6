// The client's direction of Redis: commands as arrays of strings, or as lines of words (`inline`). Only a command's name is
// looked at, and what CLIENT is told to do; strings are passed over by their length.
import type { SideReader } from './command-reader.ts';
import type { Move } from './moving.ts';
import { REDIS_COMMANDS } from './redis-words.ts';

export interface RedisRequestSink {
  /** A whole command was seen, `bytes` long. `leaves`: no answer of the usual kind follows it or what comes after it. */
  onCommand(word: number, leaves: boolean, startMs: number, bytes: number): void;
  onRequestFault(): void;
}

const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;
// The longest name is shorter, and so are the words that CLIENT is followed by.
const NAME_BYTES = 24;
/** The server refuses longer lines and larger counts. */
const MOST_LINE_BYTES = 65_536;
const MOST_ARGUMENTS = 1_048_576;
const MOST_STRING_BYTES = 2 ** 32;
const CLIENT = REDIS_COMMANDS.numberOf('CLIENT');

// Where in a command the next byte is.
const AT_START = 0;
const AT_COUNT = 1;
const AT_COUNT_LF = 2;
const AT_MARK = 3;
const AT_LENGTH = 4;
const AT_LENGTH_LF = 5;
const AT_STRING = 6;
const AT_STRING_CR = 7;
const AT_STRING_LF = 8;
const AT_LINE = 9;

export class RedisRequests implements SideReader {
  readonly #sink: RedisRequestSink;
  #at = AT_START;
  #isStopped = false;
  #startMs = 0;
  #bytes = 0;
  // -1: no digit yet.
  #number = -1;
  #isNegative = false;
  #arguments = 0;
  #argument = 0;
  #rest = 0;
  #word = 0;
  #leaves = false;
  // The argument under way, as far as it fits; a longer one is counted on and matches no name.
  readonly #name = new Uint8Array(NAME_BYTES);
  #nameBytes = 0;

  constructor(sink: RedisRequestSink) {
    this.#sink = sink;
  }

  get rest(): number {
    if (this.#isStopped) return Number.POSITIVE_INFINITY;
    return this.#at === AT_STRING && !this.#isNamed() ? this.#rest : 0;
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
        if (this.#isNamed()) this.#readName(bytes, at, at + step);
        at += step;
        this.skip(step);
      } else {
        this.#bytes++;
        this.#readByte(bytes[at++] ?? 0, nowMs);
      }
    }
  }

  carry(move: Move): void {
    this.#at = move.number(this.#at);
    this.#isStopped = move.flag(this.#isStopped);
    this.#startMs = move.time(this.#startMs);
    this.#bytes = move.number(this.#bytes);
    this.#number = move.number(this.#number);
    this.#isNegative = move.flag(this.#isNegative);
    this.#arguments = move.number(this.#arguments);
    this.#argument = move.number(this.#argument);
    this.#rest = move.number(this.#rest);
    this.#word = move.number(this.#word);
    this.#leaves = move.flag(this.#leaves);
    this.#name.set(move.bytes(this.#name));
    this.#nameBytes = move.number(this.#nameBytes);
  }

  // Whether the argument under way has a meaning here.
  #isNamed(): boolean {
    return this.#argument === 0 || (this.#word === CLIENT && this.#argument === 1);
  }

  #readByte(byte: number, nowMs: number): void {
    switch (this.#at) {
      case AT_START:
        return this.#begin(byte, nowMs);
      case AT_COUNT:
      case AT_LENGTH:
        return this.#readDigit(byte);
      case AT_COUNT_LF:
        return byte === LF ? this.#onCount() : this.#fail();
      case AT_MARK:
        if (byte !== 0x24) return this.#fail();
        return this.#await(AT_LENGTH);
      case AT_LENGTH_LF:
        return byte === LF ? this.#onLength() : this.#fail();
      case AT_STRING_CR:
        if (byte !== CR) return this.#fail();
        this.#at = AT_STRING_LF;
        return;
      case AT_STRING_LF:
        return byte === LF ? this.#onArgument() : this.#fail();
      default:
        return this.#readLine(byte);
    }
  }

  #begin(byte: number, nowMs: number): void {
    this.#startMs = nowMs;
    this.#bytes = 1;
    this.#word = 0;
    this.#leaves = false;
    this.#argument = 0;
    this.#nameBytes = 0;
    if (byte === 0x2a) return this.#await(AT_COUNT);
    this.#at = AT_LINE;
    this.#readLine(byte);
  }

  #await(at: number): void {
    this.#at = at;
    this.#number = -1;
    this.#isNegative = false;
  }

  #readDigit(byte: number): void {
    if (byte >= 0x30 && byte <= 0x39) {
      this.#number = (this.#number < 0 ? 0 : this.#number) * 10 + (byte - 0x30);
      if (this.#number > MOST_STRING_BYTES) this.#fail();
    } else if (byte === CR && this.#number >= 0) {
      this.#at++;
    } else if (byte === 0x2d && this.#number < 0 && !this.#isNegative) {
      this.#isNegative = true;
    } else {
      this.#fail();
    }
  }

  #onCount(): void {
    // Nothing is done for an empty command, and nothing answered.
    if (this.#number === 0 || this.#isNegative) this.#at = AT_START;
    else if (this.#number > MOST_ARGUMENTS) this.#fail();
    else {
      this.#arguments = this.#number;
      this.#at = AT_MARK;
    }
  }

  #onLength(): void {
    if (this.#isNegative) return this.#fail();
    this.#rest = this.#number;
    this.#nameBytes = 0;
    this.#at = this.#rest === 0 ? AT_STRING_CR : AT_STRING;
  }

  #onArgument(): void {
    if (this.#isNamed()) this.#onName();
    if (++this.#argument < this.#arguments) this.#at = AT_MARK;
    else this.#finish();
  }

  #readName(bytes: Uint8Array, start: number, end: number): void {
    for (let at = start; at < end && this.#nameBytes <= NAME_BYTES; at++) this.#addToName(bytes[at] ?? 0);
  }

  #addToName(byte: number): void {
    if (this.#nameBytes < NAME_BYTES) this.#name[this.#nameBytes] = byte;
    this.#nameBytes++;
  }

  // CLIENT REPLY makes the server answer some or none of what follows: nobody can tell from outside which.
  #onName(): void {
    const length = this.#nameBytes;
    if (this.#argument === 0) this.#word = length > NAME_BYTES ? 0 : REDIS_COMMANDS.find(this.#name, 0, length);
    else this.#leaves = isReply(this.#name, length);
  }

  #readLine(byte: number): void {
    if (this.#bytes > MOST_LINE_BYTES) return this.#fail();
    if (byte > SPACE) return this.#addToName(byte);
    if (this.#nameBytes > 0) {
      if (this.#isNamed()) this.#onName();
      this.#argument++;
      this.#nameBytes = 0;
    }
    if (byte !== LF) return;
    if (this.#argument > 0) this.#finish();
    else this.#at = AT_START;
  }

  #finish(): void {
    this.#at = AT_START;
    this.#sink.onCommand(this.#word, this.#leaves, this.#startMs, this.#bytes);
  }

  #fail(): void {
    this.#sink.onRequestFault();
  }
}

function isReply(name: Uint8Array, length: number): boolean {
  const reply = 'REPLY';
  if (length !== reply.length) return false;
  for (let at = 0; at < length; at++) {
    if (((name[at] ?? 0) & 0xdf) !== reply.charCodeAt(at)) return false;
  }
  return true;
}
