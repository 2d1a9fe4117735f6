// Protocol Buffers' wire format, as much as profiles need of it: whole numbers that are not negative, text, nested messages
// and packed lists (https://protobuf.dev/programming-guides/encoding). Grows one buffer; nothing is measured twice.

const LENGTH_DELIMITED = 2;

export class ProtoWriter {
  #bytes = Buffer.allocUnsafe(1024);
  #length = 0;

  /** Zero is written too: readers treat it as absent, and lists need it. */
  number(field: number, value: number): void {
    this.#varint(field * 8);
    this.#varint(value);
  }

  /** From 0 to 2^64. */
  bigNumber(field: number, value: bigint): void {
    this.#varint(field * 8);
    this.#reserve(10);
    let rest = value;
    for (; rest >= 128n; rest >>= 7n) this.#bytes[this.#length++] = Number(rest & 127n) + 128;
    this.#bytes[this.#length++] = Number(rest);
  }

  text(field: number, value: string): void {
    this.bytes(field, Buffer.from(value));
  }

  message(field: number, message: ProtoWriter): void {
    this.bytes(field, message.finish());
  }

  numbers(field: number, values: readonly number[]): void {
    const list = new ProtoWriter();
    for (const value of values) list.#varint(value);
    this.message(field, list);
  }

  bytes(field: number, value: Uint8Array): void {
    this.#varint(field * 8 + LENGTH_DELIMITED);
    this.#varint(value.length);
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  /** A view of what was written; valid until the next write. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`${value} is not a whole number from 0 to 2^53`);
    this.#reserve(8);
    let rest = value;
    // Not by shifts, which cut to 32 bits.
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) + 128;
    this.#bytes[this.#length++] = rest;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes));
    larger.set(this.finish());
    this.#bytes = larger;
  }
}
