// Text as bytes, written straight into memory that is used again and again: to join strings first takes twice the time, and
// so does fresh memory for each piece.

/** Most that UTF-8 needs for one unit of a string. */
const BYTES_PER_UNIT = 3;
const NEWLINE = 0x0a;
const DIGIT_ZERO = 0x30;
/** Below it integers fit the engine's fast arithmetic. */
const MAX_SMALL = 2 ** 30;

export class Piece {
  #bytes: Buffer;
  #used = 0;

  constructor(size: number) {
    this.#bytes = Buffer.allocUnsafeSlow(size);
  }

  get isEmpty(): boolean {
    return this.#used === 0;
  }

  hasRoom(bytes: number): boolean {
    return this.#used + bytes <= this.#bytes.length;
  }

  put(text: string): void {
    this.#used += this.#bytes.write(text, this.#used);
  }

  putBytes(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  /** For a few bytes: a loop costs less than a call into the engine. */
  putShort(bytes: Uint8Array): void {
    const target = this.#bytes;
    let at = this.#used;
    for (let index = 0; index < bytes.length; index++) target[at++] = bytes[index] ?? 0;
    this.#used = at;
  }

  /** The number and the end of its line. */
  putNumber(value: number): void {
    if (value >= 0 && value < MAX_SMALL && Number.isInteger(value)) this.#putSmall(value | 0);
    else this.put(formatNumber(value));
    this.#bytes[this.#used++] = NEWLINE;
  }

  #putSmall(value: number): void {
    const target = this.#bytes;
    let end = this.#used + 1;
    for (let limit = 10; limit <= value; limit *= 10) end++;
    this.#used = end;
    let rest = value;
    do {
      const next = (rest / 10) | 0;
      target[--end] = DIGIT_ZERO + rest - next * 10;
      rest = next;
    } while (rest > 0);
  }

  /** What was put; good until the next `put`. */
  take(): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#used);
    this.#used = 0;
    return bytes;
  }

  /** Room for so much in an empty piece. */
  grow(bytes: number): void {
    if (!this.hasRoom(bytes)) this.#bytes = Buffer.allocUnsafeSlow(bytes);
  }
}

/** Most bytes of a string. */
export function mostBytes(text: string): number {
  return text.length * BYTES_PER_UNIT;
}

function formatNumber(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
