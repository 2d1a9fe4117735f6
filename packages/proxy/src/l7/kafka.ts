// Reads Apache Kafka passively: one request for each, ended by the answer with its number; Produce requests that want no
// acknowledgement are told at once. An error is told where it stands in a fixed place of the answer: those of topics and
// partitions are not looked for. Bodies are not looked at.
import { CommandReader } from './command-reader.ts';
import {
  apiName,
  errorOffset,
  isKnownApi,
  PRODUCE,
  produceAcks,
  SASL_HANDSHAKE,
  signed16,
  signed32,
} from './kafka-apis.ts';
import { MessageCutter, type MessageSide, type MessageSink } from './message-cutter.ts';
import type { Move } from './moving.ts';
import { PendingRequests } from './pending-requests.ts';
import type { L7Listener } from './types.ts';

const HEADER_BYTES = 4;
// Size, API, version, correlation id; then names before what Produce has to say.
const REQUEST_HEAD_BYTES = 12;
const CLIENT_SHOWN_BYTES = 256;
const SERVER_SHOWN_BYTES = 16;
// With ids an entry has 18 bytes; together with what is shown this keeps within 4 KiB.
const MOST_PENDING = 192;
/** `socket.request.max.bytes` of a broker; answers may be larger, since clients say how much they fetch. */
const MOST_REQUEST_BYTES = 104_857_600;
const MOST_ANSWER_BYTES = 0x7fff_ffff;
const MOST_VERSION = 30;

export class KafkaReader extends CommandReader implements MessageSink {
  protected override readonly client: MessageCutter;
  protected override readonly server: MessageCutter;
  // First byte of a Produce request under way that wants no answer; -1: none is. It is told when it ends.
  #unansweredMs = -1;
  #unansweredBytes = 0;

  constructor(listener: L7Listener) {
    super('kafka', listener, new PendingRequests(MOST_PENDING, true));
    this.client = new MessageCutter('client', this, HEADER_BYTES, CLIENT_SHOWN_BYTES);
    this.server = new MessageCutter('server', this, HEADER_BYTES, SERVER_SHOWN_BYTES);
  }

  protected override nameOf(word: number): string {
    return apiName(word);
  }

  protected override isRequest(): boolean {
    return true;
  }

  messageBytes(side: MessageSide, bytes: Uint8Array, at: number): number {
    const size = signed32(bytes, at);
    const isFit =
      side === 'client'
        ? size >= REQUEST_HEAD_BYTES - 2 && size <= MOST_REQUEST_BYTES
        : size >= 4 && size <= MOST_ANSWER_BYTES;
    if (!isFit) this.giveUp('malformed');
    return isFit ? size + HEADER_BYTES : 0;
  }

  onMessage(side: MessageSide, bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void {
    if (side === 'client') this.#onRequest(bytes, at, end, length, startMs);
    else this.#onAnswer(bytes, at, end, length);
  }

  onMessageEnd(side: MessageSide, nowMs: number): void {
    if (side === 'server') return this.finish(nowMs);
    if (this.#unansweredMs < 0) return;
    this.tell(apiName(PRODUCE), this.#unansweredMs, nowMs, this.#unansweredBytes, 0, undefined, undefined);
    this.#unansweredMs = -1;
  }

  override carry(move: Move): void {
    super.carry(move);
    this.#unansweredMs = move.time(this.#unansweredMs);
    this.#unansweredBytes = move.number(this.#unansweredBytes);
  }

  #onRequest(bytes: Uint8Array, at: number, end: number, length: number, startMs: number): void {
    const key = signed16(bytes, at + 4);
    const version = signed16(bytes, at + 6);
    if (key < 0 || version < 0) return this.giveUp('malformed');
    if (key === PRODUCE) {
      const acks = produceAcks(bytes, at + REQUEST_HEAD_BYTES, end, version);
      // Without it, it is not known whether there will be an answer.
      if (acks === undefined) return this.giveUp('limit');
      if (acks === 0) {
        this.#unansweredMs = startMs;
        this.#unansweredBytes = length;
        return;
      }
    }
    // What follows the first version of it is the mechanism's own talk, without heads.
    if (key === SASL_HANDSHAKE && version === 0) return this.giveUp('upgraded');
    const word = isKnownApi(key) ? key : 255;
    const isQueued = this.pending.push(startMs, length, word, errorOffset(key, version), signed32(bytes, at + 8));
    if (!isQueued) this.giveUp('limit');
  }

  // Brokers answer a connection's requests in their order, so that an answer to any other one means that this reader is lost.
  #onAnswer(bytes: Uint8Array, at: number, end: number, length: number): void {
    const id = signed32(bytes, at + HEADER_BYTES);
    if (this.pending.length === 0 || this.pending.id(0) !== id) return this.giveUp('desynchronized');
    this.responseBytes = length;
    const errorAt = at + HEADER_BYTES + 4 + this.pending.kind(0);
    if (errorAt + 2 > end) return;
    const error = signed16(bytes, errorAt);
    if (error !== 0) this.error = String(error);
  }
}

/**
 * Whether a connection whose first bytes from `side` these are speaks Kafka: a request of a known API with a client's name of
 * printable characters. The client speaks first.
 * @returns 'more' with fewer than 14 bytes that could still be it
 */
export function probeKafka(
  bytes: Uint8Array,
  start: number,
  end: number,
  side: 'client' | 'server',
): 'yes' | 'no' | 'more' {
  if (side === 'server') return 'no';
  const there = end - start;
  if (there >= 1 && (bytes[start] ?? 0) > MOST_REQUEST_BYTES >>> 24) return 'no';
  if (there >= 4) {
    const size = signed32(bytes, start);
    if (size < REQUEST_HEAD_BYTES - 2 || size > MOST_REQUEST_BYTES) return 'no';
  }
  if (there >= 6 && !isKnownApi(signed16(bytes, start + 4) & 0xffff)) return 'no';
  if (there >= 8 && (signed16(bytes, start + 6) & 0xffff) > MOST_VERSION) return 'no';
  if (there < 14) return 'more';
  const nameBytes = signed16(bytes, start + 12);
  if (nameBytes < -1 || nameBytes > 255 || nameBytes + 10 > signed32(bytes, start)) return 'no';
  for (let at = start + 14; at < end && at < start + 14 + nameBytes; at++) {
    const byte = bytes[at] ?? 0;
    if (byte < 0x20 || byte > 0x7e) return 'no';
  }
  return 'yes';
}
