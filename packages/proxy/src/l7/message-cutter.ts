// Cuts one direction of a connection into messages that say their own length. Shows only the first bytes of each, in place
// where it can; the rest goes by unseen. Gives the same messages however the bytes arrive.
import type { SideReader } from './command-reader.ts';
import { type Move, withRoom } from './moving.ts';

export type MessageSide = 'client' | 'server';

/** Gets the messages of both directions. It may call `stop` of the cutter at any time. */
export interface MessageSink {
  /**
   * Whole length of a message by its header (as many bytes as the cutter was told to wait for), header included;
   * 0: there can be no such message, and the sink has said so to whom it concerns.
   */
  messageBytes(side: MessageSide, bytes: Uint8Array, at: number): number;
  /** Once a message: its first bytes, from `at` to `end`, all of them when it is short enough. `startMs`: its first byte. */
  onMessage(side: MessageSide, bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void;
  /** Its last byte has gone by. */
  onMessageEnd(side: MessageSide, nowMs: number): void;
}

const NOTHING = new Uint8Array(0);

export class MessageCutter implements SideReader {
  readonly #side: MessageSide;
  readonly #sink: MessageSink;
  readonly #headerBytes: number;
  readonly #shownBytes: number;
  // Start of a message that arrives in pieces.
  #held: Uint8Array = NOTHING;
  #heldBytes = 0;
  #startMs = 0;
  // Whole length of the message in `#held`; 0 while its header is not whole.
  #length = 0;
  #rest = 0;
  #isStopped = false;

  /** @param shownBytes how much of a message the sink sees, at least `headerBytes` */
  constructor(side: MessageSide, sink: MessageSink, headerBytes: number, shownBytes: number) {
    this.#side = side;
    this.#sink = sink;
    this.#headerBytes = headerBytes;
    this.#shownBytes = shownBytes;
  }

  get rest(): number {
    return this.#rest;
  }

  push(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    let at = start;
    while (at < end && !this.#isStopped) {
      if (this.#rest > 0) {
        const step = Math.min(this.#rest, end - at);
        at += step;
        this.skip(step, nowMs);
      } else if (this.#heldBytes > 0 || end - at < this.#headerBytes) {
        at = this.#collect(bytes, at, end, nowMs);
      } else {
        const length = this.#sink.messageBytes(this.#side, bytes, at);
        if (length === 0) return this.stop();
        const shown = Math.min(length, this.#shownBytes);
        if (end - at < shown) {
          at = this.#collect(bytes, at, end, nowMs);
        } else {
          this.#show(bytes, at, at + shown, length, nowMs, nowMs);
          at += shown;
        }
      }
    }
  }

  skip(bytes: number, nowMs: number): void {
    if (bytes === 0) return;
    this.#rest -= bytes;
    if (this.#rest === 0) this.#sink.onMessageEnd(this.#side, nowMs);
  }

  stop(): void {
    this.#isStopped = true;
    this.#rest = Number.POSITIVE_INFINITY;
    this.#held = NOTHING;
  }

  carry(move: Move): void {
    this.#heldBytes = move.number(this.#heldBytes);
    this.#held = withRoom(move.bytes(this.#held.subarray(0, this.#heldBytes)), this.#shownBytes);
    this.#startMs = move.time(this.#startMs);
    this.#length = move.number(this.#length);
    this.#rest = move.number(this.#rest);
    this.#isStopped = move.flag(this.#isStopped);
  }

  #show(bytes: Uint8Array, at: number, end: number, length: number, startMs: number, nowMs: number): void {
    this.#sink.onMessage(this.#side, bytes, at, end, length, startMs);
    if (this.#isStopped) return;
    this.#rest = length - (end - at);
    if (this.#rest === 0) this.#sink.onMessageEnd(this.#side, nowMs);
  }

  #collect(bytes: Uint8Array, start: number, end: number, nowMs: number): number {
    if (this.#heldBytes === 0) {
      this.#startMs = nowMs;
      this.#length = 0;
      if (this.#held.length === 0) this.#held = new Uint8Array(this.#shownBytes);
    }
    const wanted = this.#length === 0 ? this.#headerBytes : Math.min(this.#length, this.#shownBytes);
    const step = Math.min(wanted - this.#heldBytes, end - start);
    for (let i = 0; i < step; i++) this.#held[this.#heldBytes + i] = bytes[start + i] ?? 0;
    this.#heldBytes += step;
    if (this.#heldBytes < wanted) return start + step;
    if (this.#length === 0) {
      this.#length = this.#sink.messageBytes(this.#side, this.#held, 0);
      if (this.#length === 0) {
        this.stop();
        return end;
      }
      if (this.#heldBytes < Math.min(this.#length, this.#shownBytes)) return start + step;
    }
    const shown = this.#heldBytes;
    this.#heldBytes = 0;
    this.#show(this.#held, 0, shown, this.#length, this.#startMs, nowMs);
    return start + step;
  }
}
