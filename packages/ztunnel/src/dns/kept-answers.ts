// Answers of resolvers that one pod may use again, byte for byte but for id, letter case of the question and TTLs, which
// count down. Never served at or after the end of the shortest TTL. One pod's own: another pod's resolvers may say something
// else, and what it asked is its business. Bounded in number and bytes, the oldest goes first.
import { HEADER_BYTES } from './codec/numbers.ts';
import { keepingOf } from './codec/response.ts';

interface KeptAnswer {
  readonly bytes: Buffer;
  readonly ttlOffsets: readonly number[];
  readonly sinceMs: number;
  readonly untilMs: number;
}

const MAX_ANSWERS = 512;
const MAX_BYTES = 256 * 1024;
/** Larger answers are rare and crowd out many small ones. */
const MAX_ANSWER_BYTES = 4096;

export class KeptAnswers {
  readonly #answers = new Map<string, KeptAnswer>();
  #bytes = 0;

  get size(): number {
    return this.#answers.size;
  }

  /** Keeps the answer to the query of that key, if it may be kept. The bytes are copied. */
  keep(key: string, bytes: Buffer, length: number, nowMs: number): void {
    if (length > MAX_ANSWER_BYTES) return;
    const keeping = keepingOf(bytes, length);
    if (keeping === undefined) return;
    this.#drop(key);
    const { seconds, ttlOffsets } = keeping;
    // Memory of its own: of the shared pool each kept answer could hold 8 KiB back that nothing counts.
    const copy = Buffer.allocUnsafeSlow(length);
    bytes.copy(copy, 0, 0, length);
    this.#answers.set(key, { bytes: copy, ttlOffsets, sinceMs: nowMs, untilMs: nowMs + seconds * 1000 });
    this.#bytes += length + key.length;
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= MAX_ANSWERS && this.#bytes <= MAX_BYTES) break;
      this.#drop(oldest);
    }
  }

  /**
   * Writes the answer to `query`, whose key this is, to the beginning of `out`. @returns its length, or 0 when there is none
   */
  write(key: string, out: Buffer, query: Buffer, at: number, questionEnd: number, nowMs: number): number {
    const kept = this.#answers.get(key);
    if (kept === undefined) return 0;
    if (nowMs >= kept.untilMs) {
      this.#drop(key);
      return 0;
    }
    const { bytes, ttlOffsets } = kept;
    bytes.copy(out, 0);
    query.copy(out, 0, at, at + 2);
    query.copy(out, HEADER_BYTES, at + HEADER_BYTES, at + questionEnd);
    const age = Math.floor((nowMs - kept.sinceMs) / 1000);
    if (age > 0)
      for (const offset of ttlOffsets) out.writeUInt32BE(Math.max(0, out.readUInt32BE(offset) - age), offset);
    return bytes.length;
  }

  /** The resolvers changed: what others said no longer counts. */
  clear(): void {
    this.#answers.clear();
    this.#bytes = 0;
  }

  #drop(key: string): void {
    const kept = this.#answers.get(key);
    if (kept === undefined) return;
    this.#answers.delete(key);
    this.#bytes -= kept.bytes.length + key.length;
  }
}
