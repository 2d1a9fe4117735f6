// Cuts a stream of bytes into gRPC messages (one byte of flags, four of length, the message). Never holds more than one
// message of the allowed length; a compressed message is refused, since we offer no compression.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md ("Length-Prefixed-Message")
import { GrpcError } from './status.ts';

export const PREFIX_BYTES = 5;

export class MessageReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether the stream stopped inside a message. */
  get isMidMessage(): boolean {
    return this.#bytes > 0;
  }

  /**
   * Takes bytes, gives the messages they complete.
   * @throws GrpcError resource_exhausted for a message that is too long, as soon as its length is known; unimplemented for
   * a compressed one
   */
  *push(chunk: Buffer): Generator<Buffer> {
    const [first] = this.#chunks;
    // The first chunk always holds the whole prefix, if the prefix is here: then it is read without joining anything.
    if (first !== undefined && first.length < PREFIX_BYTES) this.#chunks = [Buffer.concat([first, chunk])];
    else this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= PREFIX_BYTES) {
      const prefix = this.#chunks[0] ?? chunk;
      if (prefix.readUInt8(0) !== 0) throw new GrpcError('unimplemented', 'compressed messages are not supported');
      const length = prefix.readUInt32BE(1);
      if (length > this.#maxBytes) {
        throw new GrpcError('resource_exhausted', `a message of ${length} bytes, ${this.#maxBytes} are allowed`);
      }
      const end = PREFIX_BYTES + length;
      if (this.#bytes < end) return;
      const whole = this.#chunks.length === 1 ? prefix : Buffer.concat(this.#chunks);
      this.#bytes -= end;
      this.#chunks = this.#bytes === 0 ? [] : [whole.subarray(end)];
      yield whole.subarray(PREFIX_BYTES, end);
    }
  }
}
