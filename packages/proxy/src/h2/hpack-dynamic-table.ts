// The dynamic table of HPACK (RFC 7541 §2.3.2, §4): a ring of strings bounded by bytes, newest entry at index 0.
// Memory is bounded by `capacity`: at most capacity / 32 entries, and that many bytes of names and values together.

const ENTRY_OVERHEAD = 32;

/** Entries a peer's encoder put there; lookups are by age. */
export class DynamicTable {
  #capacity: number;
  #size = 0;
  #count = 0;
  // Index of the newest entry; the ring's length is a power of two, or 0 until the first insertion.
  #newest = 0;
  #names: string[] = [];
  #values: string[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Bytes the table may hold now. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes held, as RFC 7541 §4.1 counts. */
  get size(): number {
    return this.#size;
  }

  get count(): number {
    return this.#count;
  }

  /** `age` 0 is the newest; the caller has compared it with `count`. */
  nameAt(age: number): string {
    return this.#names[(this.#newest + age) & (this.#names.length - 1)] ?? '';
  }

  valueAt(age: number): string {
    return this.#values[(this.#newest + age) & (this.#values.length - 1)] ?? '';
  }

  /** Sets the capacity and evicts what no longer fits. */
  resize(capacity: number): void {
    this.#capacity = capacity;
    while (this.#size > capacity) this.#evict();
  }

  /**
   * Evicts for an entry of `bytes`, overhead included. False when it is larger than the whole table, which is then empty:
   * that is legal and inserts nothing (RFC 7541 §4.4).
   */
  makeRoom(bytes: number): boolean {
    while (this.#count > 0 && this.#size + bytes > this.#capacity) this.#evict();
    return bytes <= this.#capacity;
  }

  /** Adds the newest entry, after `makeRoom` allowed it. */
  insert(name: string, value: string): void {
    if (this.#count === this.#names.length) this.#grow();
    this.#newest = (this.#newest - 1) & (this.#names.length - 1);
    this.#names[this.#newest] = name;
    this.#values[this.#newest] = value;
    this.#count++;
    this.#size += name.length + value.length + ENTRY_OVERHEAD;
  }

  /** Newest first. */
  entries(): [name: string, value: string][] {
    const list: [string, string][] = [];
    for (let age = 0; age < this.#count; age++) list.push([this.nameAt(age), this.valueAt(age)]);
    return list;
  }

  /** Replaces everything by exported data; false when the entries do not fit the capacity. */
  restore(capacity: number, entries: readonly (readonly [string, string])[]): boolean {
    this.resize(0);
    this.#capacity = capacity;
    for (const [name, value] of entries.toReversed()) {
      if (this.#size + name.length + value.length + ENTRY_OVERHEAD > capacity) return false;
      this.insert(name, value);
    }
    return true;
  }

  #evict(): void {
    const oldest = (this.#newest + this.#count - 1) & (this.#names.length - 1);
    this.#size -= (this.#names[oldest] ?? '').length + (this.#values[oldest] ?? '').length + ENTRY_OVERHEAD;
    // Released at once: the ring must not keep evicted strings alive.
    this.#names[oldest] = '';
    this.#values[oldest] = '';
    this.#count--;
  }

  #grow(): void {
    const names: string[] = [];
    const values: string[] = [];
    for (let age = 0; age < this.#count; age++) {
      names.push(this.nameAt(age));
      values.push(this.valueAt(age));
    }
    const length = Math.max(8, this.#count * 2);
    while (names.length < length) {
      names.push('');
      values.push('');
    }
    this.#names = names;
    this.#values = values;
    this.#newest = 0;
  }
}
