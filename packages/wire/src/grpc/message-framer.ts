// gRPC's length-prefixed messages (grpc/doc/PROTOCOL-HTTP2.md): bytes in, whole messages out. Holds at most one message
// of the given limit; each byte is copied once however small the pieces. Compression was not offered, so none is accepted.
import { CallError } from './call-error.ts';

const PREFIX_BYTES = 5;

export class MessageFramer {
  readonly #maxBytes: number;
  #chunks: Uint8Array[] = [];
  #held = 0;
  /** Length of the message under way; undefined while its prefix is. */
  #length: number | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes bytes; then ask `next` until it has nothing. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#held += chunk.length;
  }

  /** The next whole message. @throws grpc.too_long, grpc.protocol */
  next(): Uint8Array | undefined {
    if (this.#length === undefined) {
      if (this.#held < PREFIX_BYTES) return undefined;
      const prefix = this.#take(PREFIX_BYTES);
      const length = new DataView(prefix.buffer, prefix.byteOffset).getUint32(1);
      if (prefix[0] !== 0)
        throw new CallError('grpc.protocol', 'INTERNAL', 'a compressed message, which nobody offered');
      if (length > this.#maxBytes) {
        const message = `a message of ${length} bytes, at most ${this.#maxBytes} are taken`;
        throw new CallError('grpc.too_long', 'RESOURCE_EXHAUSTED', message);
      }
      this.#length = length;
    }
    if (this.#held < this.#length) return undefined;
    const message = this.#take(this.#length);
    this.#length = undefined;
    return message;
  }

  /** Whether the bytes so far end between two messages. */
  get isEmpty(): boolean {
    return this.#held === 0 && this.#length === undefined;
  }

  #take(count: number): Uint8Array {
    const first = this.#chunks[0];
    this.#held -= count;
    if (first !== undefined && first.length > count) {
      this.#chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const taken: Uint8Array[] = [];
    let missing = count;
    let whole = 0;
    for (const chunk of this.#chunks) {
      if (chunk.length > missing) break;
      taken.push(chunk);
      missing -= chunk.length;
      whole++;
    }
    this.#chunks.splice(0, whole);
    const [rest] = this.#chunks;
    if (missing > 0 && rest !== undefined) {
      taken.push(rest.subarray(0, missing));
      this.#chunks[0] = rest.subarray(missing);
    }
    return Buffer.concat(taken);
  }
}

/** A message as it goes out. */
export function frameMessage(message: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX_BYTES);
  return frame;
}
