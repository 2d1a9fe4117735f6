// Cuts a stream of bytes into gRPC messages (one byte of flags, four of length, the message). Holds at most twice the bytes
// that came of one message, however small the pieces were; a compressed message is refused, since we offer no compression.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md ("Length-Prefixed-Message")
import { GrpcError } from './status.ts';

export const PREFIX_BYTES = 5;

const FIRST_BYTES = 512;
const NOTHING = Buffer.alloc(0);

export class MessageReader {
  readonly #maxBytes: number;
  /** A copy of what has come of a message that is not whole yet, and how much of it is used. */
  #held = NOTHING;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether the stream stopped inside a message. */
  get isMidMessage(): boolean {
    return this.#bytes > 0;
  }

  /**
   * Takes bytes, gives the messages they complete. A message may be a view of `chunk`; nothing of it is kept.
   * @throws GrpcError resource_exhausted for a message that is too long, as soon as its length is known; unimplemented for
   * a compressed one
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
    if (bytes.readUInt8(0) !== 0) throw new GrpcError('unimplemented', 'compressed messages are not supported');
    const length = bytes.readUInt32BE(1);
    if (length <= this.#maxBytes) return PREFIX_BYTES + length;
    throw new GrpcError('resource_exhausted', `a message of ${length} bytes, ${this.#maxBytes} are allowed`);
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
