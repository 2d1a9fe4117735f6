// Reader of the handshake messages that may come after the handshake (RFC 8446 section 4.6): NewSessionTicket is skipped
// without being stored, however it is fragmented; KeyUpdate is reported; everything else is refused. Keeps at most four
// header bytes and a count between records.
import { NativeError } from './errors.ts';
import { RecordFault, type TlsRole } from './records.ts';

const MessageType = { new_session_ticket: 4, key_update: 24 } as const;
const HEADER_BYTES = 4;
/** lifetime, age_add, nonce<0..255>, ticket<1..65535>, extensions<0..65534> */
const MAX_TICKET_BYTES = 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534;

/** Nothing to do; the peer updated its key; the peer updated its key and asks for ours. */
export const PostHandshakeResult = { NONE: 0, UPDATED: 1, UPDATED_AND_ASKED: 2 } as const;

export class PostHandshake {
  readonly #role: TlsRole;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerLength = 0;
  /** Body bytes of the present message still to come; meaningful once the header is whole. */
  #remaining = 0;

  /** Continues after `header` (0..4 bytes) and `remaining`; both empty at the start. @throws native.argument */
  constructor(role: TlsRole, header: Uint8Array, remaining: number) {
    const isStart = header.length < HEADER_BYTES && remaining === 0;
    const isMiddle = header.length === HEADER_BYTES && remaining > 0 && remaining <= MAX_TICKET_BYTES;
    if (!(isStart || isMiddle) || !Number.isInteger(remaining)) {
      throw new NativeError('native.argument', 'record state: partial message');
    }
    this.#role = role;
    this.#header.set(header);
    this.#headerLength = header.length;
    this.#remaining = remaining;
  }

  /** A message has begun and not ended; no other type of record may come now (RFC 8446 section 5.1). */
  get isPartial(): boolean {
    return this.#headerLength > 0;
  }

  get remaining(): number {
    return this.#remaining;
  }

  copyHeader(): Uint8Array {
    return Uint8Array.from(this.#header.subarray(0, this.#headerLength));
  }

  /** Reads one record's content. Returns a PostHandshakeResult or a negated RecordFault. */
  read(bytes: Buffer, start: number, length: number): number {
    const end = start + length;
    let at = start;
    while (at < end) {
      if (this.#headerLength < HEADER_BYTES) {
        this.#header[this.#headerLength++] = bytes[at++] ?? 0;
        if (this.#headerLength < HEADER_BYTES) continue;
        this.#remaining = this.#header.readUIntBE(1, 3);
        const fault = this.#checkHeader();
        if (fault !== 0) return -fault;
        continue;
      }
      if (this.#header[0] === MessageType.key_update) {
        const request = bytes[at++] ?? 0;
        if (request > 1) return -RecordFault.ILLEGAL_PARAMETER;
        // The next byte would be under the next key: the message must end its record (RFC 8446 section 5.1).
        if (at !== end) return -RecordFault.UNEXPECTED_MESSAGE;
        this.#finish();
        return request === 1 ? PostHandshakeResult.UPDATED_AND_ASKED : PostHandshakeResult.UPDATED;
      }
      const skipped = Math.min(this.#remaining, end - at);
      at += skipped;
      this.#remaining -= skipped;
      if (this.#remaining === 0) this.#finish();
    }
    return PostHandshakeResult.NONE;
  }

  #checkHeader(): RecordFault | 0 {
    switch (this.#header[0]) {
      case MessageType.key_update:
        return this.#remaining === 1 ? 0 : RecordFault.DECODE_ERROR;
      case MessageType.new_session_ticket:
        if (this.#role === 'server') return RecordFault.UNEXPECTED_MESSAGE;
        return this.#remaining > 0 && this.#remaining <= MAX_TICKET_BYTES ? 0 : RecordFault.DECODE_ERROR;
      default:
        return RecordFault.UNEXPECTED_MESSAGE;
    }
  }

  #finish(): void {
    this.#headerLength = 0;
    this.#remaining = 0;
    this.#header.fill(0);
  }
}
