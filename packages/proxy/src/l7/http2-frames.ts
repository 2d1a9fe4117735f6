// Follows the frames of one direction of an HTTP/2 connection (RFC 9113 §4-§6) as a bystander, in any pieces. Header blocks are put
// together (at most 16 KiB) and handed over whole; DATA is never kept and may be skipped; frames that say nothing are passed over.
// It checks what it needs to stay in step, no more: the peers judge each other.
import { CLIENT_PREFACE, FRAME_FLAG, FRAME_HEADER_BYTES, FRAME_TYPE, SETTING } from '../h2/frames.ts';
import type { GrpcMessages } from './grpc-messages.ts';
import { MAX_BLOCK_BYTES } from './http2-hpack.ts';
import { type Move, withRoom } from './moving.ts';

/** Payload of SETTINGS and first part of GOAWAY that are looked at. */
const MAX_SETTINGS_BYTES = 600;
const GOAWAY_BYTES = 8;

/** What a direction tells. Spans are valid during the call. */
export interface Http2Sink {
  /**
   * A whole header block. `wireBytes`: with its frame headers. `isPromise`: of PUSH_PROMISE, which opens no request.
   */
  onBlock(
    frames: Http2Frames,
    streamId: number,
    isPromise: boolean,
    isEnd: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
    wireBytes: number,
  ): void;
  /** A DATA frame begins; returns the counter that wants to see its data. */
  onData(frames: Http2Frames, streamId: number, wireBytes: number): GrpcMessages | undefined;
  /** The stream's last DATA frame is over. */
  onDataEnd(frames: Http2Frames, streamId: number): void;
  onReset(frames: Http2Frames, streamId: number): void;
  /** SETTINGS; `tableBytes` is HEADER_TABLE_SIZE or -1. */
  onSettings(frames: Http2Frames, tableBytes: number): void;
  onSettingsAck(frames: Http2Frames): void;
  onGoaway(frames: Http2Frames, lastStreamId: number): void;
}

const NO_BYTES = new Uint8Array(0);

/** One direction. `read` until `fault` is set; then it is dead. */
export class Http2Frames {
  readonly isClient: boolean;
  readonly #sink: Http2Sink;
  fault: '' | 'malformed' | 'limit' | 'stopped' = '';
  /** When the first byte of the current frame was seen; of the first frame of a header block, until that is over. */
  startMs = 0;
  #prefaceLeft: number;
  #isFirst = true;
  // The frame header, when it comes in pieces.
  #header: Uint8Array = NO_BYTES;
  #headerFill = 0;
  #inFrame = false;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  // Payload bytes to come, padding included, and the padding among them.
  #left = 0;
  #padding = 0;
  #isPadLengthDue = false;
  #counter: GrpcMessages | undefined = undefined;
  // Payload that must be whole before it is understood: header blocks across frames, and small frames cut by reads.
  #kept: Uint8Array = NO_BYTES;
  #keptBytes = 0;
  // Of a frame that is kept: where its payload begins in `kept`.
  #frameStart = 0;
  // The header block that CONTINUATION goes on with; stream 0 is none.
  #blockStream = 0;
  #isBlockPromise = false;
  #isBlockEnd = false;
  #blockWireBytes = 0;

  constructor(isClient: boolean, sink: Http2Sink) {
    this.isClient = isClient;
    this.#sink = sink;
    this.#prefaceLeft = isClient ? CLIENT_PREFACE.length : 0;
  }

  /** Bytes that need not be shown. */
  get skippable(): number {
    if (this.fault !== '') return Number.POSITIVE_INFINITY;
    if (!this.#inFrame || this.#isPadLengthDue) return 0;
    if (this.#type === FRAME_TYPE.DATA) {
      if (this.#counter === undefined) return this.#left;
      const data = this.#left - this.#padding;
      return data === 0 ? this.#padding : Math.min(data, this.#counter.left);
    }
    return isKept(this.#type) ? 0 : this.#left;
  }

  stop(): void {
    this.fault = 'stopped';
    this.#counter = undefined;
    this.#kept = NO_BYTES;
  }

  /** The counter's stream is over, perhaps in the middle of a DATA frame: the rest of that is nobody's. */
  release(counter: GrpcMessages | undefined): void {
    if (this.#counter === counter) this.#counter = undefined;
  }

  /** `counterOf`: the counter that is in use for a stream's data. */
  carry(move: Move, counterOf: (streamId: number) => GrpcMessages | undefined): void {
    this.fault = move.text(this.fault);
    this.startMs = move.time(this.startMs);
    this.#prefaceLeft = move.number(this.#prefaceLeft);
    this.#isFirst = move.flag(this.#isFirst);
    this.#headerFill = move.number(this.#headerFill);
    this.#header = withRoom(move.bytes(this.#header.subarray(0, this.#headerFill)), FRAME_HEADER_BYTES);
    this.#inFrame = move.flag(this.#inFrame);
    this.#type = move.number(this.#type);
    this.#flags = move.number(this.#flags);
    this.#streamId = move.number(this.#streamId);
    this.#left = move.number(this.#left);
    this.#padding = move.number(this.#padding);
    this.#isPadLengthDue = move.flag(this.#isPadLengthDue);
    const isCounting = move.flag(this.#counter !== undefined);
    if (move.isUnpacking && isCounting) this.#counter = counterOf(this.#streamId);
    this.#keptBytes = move.number(this.#keptBytes);
    this.#kept = move.bytes(this.#kept.subarray(0, this.#keptBytes));
    this.#frameStart = move.number(this.#frameStart);
    this.#blockStream = move.number(this.#blockStream);
    this.#isBlockPromise = move.flag(this.#isBlockPromise);
    this.#isBlockEnd = move.flag(this.#isBlockEnd);
    this.#blockWireBytes = move.number(this.#blockWireBytes);
  }

  /** Takes bytes that were not shown, at most `skippable`. */
  skip(count: number): void {
    if (this.#type === FRAME_TYPE.DATA && this.#left > this.#padding) this.#counter?.skip(count);
    this.#left -= count;
    if (this.#left === 0) this.#endFrame();
  }

  read(bytes: Uint8Array, start: number, stop: number, nowMs: number): void {
    // As in http1-head.ts: small integers, whatever they were computed from.
    let at = start | 0;
    const end = stop | 0;
    while (at < end && this.fault === '') {
      if (this.#inFrame) at = this.#payload(bytes, at, end);
      else if (this.#prefaceLeft > 0) at = this.#preface(bytes, at, end);
      else at = this.#frameHeader(bytes, at, end, nowMs);
    }
  }

  #preface(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && this.#prefaceLeft > 0) {
      if (bytes[at] !== CLIENT_PREFACE.charCodeAt(CLIENT_PREFACE.length - this.#prefaceLeft)) {
        this.fault = 'malformed';
        return at;
      }
      this.#prefaceLeft--;
      at++;
    }
    return at;
  }

  #frameHeader(bytes: Uint8Array, at: number, end: number, nowMs: number): number {
    if (this.#headerFill === 0 && this.#blockStream === 0) this.startMs = nowMs;
    if (this.#headerFill === 0 && end - at >= FRAME_HEADER_BYTES) {
      this.#beginFrame(bytes, at);
      return at + FRAME_HEADER_BYTES;
    }
    if (this.#header.length === 0) this.#header = new Uint8Array(FRAME_HEADER_BYTES);
    let next = at;
    while (next < end && this.#headerFill < FRAME_HEADER_BYTES) this.#header[this.#headerFill++] = bytes[next++] ?? 0;
    if (this.#headerFill === FRAME_HEADER_BYTES) {
      this.#headerFill = 0;
      this.#beginFrame(this.#header, 0);
    }
    return next;
  }

  #beginFrame(bytes: Uint8Array, at: number): void {
    const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    this.#type = bytes[at + 3] ?? 0;
    this.#flags = bytes[at + 4] ?? 0;
    this.#streamId = uint31(bytes, at + 5);
    this.#left = length;
    this.#padding = 0;
    this.#isPadLengthDue = false;
    this.#counter = undefined;
    this.#frameStart = this.#keptBytes;
    this.#checkFrame(length);
    if (this.fault !== '') return;
    this.#isFirst = false;
    this.#inFrame = true;
    if (this.#type === FRAME_TYPE.DATA) {
      this.#isPadLengthDue = (this.#flags & FRAME_FLAG.PADDED) !== 0;
      this.#counter = this.#sink.onData(this, this.#streamId, FRAME_HEADER_BYTES + length);
    }
    if (length === 0) this.#endPayload(NO_BYTES, 0, 0);
  }

  #checkFrame(length: number): void {
    const type = this.#type;
    if (this.#isFirst && (type !== FRAME_TYPE.SETTINGS || (this.#flags & FRAME_FLAG.ACK) !== 0)) {
      this.fault = 'malformed';
      return;
    }
    // Nothing may come between the frames of a header block (RFC 9113 §6.10).
    const isContinued = type === FRAME_TYPE.CONTINUATION;
    if (isContinued ? this.#streamId !== this.#blockStream || this.#streamId === 0 : this.#blockStream !== 0) {
      this.fault = 'malformed';
      return;
    }
    switch (type) {
      case FRAME_TYPE.HEADERS:
      case FRAME_TYPE.PUSH_PROMISE:
      case FRAME_TYPE.CONTINUATION:
        if (this.#streamId === 0) this.fault = 'malformed';
        else if (this.#keptBytes + length > MAX_BLOCK_BYTES) this.fault = 'limit';
        return;
      case FRAME_TYPE.DATA:
        if (this.#streamId === 0 || (length === 0 && (this.#flags & FRAME_FLAG.PADDED) !== 0)) this.fault = 'malformed';
        return;
      case FRAME_TYPE.RST_STREAM:
        if (length !== 4) this.fault = 'malformed';
        return;
      case FRAME_TYPE.SETTINGS:
        if (length % 6 !== 0 || this.#streamId !== 0) this.fault = 'malformed';
        else if (length > MAX_SETTINGS_BYTES) this.fault = 'limit';
        return;
      case FRAME_TYPE.GOAWAY:
        if (length < GOAWAY_BYTES) this.fault = 'malformed';
        return;
      default:
    }
  }

  #payload(bytes: Uint8Array, at: number, end: number): number {
    const taken = Math.min(this.#left, end - at);
    if (this.#type === FRAME_TYPE.DATA) return this.#dataPayload(bytes, at, at + taken);
    this.#left -= taken;
    if (!isKept(this.#type)) {
      if (this.#left === 0) this.#endFrame();
    } else if (this.#left === 0 && this.#keptBytes === this.#frameStart) {
      this.#endPayload(bytes, at, at + taken);
    } else {
      this.#keep(bytes, at, at + taken);
      if (this.#left === 0) this.#endPayload(this.#kept, this.#frameStart, this.#keptBytes);
    }
    return at + taken;
  }

  #dataPayload(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    if (this.#isPadLengthDue) {
      this.#isPadLengthDue = false;
      this.#padding = bytes[at++] ?? 0;
      this.#left--;
      if (this.#padding > this.#left) {
        this.fault = 'malformed';
        return at;
      }
    }
    const dataEnd = Math.min(end, at + this.#left - this.#padding);
    if (dataEnd > at) this.#counter?.read(bytes, at, dataEnd);
    this.#left -= end - at;
    if (this.#left === 0) this.#endFrame();
    return end;
  }

  // GOAWAY may carry any amount of text for people.
  #keep(bytes: Uint8Array, start: number, end: number): void {
    const wanted = this.#type === FRAME_TYPE.GOAWAY ? Math.min(end, start + GOAWAY_BYTES - this.#keptBytes) : end;
    if (wanted <= start) return;
    const needed = this.#keptBytes + wanted - start;
    if (needed > this.#kept.length) {
      const whole = this.#type === FRAME_TYPE.GOAWAY ? GOAWAY_BYTES : needed + this.#left;
      const grown = new Uint8Array(whole);
      grown.set(this.#kept.subarray(0, this.#keptBytes));
      this.#kept = grown;
    }
    this.#kept.set(bytes.subarray(start, wanted), this.#keptBytes);
    this.#keptBytes = needed;
  }

  // The whole payload of a frame that is kept (or of an empty one).
  #endPayload(bytes: Uint8Array, start: number, end: number): void {
    switch (this.#type) {
      case FRAME_TYPE.HEADERS:
      case FRAME_TYPE.PUSH_PROMISE:
      case FRAME_TYPE.CONTINUATION:
        this.#fragment(bytes, start, end);
        break;
      case FRAME_TYPE.RST_STREAM:
        this.#sink.onReset(this, this.#streamId);
        break;
      case FRAME_TYPE.SETTINGS:
        if ((this.#flags & FRAME_FLAG.ACK) !== 0) this.#sink.onSettingsAck(this);
        else this.#sink.onSettings(this, tableSize(bytes, start, end));
        break;
      case FRAME_TYPE.GOAWAY:
        this.#sink.onGoaway(this, uint31(bytes, start));
        break;
      default:
    }
    if (this.fault === '') this.#endFrame();
  }

  #endFrame(): void {
    this.#inFrame = false;
    this.#counter = undefined;
    if (this.#blockStream === 0 && this.#keptBytes > 0) {
      this.#keptBytes = 0;
      this.#kept = NO_BYTES;
    }
    const isEnd = this.#type === FRAME_TYPE.DATA && (this.#flags & FRAME_FLAG.END_STREAM) !== 0;
    if (isEnd) this.#sink.onDataEnd(this, this.#streamId);
  }

  // One frame of a header block: cuts off what is not the block, and hands the block over when it is whole.
  #fragment(bytes: Uint8Array, start: number, end: number): void {
    let from = start;
    let to = end;
    const isContinued = this.#type === FRAME_TYPE.CONTINUATION;
    if (!isContinued) {
      if ((this.#flags & FRAME_FLAG.PADDED) !== 0) to -= bytes[from++] ?? 0;
      if (this.#type === FRAME_TYPE.PUSH_PROMISE) from += 4;
      else if ((this.#flags & FRAME_FLAG.PRIORITY) !== 0) from += 5;
      if (from > to) {
        this.fault = 'malformed';
        return;
      }
      this.#isBlockPromise = this.#type === FRAME_TYPE.PUSH_PROMISE;
      this.#isBlockEnd = !this.#isBlockPromise && (this.#flags & FRAME_FLAG.END_STREAM) !== 0;
      this.#blockWireBytes = 0;
    }
    this.#blockWireBytes += FRAME_HEADER_BYTES + end - start;
    const isWhole = (this.#flags & FRAME_FLAG.END_HEADERS) !== 0;
    if (isWhole && !isContinued) {
      this.#handOver(bytes, from, to);
      return;
    }
    // The fragments stand one behind the other in what is kept.
    if (bytes === this.#kept) {
      this.#kept.copyWithin(this.#frameStart, from, to);
      this.#keptBytes = this.#frameStart + to - from;
    } else {
      this.#keep(bytes, from, to);
    }
    if (isWhole) this.#handOver(this.#kept, 0, this.#keptBytes);
    else this.#blockStream = this.#streamId;
  }

  #handOver(bytes: Uint8Array, start: number, end: number): void {
    this.#blockStream = 0;
    this.#sink.onBlock(
      this,
      this.#streamId,
      this.#isBlockPromise,
      this.#isBlockEnd,
      bytes,
      start,
      end,
      this.#blockWireBytes,
    );
  }
}

function isKept(type: number): boolean {
  switch (type) {
    case FRAME_TYPE.HEADERS:
    case FRAME_TYPE.PUSH_PROMISE:
    case FRAME_TYPE.CONTINUATION:
    case FRAME_TYPE.RST_STREAM:
    case FRAME_TYPE.SETTINGS:
    case FRAME_TYPE.GOAWAY:
      return true;
    default:
      return false;
  }
}

function uint31(bytes: Uint8Array, at: number): number {
  const high = ((bytes[at] ?? 0) & 0x7f) << 24;
  return high | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
}

// The last HEADER_TABLE_SIZE of a SETTINGS payload, or -1. All of 32 bits is allowed and means "as large as you like".
function tableSize(bytes: Uint8Array, start: number, end: number): number {
  let size = -1;
  for (let at = start; at + 6 <= end; at += 6) {
    const id = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    if (id === SETTING.HEADER_TABLE_SIZE) size = (bytes[at + 2] ?? 0) >= 0x80 ? 0x7fff_ffff : uint31(bytes, at + 2);
  }
  return size;
}
