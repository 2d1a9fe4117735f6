// Which names cannot be the mesh's, told to data workers in shared memory: those need not be asked of the main thread. Made of
// the first labels of all host names (and what follows `*.`), since whatever a name may stand for in the mesh begins with one
// of its own labels. A Bloom filter: it says `maybe` for some names that are foreign, and never `foreign` for one that is not.
// Labels are only ever added to one; when many were, or a wildcard changed, another is made and sent.
import { lowerCase } from './codec/names.ts';
import { HEADER_BYTES } from './codec/numbers.ts';

/** Bits for each label; with three of them set one label in a few hundred is taken for another. */
const BITS_PER_LABEL = 16;
const LEAST_BITS = 1 << 13;
const MOST_BITS = 1 << 21;
const HASHES = 3;
const WILDCARD = '*.';

/** The main thread's side. */
export class MeshLabels {
  readonly bits: SharedArrayBuffer;
  readonly #words: Int32Array;
  #room: number;

  /**
   * @param hosts host names of all services @param clusterDomain what short names are completed with: of a wildcard that
   *   covers it, or something in it, every name may be
   */
  constructor(hosts: Iterable<string>, clusterDomain: string) {
    const labels = new Set<string>();
    let isEvery = false;
    for (const host of hosts) {
      const name = host.toLowerCase();
      const suffix = name.startsWith(WILDCARD) ? name.slice(WILDCARD.length) : undefined;
      if (suffix !== undefined && (isWithin(suffix, clusterDomain) || isWithin(clusterDomain, suffix))) isEvery = true;
      labels.add((suffix ?? name).split('.', 1)[0] ?? '');
    }
    let size = LEAST_BITS;
    while (size < MOST_BITS && size < labels.size * 2 * BITS_PER_LABEL) size *= 2;
    this.bits = new SharedArrayBuffer(size / 8);
    this.#words = new Int32Array(this.bits);
    this.#room = Math.max(labels.size, size / BITS_PER_LABEL - labels.size);
    if (isEvery) this.#words.fill(-1);
    for (const label of labels) this.#set(label);
  }

  /** Another service begins with this label. False when there were so many that another filter should be made. */
  add(label: string): boolean {
    this.#set(label);
    return --this.#room > 0;
  }

  #set(label: string): void {
    const bytes = Buffer.from(label, 'latin1');
    let bit = hashOf(bytes, 0, bytes.length);
    const step = stepOf(bit);
    for (let turn = 0; turn < HASHES; turn++) {
      const at = bit & (this.#words.length * 32 - 1);
      Atomics.or(this.#words, at >>> 5, 1 << (at & 31));
      bit = (bit + step) | 0;
    }
  }
}

/** A data worker's side. */
export class LabelFilter {
  readonly #words: Int32Array;

  constructor(bits: SharedArrayBuffer) {
    this.#words = new Int32Array(bits);
  }

  /** Whether the mesh has nothing to say to the name of the question; `message` has been read, so the name is whole. */
  isForeign(message: Uint8Array, at: number): boolean {
    let next = at + HEADER_BYTES;
    for (let length = message[next] ?? 0; length > 0; length = message[next] ?? 0) {
      if (this.#has(hashOf(message, next + 1, length))) return false;
      next += 1 + length;
    }
    return true;
  }

  #has(hash: number): boolean {
    const words = this.#words;
    const step = stepOf(hash);
    let bit = hash;
    for (let turn = 0; turn < HASHES; turn++) {
      const at = bit & (words.length * 32 - 1);
      if (((words[at >>> 5] ?? 0) & (1 << (at & 31))) === 0) return false;
      bit = (bit + step) | 0;
    }
    return true;
  }
}

/** FNV-1a of the letters in lower case, stirred, since its low bits alone are poor. */
function hashOf(bytes: Uint8Array, at: number, length: number): number {
  let hash = 0x811c9dc5 | 0;
  for (let index = at; index < at + length; index++) {
    hash = Math.imul(hash ^ lowerCase(bytes[index] ?? 0), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}

/** A second hash from the first; odd, so that it leads everywhere. */
function stepOf(hash: number): number {
  return Math.imul(hash, 0xc2b2ae35) | 1;
}

function isWithin(name: string, domain: string): boolean {
  return name === domain || name.endsWith(`.${domain}`);
}
