// For tests: looks for byte strings in all writable memory of this process, so that "wiped" is measured and not believed.
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { bind, pointerTo } from './library.ts';

const MASK = 0x5a;
const MASK_WORD = 0x5a5a5a5a;
const CHUNK_BYTES = 1 << 22;
const PAGE_BYTES = bind<() => number>('int getpagesize()')();
const ENTRIES_PER_READ = 8192;

/** A byte string to look for, kept masked so that the search does not find itself. Wipes what it is given. */
export class Needle {
  readonly masked: Buffer;

  constructor(secret: Uint8Array) {
    this.masked = Buffer.from(new ArrayBuffer(secret.length));
    for (const [i, byte] of secret.entries()) this.masked[i] = byte ^ MASK;
    secret.fill(0);
  }

  /** The lower-case hexadecimal form of the same bytes, as a key log would have it. */
  hex(): Needle {
    const digits = Buffer.from(new ArrayBuffer(this.masked.length * 2));
    for (const [i, byte] of this.masked.entries()) {
      const plain = byte ^ MASK;
      digits[2 * i] = '0123456789abcdef'.charCodeAt(plain >> 4);
      digits[2 * i + 1] = '0123456789abcdef'.charCodeAt(plain & 15);
    }
    return new Needle(digits);
  }
}

/** How often each needle lies in the resident, writable pages of this process, in order. */
export function countInMemory(needles: readonly Needle[]): number[] {
  const counts = needles.map(() => 0);
  const overlap = Math.max(...needles.map(needle => needle.masked.length)) - 1;
  const words = new Uint32Array(CHUNK_BYTES / 4);
  const chunk = Buffer.from(words.buffer);
  const own = pointerTo(chunk);
  const memory = openSync('/proc/self/mem', 'r');
  const pages = openSync('/proc/self/pagemap', 'r');
  try {
    for (const [start, end] of writableRegions()) {
      for (const [from, to] of residentRuns(pages, start, end)) {
        for (let at = from; at < to; ) {
          const got = read(memory, chunk, Math.min(to - at, CHUNK_BYTES), at);
          if (got === 0) break;
          for (let i = 0; i < got / 4; i++) words[i] = (words[i] ?? 0) ^ MASK_WORD;
          const seen = chunk.subarray(0, got);
          for (const [i, needle] of needles.entries()) {
            for (let hit = seen.indexOf(needle.masked); hit >= 0; hit = seen.indexOf(needle.masked, hit + 1)) {
              // Our own window, which at this moment shows other memory a second time.
              const isEcho = at + hit >= own && at + hit < own + CHUNK_BYTES;
              if (!isEcho) counts[i] = (counts[i] ?? 0) + 1;
            }
          }
          seen.fill(0);
          // What straddles two chunks is found in the second one.
          at += at + got < to ? got - overlap : got;
        }
      }
    }
  } finally {
    closeSync(memory);
    closeSync(pages);
  }
  return counts;
}

// Addresses of user space fit 47 bits, so numbers hold them.
function* writableRegions(): Generator<readonly [number, number]> {
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
    if (match !== null) yield [Number(`0x${match[1]}`), Number(`0x${match[2]}`)];
  }
}

// V8 maps half a gigabyte that it hardly touches; pages that are not there hold nothing.
function* residentRuns(pages: number, start: number, end: number): Generator<readonly [number, number]> {
  const entries = Buffer.alloc(ENTRIES_PER_READ * 8);
  let runStart = -1;
  for (let at = start; at < end; ) {
    const wanted = Math.min((end - at) / PAGE_BYTES, ENTRIES_PER_READ);
    const got = Math.floor(read(pages, entries, wanted * 8, (at / PAGE_BYTES) * 8) / 8);
    if (got === 0) break;
    for (let i = 0; i < got; i++, at += PAGE_BYTES) {
      // Bits 63 and 62 of an entry: present, swapped.
      const isResident = ((entries[i * 8 + 7] ?? 0) & 0xc0) !== 0;
      if (isResident && runStart < 0) runStart = at;
      if (!isResident && runStart >= 0) {
        yield [runStart, at];
        runStart = -1;
      }
    }
  }
  if (runStart >= 0) yield [runStart, end];
}

// A region may vanish while we look at it.
function read(file: number, into: Buffer, length: number, at: number): number {
  try {
    return readSync(file, into, 0, length, at);
  } catch {
    return 0;
  }
}
