// Code while it is written: bytes, the labels among them, and the places that wait for an address. Addresses are filled in
// when everything has its place, which is why no instruction's length may depend on one.

/** Writes `address` into the instruction at `at`, whose own address is `here`. */
export type Fill = (bytes: DataView, at: number, address: number, here: number) => void;

interface Open {
  readonly at: number;
  readonly label: string;
  readonly plus: number;
  readonly fill: Fill;
}

export class CodeBuffer {
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #open: Open[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  put(...bytes: readonly number[]): void {
    this.#bytes.push(...bytes);
  }

  /** Least significant byte first, as both processors have it. */
  put32(value: number): void {
    this.put(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff);
  }

  label(name: string): void {
    if (this.#labels.has(name)) throw new Error(`label ${name} stands twice`);
    this.#labels.set(name, this.#bytes.length);
  }

  /** The next instruction waits for the address of a label. */
  await(label: string, plus: number, fill: Fill): void {
    this.#open.push({ at: this.#bytes.length, label, plus, fill });
  }

  /** @param address where the first byte will be  @param others addresses of labels elsewhere */
  link(address: number, others: ReadonlyMap<string, number>): Uint8Array<ArrayBuffer> {
    const bytes = Uint8Array.from(this.#bytes);
    const view = new DataView(bytes.buffer);
    for (const { at, label, plus, fill } of this.#open) {
      const own = this.#labels.get(label);
      const target = own === undefined ? others.get(label) : address + own;
      if (target === undefined) throw new Error(`label ${label} stands nowhere`);
      fill(view, at, target + plus, address + at);
    }
    return bytes;
  }
}
