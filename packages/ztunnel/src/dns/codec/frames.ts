// Messages on a TCP connection: two bytes of length, then the message (RFC 1035 4.2.2, RFC 7766). Holds what has not made a
// whole message yet, never more than one message of the allowed length and what came in one read.

const LENGTH_BYTES = 2;

export class FrameSplitter {
  readonly #maxBytes: number;
  #held: Buffer = Buffer.alloc(0);

  /** Messages of up to `maxBytes`, at most 65535. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes that are held. */
  get size(): number {
    return this.#held.length;
  }

  /** More bytes came; they are copied. */
  push(bytes: Buffer): void {
    this.#held = this.#held.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#held, bytes]);
  }

  /** The next whole message, `undefined` when more has to come, or `too_large`: nothing sensible follows then. */
  next(): Buffer | 'too_large' | undefined {
    const held = this.#held;
    if (held.length < LENGTH_BYTES) return undefined;
    const length = held.readUInt16BE(0);
    if (length > this.#maxBytes) return 'too_large';
    if (held.length < LENGTH_BYTES + length) return undefined;
    this.#held = held.subarray(LENGTH_BYTES + length);
    return held.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
  }
}
