// How a reader's state leaves one worker and goes on in another. Each class says once what it is made of, in `carry`; a pass over
// it either packs (notes every value and leaves it) or unpacks (gives back what was noted, in the same order), so the two cannot
// differ. What is packed is plain data that survives structured cloning. It never leaves the program: there are no versions.

/** Largest state that moves; a reader with more is given up. Enough for a full HPACK table of 4 KiB and 256 streams. */
export const MAX_MOVED_BYTES = 16_384;

type Value = number | string | boolean | Uint8Array;

/** State of a reader as plain data. */
export interface Packed {
  readonly values: readonly Value[];
  /** `performance.timeOrigin` of the packing thread: the zero of its times. */
  readonly originMs: number;
}

/** One pass over a state. Every method takes the present value and returns the one to have afterwards. */
export interface Move {
  readonly isUnpacking: boolean;
  number(value: number): number;
  /** A time of the engine's clock, converted to that of the other thread; negative ones mean something else and stay. */
  time(value: number): number;
  flag(value: boolean): boolean;
  /** Of any length; for a closed list of words the type is trusted. */
  text<T extends string>(value: T): T;
  /** A copy with nothing around it. */
  bytes(value: Uint8Array): Uint8Array;
}

export interface Movable {
  carry(move: Move): void;
}

/** Notes values. Past the bound nothing more is kept. */
export class Packing implements Move {
  readonly isUnpacking = false;
  readonly #values: Value[] = [];
  readonly #texts = new Map<string, number>();
  // About what a structured clone of it takes.
  #bytes = 0;

  /** Undefined when it is too large. */
  get packed(): Packed | undefined {
    return this.#bytes > MAX_MOVED_BYTES ? undefined : { values: this.#values, originMs: performance.timeOrigin };
  }

  number(value: number): number {
    const isShort = Number.isInteger(value) && Math.abs(value) < 0x2000_0000;
    this.#note(value, isShort ? 2 + Math.ceil(Math.log2(Math.abs(value) + 1) / 7) : 9);
    return value;
  }

  time(value: number): number {
    this.#note(value, value < 0 ? 2 : 9);
    return value;
  }

  flag(value: boolean): boolean {
    this.#note(value, 1);
    return value;
  }

  text<T extends string>(value: T): T {
    // Many streams ask for the same; a text that was noted before is told by its number.
    const known = this.#texts.get(value);
    if (known === undefined) this.#texts.set(value, this.#texts.size);
    this.#note(known ?? value, known === undefined ? 2 + value.length : 3);
    return value;
  }

  bytes(value: Uint8Array): Uint8Array {
    this.#note(value.slice(), 8 + value.length);
    return value;
  }

  #note(value: Value, bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= MAX_MOVED_BYTES) this.#values.push(value);
  }
}

/** Gives values back. @throws TypeError when they are not those of the same class */
export class Unpacking implements Move {
  readonly isUnpacking = true;
  readonly #values: readonly Value[];
  readonly #texts: string[] = [];
  readonly #shiftMs: number;
  #at = 0;

  constructor({ values, originMs }: Packed) {
    this.#values = values;
    this.#shiftMs = originMs - performance.timeOrigin;
  }

  get isDone(): boolean {
    return this.#at === this.#values.length;
  }

  number(): number {
    const value = this.#values[this.#at++];
    if (typeof value !== 'number') throw this.#mismatch();
    return value;
  }

  time(): number {
    const value = this.number();
    // What began before this thread's clock did is told as if it had begun with it.
    return value < 0 ? value : Math.max(0, value + this.#shiftMs);
  }

  flag(): boolean {
    const value = this.#values[this.#at++];
    if (typeof value !== 'boolean') throw this.#mismatch();
    return value;
  }

  text<T extends string>(): T {
    const noted = this.#values[this.#at++];
    if (typeof noted === 'string') this.#texts.push(noted);
    const value = typeof noted === 'number' ? this.#texts[noted] : noted;
    if (typeof value !== 'string') throw this.#mismatch();
    return value as T; // packed from a field of the same type
  }

  bytes(): Uint8Array {
    const value = this.#values[this.#at++];
    if (!(value instanceof Uint8Array)) throw this.#mismatch();
    return value;
  }

  #mismatch(): TypeError {
    return new TypeError(`invariant: value ${this.#at - 1} of a moved reader is of another kind`);
  }
}

/** `bytes` with room for `room`; nothing when there is nothing in it. */
export function withRoom(bytes: Uint8Array, room: number): Uint8Array {
  const roomy = new Uint8Array(bytes.length === 0 ? 0 : room);
  roomy.set(bytes);
  return roomy;
}
