// The requests of one connection that wait for their answers, oldest first, as numbers in typed arrays: 14 bytes each
// (18 with ids), none while the connection is idle for long. Says no when it is full; the owner gives up then.
import type { Move } from './moving.ts';

// An empty array costs 200 bytes as well, so that connections share theirs.
const NO_STARTS = new Float64Array(0);
const NO_NUMBERS = new Uint32Array(0);
const NO_LETTERS = new Uint8Array(0);
const NO_IDS = new Int32Array(0);
const FIRST_ROOM = 4;
const MOST_BYTES = 0xffff_ffff;
// With more room than this, an empty queue gives it back.
const ROOM_TO_KEEP = 32;

/** A queue whose entries are named by their distance from the oldest; ask only for those that are there. */
export class PendingRequests {
  readonly #most: number;
  #starts = NO_STARTS;
  #bytes = NO_NUMBERS;
  #words = NO_LETTERS;
  #kinds = NO_LETTERS;
  #ids: Int32Array | undefined;
  #head = 0;
  #length = 0;

  /** @param most entries it holds; `withIds` makes room for a 32-bit number with each */
  constructor(most: number, withIds = false) {
    this.#most = most;
    if (withIds) this.#ids = NO_IDS;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Adds the newest. `bytes` on the wire stop at 2^32 - 1. `word` is its name as the owner numbers names, `kind` whatever
   * the owner needs to know to read the answer; both at most 255.
   * @returns whether there was room
   */
  push(startMs: number, bytes: number, word: number, kind: number, id = 0): boolean {
    if (this.#length === this.#starts.length) {
      if (this.#length >= this.#most) return false;
      this.#resize(Math.min(this.#most, Math.max(FIRST_ROOM, 2 * this.#length)));
    }
    const slot = this.#slot(this.#length++);
    this.#starts[slot] = startMs;
    this.#bytes[slot] = Math.min(bytes, MOST_BYTES);
    this.#words[slot] = word;
    this.#kinds[slot] = kind;
    if (this.#ids !== undefined) this.#ids[slot] = id;
    return true;
  }

  /** Removes the oldest; nothing when there is none. */
  shift(): void {
    if (this.#length === 0) return;
    this.#head = this.#head + 1 === this.#starts.length ? 0 : this.#head + 1;
    if (--this.#length === 0 && this.#starts.length > ROOM_TO_KEEP) this.#resize(0);
  }

  /** Removes the newest; nothing when there is none. */
  pop(): void {
    if (this.#length > 0) this.#length--;
  }

  startMs(at: number): number {
    return this.#starts[this.#slot(at)] ?? 0;
  }

  bytes(at: number): number {
    return this.#bytes[this.#slot(at)] ?? 0;
  }

  word(at: number): number {
    return this.#words[this.#slot(at)] ?? 0;
  }

  kind(at: number): number {
    return this.#kinds[this.#slot(at)] ?? 0;
  }

  id(at: number): number {
    return this.#ids?.[this.#slot(at)] ?? 0;
  }

  setWord(at: number, word: number): void {
    this.#words[this.#slot(at)] = word;
  }

  setKind(at: number, kind: number): void {
    this.#kinds[this.#slot(at)] = kind;
  }

  addBytes(at: number, bytes: number): void {
    const slot = this.#slot(at);
    this.#bytes[slot] = Math.min((this.#bytes[slot] ?? 0) + bytes, MOST_BYTES);
  }

  carry(move: Move): void {
    const length = move.number(this.#length);
    for (let at = 0; at < length; at++) {
      const startMs = move.time(this.startMs(at));
      const bytes = move.number(this.bytes(at));
      const word = move.number(this.word(at));
      const kind = move.number(this.kind(at));
      const id = move.number(this.id(at));
      if (move.isUnpacking) this.push(startMs, bytes, word, kind, id);
    }
  }

  /** Bytes that it holds just now; for tests of the bound. */
  get heldBytes(): number {
    return this.#starts.length * (this.#ids === undefined ? 14 : 18);
  }

  #slot(at: number): number {
    const slot = this.#head + at;
    return slot < this.#starts.length ? slot : slot - this.#starts.length;
  }

  #resize(room: number): void {
    if (room === 0) {
      this.#starts = NO_STARTS;
      this.#bytes = NO_NUMBERS;
      this.#words = NO_LETTERS;
      this.#kinds = NO_LETTERS;
      if (this.#ids !== undefined) this.#ids = NO_IDS;
      this.#head = 0;
      return;
    }
    const starts = new Float64Array(room);
    const bytes = new Uint32Array(room);
    const words = new Uint8Array(room);
    const kinds = new Uint8Array(room);
    const ids = this.#ids === undefined ? undefined : new Int32Array(room);
    for (let at = 0; at < this.#length; at++) {
      const slot = this.#slot(at);
      starts[at] = this.#starts[slot] ?? 0;
      bytes[at] = this.#bytes[slot] ?? 0;
      words[at] = this.#words[slot] ?? 0;
      kinds[at] = this.#kinds[slot] ?? 0;
      if (ids !== undefined) ids[at] = this.#ids?.[slot] ?? 0;
    }
    this.#starts = starts;
    this.#bytes = bytes;
    this.#words = words;
    this.#kinds = kinds;
    this.#ids = ids;
    this.#head = 0;
  }
}
