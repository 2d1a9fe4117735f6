// Cuts a stream of bytes into gRPC messages (one byte of flags, four of length, the message). Holds at most twice the bytes
// that came of one message, however small the pieces were; a compressed message is refused, since we offer no compression.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md ("Length-Prefixed-Message")

/** One byte of flags and four of length. */
export const PREFIX_BYTES = 5;

/** Why no message comes of these bytes. */
export type FramingFault =
  | { readonly kind: 'compressed' }
  | { readonly kind: 'too_long'; readonly bytes: number; readonly maxBytes: number };

const FIRST_BYTES = 512;
const NOTHING = Buffer.alloc(0);

export class MessageReader {
  readonly #maxBytes: number;
  /** A copy of what has come of a message that is not whole yet, and how much of it is used. */
  #held = NOTHING;
  #bytes = 0;

  readonly #refuse: (fault: FramingFault) => Error;

  /** `refuse` makes what is thrown of a fault: each end of a call has errors of its own. */
  constructor(maxBytes: number, refuse: (fault: FramingFault) => Error) {
    this.#maxBytes = maxBytes;
    this.#refuse = refuse;
  }

  /** Whether the stream stopped inside a message. */
  get isMidMessage(): boolean {
    return this.#bytes > 0;
  }

  /**
   * Takes bytes, gives the messages they complete. A message may be a view of `chunk`; nothing of it is kept.
   * @throws what `refuse` makes of a message that is too long, as soon as its length is known, or compressed
   */
  *push(chunk: Buffer): Generator<Buffer> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#bytes === 0) {
        const end = this.#endOf(rest);
        if (end !== undefined && end <= rest.length) {
          const whole = rest.subarray(PREFIX_BYTES, end);
          rest = rest.subarray(end);
          yield whole;
          continue;
        }
      }
      rest = this.#hold(rest, PREFIX_BYTES);
      const end = this.#endOf(this.#held.subarray(0, this.#bytes));
      if (end === undefined) return;
      rest = this.#hold(rest, end);
      if (this.#bytes < end) return;
      const whole = this.#held.subarray(PREFIX_BYTES, end);
      [this.#held, this.#bytes] = [NOTHING, 0];
      yield whole;
    }
  }

  /** Where the message that `bytes` begins with ends; undefined while its prefix is not whole. */
  #endOf(bytes: Buffer): number | undefined {
    if (bytes.length < PREFIX_BYTES) return undefined;
    if (bytes.readUInt8(0) !== 0) throw this.#refuse({ kind: 'compressed' });
    const length = bytes.readUInt32BE(1);
    if (length <= this.#maxBytes) return PREFIX_BYTES + length;
    throw this.#refuse({ kind: 'too_long', bytes: length, maxBytes: this.#maxBytes });
  }

  /**
   * Copies bytes until `end` are held; returns what is left. Copied, because a chunk kept costs a hundred bytes and the
   * block that it was read into, were it of one byte; and into a space that doubles, for a length is easily claimed.
   */
  #hold(chunk: Buffer, end: number): Buffer {
    const count = Math.max(0, Math.min(chunk.length, end - this.#bytes));
    const needed = this.#bytes + count;
    if (needed > this.#held.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, FIRST_BYTES, Math.min(end, 2 * this.#held.length)));
      larger.set(this.#held.subarray(0, this.#bytes));
      this.#held = larger;
    }
    this.#held.set(chunk.subarray(0, count), this.#bytes);
    this.#bytes = needed;
    return chunk.subarray(count);
  }
}

/** What goes out before a message of this length. */
export function messagePrefix(bytes: number): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(bytes, 1);
  return prefix;
}
