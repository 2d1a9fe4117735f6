// Counts the length-prefixed messages of one direction of a gRPC call (gRPC over HTTP/2, "Length-Prefixed-Message") in DATA frames
// of any size. Messages are not looked at: their bytes may be skipped.
import type { Move } from './moving.ts';

const PREFIX_BYTES = 5;

export class GrpcMessages {
  /** Messages that have begun: their prefix is whole. */
  count = 0;
  /** How many of them were told. */
  told = 0;
  /** Bytes of the current message that are yet to come. */
  left = 0;
  #prefix = 0;
  #length = 0;

  reset(): void {
    this.count = 0;
    this.told = 0;
    this.left = 0;
    this.#prefix = 0;
    this.#length = 0;
  }

  /** Messages that were not told before; they count as told from now on. */
  takeNews(): number {
    const news = this.count - this.told;
    this.told = this.count;
    return news;
  }

  carry(move: Move): void {
    this.count = move.number(this.count);
    this.told = move.number(this.told);
    this.left = move.number(this.left);
    this.#prefix = move.number(this.#prefix);
    this.#length = move.number(this.#length);
  }

  /** Takes `bytes[start, end)` of the call's data. */
  read(bytes: Uint8Array, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.left > 0) {
        const taken = Math.min(this.left, end - at);
        this.left -= taken;
        at += taken;
        continue;
      }
      // The first byte says whether the message is compressed.
      if (this.#prefix > 0) this.#length = this.#length * 256 + (bytes[at] ?? 0);
      at++;
      if (++this.#prefix < PREFIX_BYTES) continue;
      this.count++;
      this.left = this.#length;
      this.#prefix = 0;
      this.#length = 0;
    }
  }

  /** Takes data that was not shown, at most `left`. */
  skip(bytes: number): void {
    this.left -= bytes;
  }
}

/** Numbers of gRPC status codes have two digits; what is larger or not a number counts as absent. */
export function grpcStatusOf(bytes: Uint8Array, start: number, end: number): number {
  if (end === start || end - start > 2) return -1;
  let status = 0;
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    status = status * 10 + digit;
  }
  return status;
}

const CONTENT_TYPE = 'application/grpc';

/** Whether a content type is gRPC's own: alone, with `+codec`, or with parameters. `grpc-web` has other framing and is not. */
export function isGrpcContentType(bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start;
  if (length < CONTENT_TYPE.length) return false;
  for (let i = 0; i < CONTENT_TYPE.length; i++) if (bytes[start + i] !== CONTENT_TYPE.charCodeAt(i)) return false;
  const next = bytes[start + CONTENT_TYPE.length];
  return length === CONTENT_TYPE.length || next === 0x2b || next === 0x3b;
}
