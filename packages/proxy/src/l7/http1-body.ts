// Where an HTTP/1.1 body ends (RFC 9112 §6-§7), in any pieces: by length, by chunks with extensions and trailers, or with the
// connection. Content is never looked at. Chunk framing ends its lines in CRLF; LF alone is refused there, because peers disagree.
import { Http1Head } from './http1-head.ts';
import type { Move } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';

/** Longest chunk extension, bytes. */
const MAX_EXTENSION_BYTES = 4096;

const LF = 10;
const CR = 13;
const SP = 32;
const TAB = 9;
const SEMICOLON = 59;

/** Where one direction stands. Between messages it is in `head`; the last two are final. */
export type Http1Phase =
  | 'head'
  | 'length'
  | 'size'
  | 'extension'
  | 'size_lf'
  | 'chunk'
  | 'chunk_cr'
  | 'chunk_lf'
  | 'trailer'
  | 'to_end'
  | 'dead';

/** What `read` stopped for: nothing (all bytes are taken), a whole head, a whole message, or for good. */
export type Http1Event = 'none' | 'head' | 'message' | 'malformed' | 'limit';

/** One direction of a connection: a head, its body, the next head. The owner says after each head how its body is framed. */
export class Http1Direction {
  readonly head: Http1Head;
  phase: Http1Phase = 'head';
  event: Http1Event = 'none';
  /** Bytes of the message under way, interim heads included. */
  bytes = 0;
  /** Bytes of its body, or of its chunk, that are yet to come. */
  left = 0;
  #digits = 0;
  #extensionBytes = 0;

  constructor(isRequest: boolean, options: L7Options) {
    this.head = new Http1Head(isRequest, options);
  }

  /** Bytes that need not be shown. */
  get skippable(): number {
    // Most calls find a head to come.
    if (this.phase === 'head') return 0;
    switch (this.phase) {
      case 'length':
      case 'chunk':
        return this.left;
      case 'to_end':
        // Not Infinity: the end of the connection is still of interest.
        return Number.MAX_SAFE_INTEGER;
      case 'dead':
        return Number.POSITIVE_INFINITY;
      case 'size':
      case 'extension':
      case 'size_lf':
      case 'chunk_cr':
      case 'chunk_lf':
      case 'trailer':
        return 0;
    }
  }

  /** After `message`, or an interim head that is forgotten: the next message begins. */
  beginMessage(): void {
    this.phase = 'head';
    this.bytes = 0;
    this.head.begin();
  }

  /** After an interim response (1xx): another head belongs to the same message. */
  beginFinalHead(): void {
    this.phase = 'head';
    this.head.begin();
  }

  /** After `head`: a body of `bytes`; false when it has none, which ends the message at once. */
  beginLength(bytes: number): boolean {
    this.left = bytes;
    this.phase = 'length';
    return bytes > 0;
  }

  beginChunks(): void {
    this.phase = 'size';
    this.#beginSize();
  }

  beginToEnd(): void {
    this.phase = 'to_end';
  }

  stop(): void {
    this.phase = 'dead';
  }

  carry(move: Move): void {
    this.head.carry(move);
    this.phase = move.text(this.phase);
    this.bytes = move.number(this.bytes);
    this.left = move.number(this.left);
    this.#digits = move.number(this.#digits);
    this.#extensionBytes = move.number(this.#extensionBytes);
  }

  /** Takes bytes that were not shown, at most `skippable`; `event` may be `message` afterwards. */
  skip(count: number): void {
    this.event = 'none';
    this.bytes += count;
    if (this.phase === 'to_end' || this.phase === 'dead') return;
    this.left -= count;
    this.#bodyTaken();
  }

  /** Reads `bytes[at, end)` until something happened; returns where it stopped. */
  read(bytes: Uint8Array, at: number, end: number): number {
    this.event = 'none';
    let next = at;
    while (next < end && this.event === 'none') {
      const from = next;
      next = this.#step(bytes, from, end);
      this.bytes += next - from;
    }
    return next;
  }

  #step(bytes: Uint8Array, at: number, end: number): number {
    switch (this.phase) {
      case 'head':
        return this.#headStep(bytes, at, end, 'head');
      case 'trailer':
        return this.#headStep(bytes, at, end, 'message');
      case 'length':
      case 'chunk': {
        const taken = Math.min(this.left, end - at);
        this.left -= taken;
        this.#bodyTaken();
        return at + taken;
      }
      case 'to_end':
      case 'dead':
        return end;
      case 'size':
      case 'extension':
      case 'size_lf':
      case 'chunk_cr':
      case 'chunk_lf':
        this.#frameByte(bytes[at] ?? 0);
        return at + 1;
    }
  }

  #headStep(bytes: Uint8Array, at: number, end: number, whole: 'head' | 'message'): number {
    const next = this.head.read(bytes, at, end);
    switch (this.head.state) {
      case 'more':
        break;
      case 'whole':
        this.event = whole;
        break;
      case 'malformed':
      case 'limit':
        this.event = this.head.state;
        break;
    }
    return next;
  }

  #bodyTaken(): void {
    if (this.left > 0) return;
    if (this.phase === 'chunk') this.phase = 'chunk_cr';
    else this.event = 'message';
  }

  #beginSize(): void {
    this.left = 0;
    this.#digits = 0;
    this.#extensionBytes = 0;
  }

  // Chunk framing, byte by byte: it is a few bytes in front of many.
  #frameByte(byte: number): void {
    switch (this.phase) {
      case 'size':
        this.#sizeByte(byte);
        return;
      case 'extension':
        if (byte === CR) this.phase = 'size_lf';
        else if (byte < SP && byte !== TAB) this.event = 'malformed';
        else if (++this.#extensionBytes > MAX_EXTENSION_BYTES) this.event = 'limit';
        return;
      case 'size_lf':
        if (byte !== LF) {
          this.event = 'malformed';
        } else if (this.left > 0) {
          this.phase = 'chunk';
        } else {
          this.phase = 'trailer';
          this.head.beginTrailer();
        }
        return;
      case 'chunk_cr':
        if (byte === CR) this.phase = 'chunk_lf';
        else this.event = 'malformed';
        return;
      case 'chunk_lf':
        if (byte === LF) this.beginChunks();
        else this.event = 'malformed';
        return;
      default:
    }
  }

  #sizeByte(byte: number): void {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      this.left = this.left * 16 + digit;
      // 12 digits are 256 TiB; more is an attempt to overflow somebody.
      if (++this.#digits > 12) this.event = 'malformed';
    } else if (this.#digits === 0) {
      this.event = 'malformed';
    } else if (byte === CR) {
      this.phase = 'size_lf';
    } else if (byte === SEMICOLON || byte === SP || byte === TAB) {
      this.phase = 'extension';
    } else {
      this.event = 'malformed';
    }
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
