// Which word a prepared statement begins with, by its name or number. A few places only: a statement that is forgotten is
// merely reported by a vaguer name.
import type { Move } from './moving.ts';

const PLACES = 32;

export class PreparedStatements {
  // Made with the first statement: most connections prepare none.
  #keys: Uint32Array | undefined;
  #words: Uint8Array | undefined;

  set(key: number, word: number): void {
    this.#keys ??= new Uint32Array(PLACES);
    this.#words ??= new Uint8Array(PLACES);
    this.#keys[key & (PLACES - 1)] = key;
    this.#words[key & (PLACES - 1)] = word;
  }

  carry(move: Move): void {
    if (!move.flag(this.#keys !== undefined)) return;
    this.#keys ??= new Uint32Array(PLACES);
    this.#words ??= new Uint8Array(PLACES);
    for (let place = 0; place < PLACES; place++) {
      this.#keys[place] = move.number(this.#keys[place] ?? 0);
      this.#words[place] = move.number(this.#words[place] ?? 0);
    }
  }

  /** 0 when it is not known. */
  get(key: number): number {
    const place = key & (PLACES - 1);
    return this.#keys?.[place] === key >>> 0 ? (this.#words?.[place] ?? 0) : 0;
  }
}

/** A key for a name (FNV-1a). Two names with the same one are told by each other's word: 1 in 2^32. */
export function keyOfName(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c_9dc5;
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x0100_0193);
  return hash >>> 0;
}
