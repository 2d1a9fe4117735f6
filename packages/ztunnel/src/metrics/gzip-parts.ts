// A gzip stream (RFC 1952) put together from parts that were compressed apart, each by itself: deflate blocks that end on a
// byte and refer to nothing before them. One member, since some readers (curl, browsers) stop after the first. The checksum of
// the whole follows from those of the parts.

export interface GzipPart {
  readonly packed: Uint8Array;
  readonly crc: number;
  /** Bytes before compression. */
  readonly size: number;
}

/** The text repeats itself so much that more effort gains little. */
const LEVEL = 1;
/** Deflate, no name, no time, fastest, Unix. */
const HEAD = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 3);
/** An empty last block. */
const LAST_BLOCK = [3, 0] as const;
/** Longest that a stored block can be is 65 535. */
const STORED_BYTES = 1024;

/** Not empty. */
export function gzipPart(text: Uint8Array): GzipPart {
  // Loaded when somebody scrapes.
  const { constants, crc32, deflateRawSync } = process.getBuiltinModule('node:zlib');
  const packed =
    text.length < STORED_BYTES
      ? stored(text)
      : deflateRawSync(text, { level: LEVEL, finishFlush: constants.Z_SYNC_FLUSH });
  return { packed, crc: crc32(text), size: text.length };
}

/** Setting up to compress costs more than so few bytes do. */
function stored(text: Uint8Array): Uint8Array {
  const block = new Uint8Array(5 + text.length);
  const { length } = text;
  block.set([0, length & 0xff, length >> 8, ~length & 0xff, (~length >> 8) & 0xff]);
  block.set(text, 5);
  return block;
}

export class GzipFrame {
  readonly head: Uint8Array = HEAD;
  #crc = 0;
  #size = 0;

  add({ crc, size }: GzipPart): void {
    this.#crc = joinCrc(this.#crc, crc, size);
    this.#size += size;
  }

  tail(): Uint8Array {
    const tail = Buffer.alloc(LAST_BLOCK.length + 8);
    tail.set(LAST_BLOCK);
    tail.writeUInt32LE(this.#crc >>> 0, LAST_BLOCK.length);
    // Modulo 2^32, as the format has it.
    tail.writeUInt32LE(this.#size % 2 ** 32, LAST_BLOCK.length + 4);
    return tail;
  }
}

/** Several parts, one after the other, as one. */
export function joinParts(parts: readonly GzipPart[]): GzipPart {
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return only;
  let crc = 0;
  let size = 0;
  for (const part of parts) {
    crc = joinCrc(crc, part.crc, part.size);
    size += part.size;
  }
  return { packed: Buffer.concat(parts.map(({ packed }) => packed)), crc, size };
}

/** CRC-32's polynomial with the bits in reverse, as RFC 1952 section 8 counts them. */
const POLYNOMIAL = 0xedb8_8320;
/** x to the 0, in the same order: the one of multiplication. */
const ONE = 0x8000_0000;

/** x to the 2^n, n = 0..31: squares of each other, and after those they begin again. */
const POWERS = powers();

function powers(): readonly number[] {
  const all = [0x4000_0000];
  for (let index = 1; index < 32; index++) all.push(multiply(all[index - 1] ?? 0, all[index - 1] ?? 0));
  return all;
}

/**
 * The checksum of two texts one after the other, from those of each: what stands before `size` more bytes counts times x to
 * the 8 * size, and checksums add up without carry.
 */
export function joinCrc(before: number, after: number, size: number): number {
  let shift = ONE;
  let index = 3; // 8 bits a byte
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) shift = multiply(POWERS[index % 32] ?? 0, shift);
    index++;
  }
  return (multiply(shift, before) ^ after) >>> 0;
}

/** Of polynomials over two elements, modulo CRC-32's. */
function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= factor;
    factor = factor & 1 ? (factor >>> 1) ^ POLYNOMIAL : factor >>> 1;
  }
  return product;
}
