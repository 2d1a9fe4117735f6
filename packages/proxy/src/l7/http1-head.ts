// Reads one HTTP/1.1 head (RFC 9112 §2-§6) as it arrives, in any pieces: start line, then fields, of which only those that decide
// framing and those that are told are looked at. Keeps at most 1 KiB of an unfinished line and nothing else of a head.
// Strict where two readers could disagree about framing: then it says malformed and never guesses. A line may end in LF alone.
import { controlFrom } from './byte-scan.ts';
import { type Move, withRoom } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';
import {
  authorityOf,
  hasText,
  hasTextAnyCase,
  MAX_TEXT,
  methodNumber,
  textOf,
  traceparentOf,
} from './sniffer-texts.ts';

/** Longest head, and longest trailer section, in bytes. Upstream's Envoy stops at 60 KiB, node at 16. */
export const MAX_HEAD_BYTES = 65_536;

/** How far a head has come. */
export type HeadState = 'more' | 'whole' | 'malformed' | 'limit';

// What is kept of a line that is spread over reads: its beginning, and its last bytes, where a request has its version.
const TAIL = 9;
const KEPT = 1024 - TAIL;

const NO_LINE = new Uint8Array(0);

const LF = 10;
const CR = 13;
const SP = 32;
const TAB = 9;
const COLON = 58;

// What the latest field was: a folded line (RFC 9112 §5.2) may continue only one that nobody looks at.
const FIELD_NONE = 0;
const FIELD_OTHER = 1;
const FIELD_READ = 2;

const isTokenByte = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  isTokenByte[char.charCodeAt(0)] = 1;
}

/** Reads the heads of one direction, one after the other: `begin()`, then `read()` until the state is not `more`. */
export class Http1Head {
  readonly #isRequest: boolean;
  readonly #options: L7Options;
  state: HeadState = 'more';
  /** Bytes of this head so far. */
  bytes = 0;
  /** Minor version: 0 or 1. */
  minor = 1;
  /** Number in METHODS; requests. */
  method = 0;
  /** 100..999; responses. */
  status = 0;
  /** -1 when there is none. */
  contentLength = -1;
  /** Its fields contradict each other; responses. */
  hasFaultyFraming = false;
  /** The transfer coding: none, one that ends in `chunked`, or one that does not and so goes on to the end. */
  coding: 'none' | 'chunked' | 'other' = 'none';
  path = '';
  authority = '';
  traceparent = '';
  #hasStartLine = false;
  #isTrailer = false;
  #hasHost = false;
  #lastField = FIELD_NONE;
  // The unfinished line.
  #line: Uint8Array | undefined = undefined;
  #lineBytes = 0;
  #sawCr = false;
  // Texts of the heads before, to be used again.
  #lastPath = '';
  #lastAuthority = '';

  constructor(isRequest: boolean, options: L7Options) {
    this.#isRequest = isRequest;
    this.#options = options;
  }

  /** Forgets the previous head. */
  begin(): void {
    this.state = 'more';
    this.bytes = 0;
    this.method = 0;
    this.status = 0;
    this.contentLength = -1;
    this.coding = 'none';
    this.path = '';
    this.authority = '';
    this.traceparent = '';
    this.#hasStartLine = false;
    this.#isTrailer = false;
    this.#hasHost = false;
    this.#lastField = FIELD_NONE;
  }

  /** Reads the trailer section behind a chunked body (RFC 9112 §7.1.2): only to find its end. */
  beginTrailer(): void {
    this.begin();
    this.#hasStartLine = true;
    this.#isTrailer = true;
  }

  carry(move: Move): void {
    this.state = move.text(this.state);
    this.bytes = move.number(this.bytes);
    this.minor = move.number(this.minor);
    this.method = move.number(this.method);
    this.status = move.number(this.status);
    this.contentLength = move.number(this.contentLength);
    this.coding = move.text(this.coding);
    this.path = move.text(this.path);
    this.authority = move.text(this.authority);
    this.traceparent = move.text(this.traceparent);
    this.#hasStartLine = move.flag(this.#hasStartLine);
    this.#isTrailer = move.flag(this.#isTrailer);
    this.#hasHost = move.flag(this.#hasHost);
    this.#lastField = move.number(this.#lastField);
    this.#lineBytes = move.number(this.#lineBytes);
    this.#sawCr = move.flag(this.#sawCr);
    const line = move.bytes(this.#line?.subarray(0, Math.min(this.#lineBytes, KEPT + TAIL)) ?? NO_LINE);
    if (move.isUnpacking) this.#line = line.length === 0 ? undefined : withRoom(line, KEPT + TAIL);
  }

  /** Reads `bytes[at, end)` up to the end of the head; returns where it stopped and leaves the outcome in `state`. */
  read(bytes: Uint8Array, at: number, stop: number): number {
    // Offsets may come from arithmetic with large or infinite numbers; told that these are small, V8 runs the loops over bytes at
    // twice the speed.
    let lineStart = at | 0;
    const end = stop | 0;
    while (this.state === 'more' && lineStart < end) {
      const scanEnd = Math.min(end, lineStart + MAX_HEAD_BYTES - this.bytes) | 0;
      // A field's name is looked at once: it has no character that could end the line.
      let nameEnd = lineStart;
      if (this.#hasStartLine && this.#lineBytes === 0) {
        while (nameEnd < scanEnd && isTokenByte[bytes[nameEnd] ?? 0] === 1) nameEnd++;
      }
      const lineEnd = this.#lineFeed(bytes, nameEnd, scanEnd);
      if (this.state !== 'more') return lineEnd;
      this.bytes += lineEnd - lineStart;
      if (lineEnd === scanEnd) {
        this.#keep(bytes, lineStart, lineEnd);
        if (this.bytes >= MAX_HEAD_BYTES) this.state = 'limit';
        return lineEnd;
      }
      this.bytes++;
      if (this.#lineBytes > 0 || this.#sawCr) this.#finishKept(bytes, lineStart, lineEnd);
      else this.#wholeLine(bytes, lineStart, nameEnd, lineEnd);
      lineStart = lineEnd + 1;
    }
    return lineStart;
  }

  // The next LF, or `end`. Control characters are no part of a head, and CR only where LF follows: a bare CR ends a line for
  // some readers and not for others.
  #lineFeed(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    if (this.#sawCr && at < end && bytes[at] !== LF) {
      this.state = 'malformed';
      return at;
    }
    for (;;) {
      at = controlFrom(bytes, at, end);
      if (at === end || bytes[at] === LF) return at;
      if (bytes[at] !== TAB && (bytes[at] !== CR || (at + 1 < end && bytes[at + 1] !== LF))) {
        this.state = 'malformed';
        return at;
      }
      at++;
    }
  }

  #wholeLine(bytes: Uint8Array, start: number, nameEnd: number, lineFeed: number): void {
    const end = lineFeed > start && bytes[lineFeed - 1] === CR ? lineFeed - 1 : lineFeed;
    const keptEnd = end - start > KEPT + TAIL ? start + KEPT : end;
    this.#take(bytes, start, nameEnd, keptEnd, end - TAIL, keptEnd < end);
  }

  #keep(bytes: Uint8Array, start: number, end: number): void {
    const hasCr = end > start && bytes[end - 1] === CR;
    this.#append(bytes, start, hasCr ? end - 1 : end);
    if (hasCr) this.#sawCr = true;
  }

  #append(bytes: Uint8Array, start: number, end: number): void {
    if (end <= start) return;
    this.#line ??= new Uint8Array(KEPT + TAIL);
    const line = this.#line;
    const copied = Math.min(end - start, KEPT + TAIL - this.#lineBytes);
    for (let i = 0; i < copied; i++) line[this.#lineBytes + i] = bytes[start + i] ?? 0;
    const rest = end - start - Math.max(copied, 0);
    if (rest > 0) {
      // Beyond what is kept, the last bytes move up.
      const moved = Math.min(rest, TAIL);
      line.copyWithin(KEPT, KEPT + moved, KEPT + TAIL);
      for (let i = 0; i < moved; i++) line[KEPT + TAIL - moved + i] = bytes[end - moved + i] ?? 0;
    }
    this.#lineBytes += end - start;
  }

  #finishKept(bytes: Uint8Array, start: number, lineFeed: number): void {
    this.#append(bytes, start, lineFeed > start && bytes[lineFeed - 1] === CR ? lineFeed - 1 : lineFeed);
    const lineBytes = this.#lineBytes;
    const line = this.#line ?? bytes;
    const isCut = lineBytes > KEPT + TAIL;
    this.#lineBytes = 0;
    this.#sawCr = false;
    this.#take(line, 0, 0, isCut ? KEPT : lineBytes, isCut ? KEPT : lineBytes - TAIL, isCut);
    // An idle connection holds no line.
    if (this.state !== 'more') this.#line = undefined;
  }

  // One line: `bytes[start, end)` is what is kept of its beginning, its last TAIL bytes are at `tail`; up to `nameEnd` it is known
  // to be a token.
  #take(bytes: Uint8Array, start: number, nameEnd: number, end: number, tail: number, isCut: boolean): void {
    if (this.#hasStartLine) {
      this.#field(bytes, start, nameEnd, end, isCut);
      return;
    }
    this.#hasStartLine = true;
    const isSound = this.#isRequest ? this.#requestLine(bytes, start, end, tail) : this.#statusLine(bytes, start, end);
    if (!isSound) this.state = 'malformed';
  }

  #requestLine(bytes: Uint8Array, start: number, end: number, tail: number): boolean {
    let at = start;
    while (at < end && isTokenByte[bytes[at] ?? 0] === 1) at++;
    if (at === start || at - start > 32 || bytes[at] !== SP) return false;
    this.method = methodNumber(bytes, start, at);
    const targetStart = at + 1;
    const targetEnd = Math.min(end, tail);
    if (targetEnd <= targetStart || bytes[tail] !== SP || !this.#version(bytes, tail + 1)) return false;
    for (let i = targetStart; i < targetEnd; i++) if (bytes[i] === SP) return false;
    if (this.#options.wantPath || this.#options.wantAuthority) this.#target(bytes, targetStart, targetEnd);
    return true;
  }

  #statusLine(bytes: Uint8Array, start: number, end: number): boolean {
    if (end - start < 12 || !this.#version(bytes, start) || bytes[start + 8] !== SP) return false;
    if (end - start > 12 && bytes[start + 12] !== SP) return false;
    const status = digits(bytes, start + 9, start + 12);
    this.status = status;
    return status >= 100;
  }

  #version(bytes: Uint8Array, start: number): boolean {
    if (!hasText(bytes, start, 'HTTP/1.')) return false;
    this.minor = (bytes[start + 7] ?? 0) - 0x30;
    return this.minor === 0 || this.minor === 1;
  }

  // RFC 9112 §3.2: origin-form, absolute-form, authority-form (CONNECT) or asterisk.
  #target(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    if (bytes[start] !== 0x2f && bytes[start] !== 0x2a) {
      const isAbsolute = hasTextAnyCase(bytes, start, 'http');
      const scheme = isAbsolute ? indexOfText(bytes, start, Math.min(end, start + 8), '://') : -1;
      const authorityStart = scheme < 0 ? start : scheme + 3;
      at = authorityStart;
      while (at < end && bytes[at] !== 0x2f && bytes[at] !== 0x3f) at++;
      if (this.#options.wantAuthority) this.#setAuthority(bytes, authorityStart, at);
      this.#hasHost = true;
    }
    if (!this.#options.wantPath) return;
    const stop = Math.min(end, at + MAX_TEXT);
    let query = at;
    while (query < stop && bytes[query] !== 0x3f && bytes[query] !== 0x23) query++;
    this.#lastPath = textOf(bytes, at, query, this.#lastPath);
    this.path = this.#lastPath;
  }

  #setAuthority(bytes: Uint8Array, start: number, end: number): void {
    this.#lastAuthority = authorityOf(bytes, start, end, this.#lastAuthority);
    this.authority = this.#lastAuthority;
  }

  #field(bytes: Uint8Array, start: number, nameEnd: number, end: number, isCut: boolean): void {
    if (start === end) {
      this.#finish();
      return;
    }
    const first = bytes[start] ?? 0;
    if (first === SP || first === TAB) {
      if (this.#lastField !== FIELD_OTHER) this.state = 'malformed';
      return;
    }
    let colon = nameEnd;
    while (colon < end && isTokenByte[bytes[colon] ?? 0] === 1) colon++;
    // A blank between name and colon is refused too: it is how requests are smuggled (RFC 9112 §5.1).
    if (colon === start || colon >= end || bytes[colon] !== COLON) {
      this.state = 'malformed';
      return;
    }
    this.#lastField = FIELD_OTHER;
    if (this.#isTrailer) return;
    switch (colon - start) {
      case 4:
        if (this.#isRequest && hasTextAnyCase(bytes, start, 'host')) this.#host(bytes, colon + 1, end);
        return;
      case 11:
        if (this.#isRequest && this.#options.wantTraceparent && hasTextAnyCase(bytes, start, 'traceparent')) {
          this.#traceparent(bytes, colon + 1, end);
        }
        return;
      case 14:
        if (hasTextAnyCase(bytes, start, 'content-length')) this.#length(bytes, colon + 1, end, isCut);
        return;
      case 17:
        if (hasTextAnyCase(bytes, start, 'transfer-encoding')) this.#transferEncoding(bytes, colon + 1, end, isCut);
        return;
      default:
    }
  }

  #host(bytes: Uint8Array, start: number, end: number): void {
    this.#lastField = FIELD_READ;
    // The target's own authority comes before the field (RFC 9112 §3.2.2).
    if (this.#hasHost || !this.#options.wantAuthority) return;
    this.#hasHost = true;
    const from = afterBlanks(bytes, start, end);
    this.#setAuthority(bytes, from, beforeBlanks(bytes, from, end));
  }

  #traceparent(bytes: Uint8Array, start: number, end: number): void {
    const from = afterBlanks(bytes, start, end);
    if (this.traceparent === '') this.traceparent = traceparentOf(bytes, from, beforeBlanks(bytes, from, end));
  }

  // Twice is refused even when both say the same, and so is a list: whoever is in between may take another one.
  #length(bytes: Uint8Array, start: number, end: number, isCut: boolean): void {
    this.#lastField = FIELD_READ;
    const from = afterBlanks(bytes, start, end);
    const length = digits(bytes, from, beforeBlanks(bytes, from, end));
    if (isCut || length < 0 || this.contentLength >= 0) this.state = 'malformed';
    this.contentLength = length;
  }

  #transferEncoding(bytes: Uint8Array, start: number, end: number, isCut: boolean): void {
    this.#lastField = FIELD_READ;
    const from = afterBlanks(bytes, start, end);
    const coding = finalCoding(bytes, from, beforeBlanks(bytes, from, end));
    if (isCut || coding === 'malformed' || this.coding !== 'none') this.state = 'malformed';
    else this.coding = coding;
  }

  // RFC 9112 §6.1 and §6.3: both at once, codings in HTTP/1.0, and requests whose end cannot be told are faulty framing.
  #finish(): void {
    const isFaulty =
      this.coding !== 'none' &&
      (this.contentLength >= 0 || this.minor === 0 || (this.#isRequest && this.coding === 'other'));
    this.hasFaultyFraming = isFaulty;
    // Of a response it only matters when it has a body, which its request decides too.
    this.state = isFaulty && this.#isRequest ? 'malformed' : 'whole';
    this.#line = undefined;
  }
}

function afterBlanks(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] === SP || bytes[at] === TAB)) at++;
  return at;
}

function beforeBlanks(bytes: Uint8Array, start: number, end: number): number {
  let at = end;
  while (at > start && (bytes[at - 1] === SP || bytes[at - 1] === TAB)) at--;
  return at;
}

// A number of 1 to 15 digits (10^15 bytes is more than any body), or -1.
function digits(bytes: Uint8Array, start: number, end: number): number {
  if (end === start || end - start > 15) return -1;
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

// `chunked` only as the last of the list; `identity` was taken out of the protocol and means different things to different peers.
function finalCoding(bytes: Uint8Array, start: number, end: number): 'chunked' | 'other' | 'malformed' {
  let at = start;
  let coding: 'chunked' | 'other' | 'malformed' = 'malformed';
  while (at <= end) {
    let comma = at;
    while (comma < end && bytes[comma] !== 0x2c) comma++;
    const from = afterBlanks(bytes, at, comma);
    const to = beforeBlanks(bytes, from, comma);
    if (from === to || coding === 'chunked') return 'malformed';
    for (let i = from; i < to; i++) if (isTokenByte[bytes[i] ?? 0] !== 1) return 'malformed';
    if (to - from === 8 && hasTextAnyCase(bytes, from, 'identity')) return 'malformed';
    coding = to - from === 7 && hasTextAnyCase(bytes, from, 'chunked') ? 'chunked' : 'other';
    at = comma + 1;
  }
  return coding;
}

function indexOfText(bytes: Uint8Array, start: number, end: number, text: string): number {
  for (let i = start; i + text.length <= end; i++) if (hasText(bytes, i, text)) return i;
  return -1;
}
