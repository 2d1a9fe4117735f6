// A closed list of words that is searched by bytes: what a peer writes becomes one of ours or nothing, so no peer can make
// names of its own choosing appear in reports, and nothing is allocated for a look-up.

/** Word 0 of every list: what is not on it. */
export const OTHER_WORD = 'OTHER';

/** Finds words of ASCII letters, digits and signs whatever their case. */
export class KnownWords {
  readonly #words: readonly string[];
  // Open addressing with linear probing; 0 is an empty slot because word 0 is never looked for.
  readonly #slots: Uint8Array;
  readonly #longest: number;

  /**
   * @param words in upper case, without repetition, at most 254
   * @throws RangeError when there are more than that
   */
  constructor(words: readonly string[]) {
    if (words.length > 254) throw new RangeError(`${words.length} words do not fit one byte`);
    this.#words = [OTHER_WORD, ...words];
    this.#slots = new Uint8Array(1024);
    let longest = 0;
    for (const [at, word] of this.#words.entries()) {
      if (at === 0) continue;
      longest = Math.max(longest, word.length);
      let slot = hashText(word) & 1023;
      while (this.#slots[slot] !== 0) slot = (slot + 1) & 1023;
      this.#slots[slot] = at;
    }
    this.#longest = longest;
  }

  /** Number of the word that fills `bytes` from `start` to `end`; 0 when it is not on the list. */
  find(bytes: Uint8Array, start: number, end: number): number {
    if (end <= start || end - start > this.#longest) return 0;
    let slot = hashBytes(bytes, start, end) & 1023;
    for (;;) {
      const at = this.#slots[slot] ?? 0;
      if (at === 0 || isWord(this.#words[at] ?? '', bytes, start, end)) return at;
      slot = (slot + 1) & 1023;
    }
  }

  /** Number of a word in upper case; 0 when it is not on the list. */
  numberOf(word: string): number {
    return Math.max(0, this.#words.indexOf(word));
  }

  /** The word of that number; OTHER for what is no number of a word. */
  word(at: number): string {
    return this.#words[at] ?? OTHER_WORD;
  }
}

// 0xdf makes a lower-case letter an upper-case one. It also folds some signs together, which only costs a comparison.
function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0;
  for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + ((bytes[at] ?? 0) & 0xdf)) | 0;
  return hash ^ (hash >>> 10);
}

function hashText(word: string): number {
  let hash = 0;
  for (let at = 0; at < word.length; at++) hash = (Math.imul(hash, 31) + (word.charCodeAt(at) & 0xdf)) | 0;
  return hash ^ (hash >>> 10);
}

function isWord(word: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (word.length !== end - start) return false;
  for (let at = 0; at < word.length; at++) {
    const byte = bytes[start + at] ?? 0;
    const upper = byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte;
    if (upper !== word.charCodeAt(at)) return false;
  }
  return true;
}
