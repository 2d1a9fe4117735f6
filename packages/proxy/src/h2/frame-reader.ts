// Incremental HTTP/2 frame parser (RFC 9113 §4-§6) over spans of bytes, for either role.
// Guarantees: never throws on input, never holds more than one header block plus one control frame, hands DATA
// over in place without copying or allocating, gives the same events however the bytes are cut.
// It does not know stream states, windows or header meaning: those belong to the owner behind FrameSink.
// One file although long: it is one state machine, and its fields are what a live hand-over exports.

import { Buffer } from 'node:buffer';
import {
  CLIENT_PREFACE,
  FRAME_FLAG,
  FRAME_HEADER_BYTES,
  FRAME_TYPE,
  H2_ERROR,
  MAX_MAX_FRAME_SIZE,
  MAX_WINDOW_SIZE,
  MIN_MAX_FRAME_SIZE,
  SETTING,
  type Setting,
} from './frames.ts';
import { connectionFault, type H2Fault, type H2Reason, streamFault } from './h2-fault.ts';

/** What the reader accepts. All are bounds on what one peer can make us hold or do. */
export interface FrameLimits {
  /** Our announced SETTINGS_MAX_FRAME_SIZE; DATA and extension frames may be this long. */
  readonly maxFrameSize: number;
  /** Longest known frame other than DATA, since those are buffered when they arrive in pieces. */
  readonly maxControlFrameBytes: number;
  /** Longest compressed header block, HEADERS and its CONTINUATIONs together. */
  readonly maxHeaderBlockBytes: number;
  /** Most CONTINUATION frames after one HEADERS: empty ones add no bytes but cost time (CVE-2024-27316). */
  readonly maxContinuations: number;
  /** Most entries of one SETTINGS frame; RFC 9113 defines six, real peers send fewer than ten. */
  readonly maxSettingsEntries: number;
}

/** Limits that fit every HBONE peer; replace `maxFrameSize` by what SETTINGS announce. */
export const DEFAULT_FRAME_LIMITS: FrameLimits = {
  maxFrameSize: MIN_MAX_FRAME_SIZE,
  maxControlFrameBytes: 65_536,
  maxHeaderBlockBytes: 65_536,
  maxContinuations: 16,
  maxSettingsEntries: 32,
};

/**
 * Receives what was read, in wire order. Spans (buffer, start, end) are valid only during the call. A callback
 * may call `FrameReader.fail`, and must not call `push` or `exportState`.
 */
export interface FrameSink {
  /** Once a DATA frame, before its bytes: `flowLength` counts against both windows, padding included. */
  onDataFrame(streamId: number, flowLength: number, endStream: boolean): void;
  /**
   * A piece of DATA. Every frame ends in exactly one call with `frameRemaining` 0 (its span is empty if the frame
   * is); only that call carries `endStream`.
   */
  onData(
    streamId: number,
    buffer: Buffer,
    start: number,
    end: number,
    frameRemaining: number,
    endStream: boolean,
  ): void;
  /** A whole header block, to be given to the HPACK decoder whatever becomes of the stream. */
  onHeaders(streamId: number, buffer: Buffer, start: number, end: number, endStream: boolean): void;
  /** PRIORITY means nothing any more (RFC 9113 §5.3.2); reported so that it can be counted. */
  onPriority(streamId: number): void;
  onRstStream(streamId: number, code: number): void;
  /** The peer's settings, values in range, in order; must be acknowledged. */
  onSettings(settings: readonly Setting[]): void;
  onSettingsAck(): void;
  /** 8 opaque bytes at `start`. */
  onPing(buffer: Buffer, start: number, ack: boolean): void;
  /** The span is the peer's debug data, arbitrary bytes. */
  onGoaway(lastStreamId: number, code: number, buffer: Buffer, start: number, end: number): void;
  /** `streamId` 0 is the connection; `increment` is 1..2^31-1. */
  onWindowUpdate(streamId: number, increment: number): void;
  /** An extension frame was skipped; reported so that it can be counted. */
  onIgnoredFrame(type: number, length: number): void;
  /** A fault of one stream; reading goes on. */
  onStreamFault(fault: H2Fault): void;
}

/** A reader frozen between two pushes: plain structured-cloneable data. */
export interface FrameReaderState {
  readonly version: 1;
  readonly phase: number;
  /** Bytes of the preface already matched. */
  readonly prefaceFill: number;
  readonly settingsSeen: boolean;
  /** Frame header bytes read so far, 0-8. */
  readonly head: Uint8Array;
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  /** Payload bytes of the current frame still to come, padding excluded. */
  readonly remaining: number;
  /** Padding bytes still to come after `remaining`. */
  readonly padding: number;
  /** Payload of a control frame read so far. */
  readonly body: Uint8Array;
  /** Stream whose header block is incomplete, 0 for none. */
  readonly blockStreamId: number;
  readonly blockEndStream: boolean;
  readonly blockFrames: number;
  readonly block: Uint8Array;
}

const PREFACE = Buffer.from(CLIENT_PREFACE, 'latin1');
const EMPTY = Buffer.alloc(0);

// Phases. Numbers, not a union of objects: they change twice a DATA frame.
const AT_PREFACE = 0;
const AT_HEADER = 1;
const AT_PAD_LENGTH = 2;
const AT_DATA = 3;
const AT_PADDING = 4;
const AT_BODY = 5;
const AT_SKIP = 6;
const LAST_PHASE = AT_SKIP;

/** Parses one direction of one connection. See the head of the file for what it guarantees. */
export class FrameReader {
  readonly #role: 'client' | 'server';
  readonly #limits: FrameLimits;
  readonly #sink: FrameSink;
  #fault: H2Fault | undefined = undefined;
  #phase: number;
  #prefaceFill = 0;
  #settingsSeen = false;
  #head: Buffer = EMPTY;
  #headFill = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  #remaining = 0;
  #padding = 0;
  #body: Buffer = EMPTY;
  #bodyFill = 0;
  #blockStreamId = 0;
  #blockEndStream = false;
  #blockFrames = 0;
  #block: Buffer = EMPTY;
  #blockFill = 0;

  /** `role` is ours: a `server` expects the client's preface first. */
  constructor(role: 'client' | 'server', limits: FrameLimits, sink: FrameSink) {
    this.#role = role;
    this.#limits = limits;
    this.#sink = sink;
    this.#phase = role === 'server' ? AT_PREFACE : AT_HEADER;
  }

  /**
   * Reads `buffer` from `start` to `end`. Returns the fault that ended the connection, or undefined. After a fault
   * nothing is read any more and every call returns the same fault.
   */
  push(buffer: Buffer, start: number, end: number): H2Fault | undefined {
    let at = start;
    while (at < end && this.#fault === undefined) {
      switch (this.#phase) {
        case AT_HEADER:
          if (this.#headFill === 0 && end - at >= FRAME_HEADER_BYTES) {
            this.#begin(buffer, at);
            at += FRAME_HEADER_BYTES;
          } else {
            at = this.#collectHead(buffer, at, end);
          }
          break;
        case AT_DATA:
          at = this.#data(buffer, at, end);
          break;
        case AT_BODY:
          at = this.#collectBody(buffer, at, end);
          break;
        case AT_PAD_LENGTH:
          this.#padLength(buffer[at] ?? 0);
          at++;
          break;
        case AT_PADDING:
          at = this.#padBytes(at, end);
          break;
        case AT_SKIP:
          at = this.#skip(at, end);
          break;
        default:
          at = this.#preface(buffer, at, end);
      }
    }
    return this.#fault;
  }

  /** Ends the reading from outside, for instance when a flood guard says so inside a callback. The first fault stays. */
  fail(fault: H2Fault): void {
    this.#fault ??= fault;
  }

  /** True when nothing is half read: no partial frame, header block or preface. A clean end can only be here. */
  get atFrameBoundary(): boolean {
    return this.#phase === AT_HEADER && this.#headFill === 0 && this.#blockStreamId === 0;
  }

  /** Copies what is needed to go on elsewhere. Only between pushes, and only without a fault. */
  exportState(): FrameReaderState {
    if (this.#fault !== undefined) throw new RangeError('a failed frame reader has no state to export');
    return {
      version: 1,
      phase: this.#phase,
      prefaceFill: this.#prefaceFill,
      settingsSeen: this.#settingsSeen,
      head: Uint8Array.from(this.#head.subarray(0, this.#headFill)),
      type: this.#type,
      flags: this.#flags,
      streamId: this.#streamId,
      remaining: this.#remaining,
      padding: this.#padding,
      body: Uint8Array.from(this.#body.subarray(0, this.#bodyFill)),
      blockStreamId: this.#blockStreamId,
      blockEndStream: this.#blockEndStream,
      blockFrames: this.#blockFrames,
      block: Uint8Array.from(this.#block.subarray(0, this.#blockFill)),
    };
  }

  /**
   * Continues from an exported state.
   * @throws RangeError when the state cannot have come from a reader with these limits.
   */
  static fromState(
    role: 'client' | 'server',
    limits: FrameLimits,
    sink: FrameSink,
    state: FrameReaderState,
  ): FrameReader {
    checkState(role, limits, state);
    const reader = new FrameReader(role, limits, sink);
    reader.#phase = state.phase;
    reader.#prefaceFill = state.prefaceFill;
    reader.#settingsSeen = state.settingsSeen;
    if (state.head.length > 0) reader.#head = Buffer.alloc(FRAME_HEADER_BYTES);
    reader.#head.set(state.head);
    reader.#headFill = state.head.length;
    reader.#type = state.type;
    reader.#flags = state.flags;
    reader.#streamId = state.streamId;
    reader.#remaining = state.remaining;
    reader.#padding = state.padding;
    reader.#body = Buffer.from(state.body);
    reader.#bodyFill = state.body.length;
    reader.#blockStreamId = state.blockStreamId;
    reader.#blockEndStream = state.blockEndStream;
    reader.#blockFrames = state.blockFrames;
    reader.#block = Buffer.from(state.block);
    reader.#blockFill = state.block.length;
    return reader;
  }

  #preface(buffer: Buffer, start: number, end: number): number {
    let at = start;
    let fill = this.#prefaceFill;
    while (at < end && fill < PREFACE.length) {
      if (buffer[at] !== PREFACE[fill]) {
        this.#fail(H2_ERROR.PROTOCOL_ERROR, 'peer does not speak HTTP/2: the client preface is wrong');
        return end;
      }
      at++;
      fill++;
    }
    this.#prefaceFill = fill;
    if (fill === PREFACE.length) this.#phase = AT_HEADER;
    return at;
  }

  #collectHead(buffer: Buffer, start: number, end: number): number {
    if (this.#head.length === 0) this.#head = Buffer.alloc(FRAME_HEADER_BYTES);
    let at = start;
    while (at < end && this.#headFill < FRAME_HEADER_BYTES) {
      this.#head[this.#headFill++] = buffer[at++] ?? 0;
    }
    if (this.#headFill === FRAME_HEADER_BYTES) {
      this.#headFill = 0;
      this.#begin(this.#head, 0);
    }
    return at;
  }

  // Reads a frame header and decides what becomes of the payload. Every check that needs no payload is made here,
  // so that a refused frame is never waited for.
  #begin(from: Buffer, at: number): void {
    const length = ((from[at] ?? 0) << 16) | ((from[at + 1] ?? 0) << 8) | (from[at + 2] ?? 0);
    const type = from[at + 3] ?? 0;
    const flags = from[at + 4] ?? 0;
    // The reserved bit is ignored on receipt (RFC 9113 §4.1).
    const streamId = readUint32(from, at + 5) & 0x7fff_ffff;
    if (length > this.#limits.maxFrameSize) {
      this.#fail(H2_ERROR.FRAME_SIZE_ERROR, `frame of ${length} bytes exceeds the announced maximum`);
      return;
    }
    if (this.#blockStreamId !== 0 && (type !== FRAME_TYPE.CONTINUATION || streamId !== this.#blockStreamId)) {
      this.#fail(H2_ERROR.PROTOCOL_ERROR, `frame of type ${type} inside a header block`);
      return;
    }
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    this.#remaining = length;
    if (type === FRAME_TYPE.DATA && this.#settingsSeen) {
      this.#beginData(length, flags, streamId);
    } else {
      this.#beginControl(length, type, flags, streamId);
    }
  }

  #beginData(length: number, flags: number, streamId: number): void {
    // Push is refused, so only odd streams ever exist; the parity check also catches stream 0.
    if ((streamId & 1) === 0) {
      this.#fail(H2_ERROR.PROTOCOL_ERROR, `DATA on stream ${streamId}, which cannot be open`);
      return;
    }
    if ((flags & FRAME_FLAG.PADDED) !== 0) {
      if (length === 0) {
        this.#fail(H2_ERROR.FRAME_SIZE_ERROR, 'padded DATA without room for its pad length');
        return;
      }
      this.#phase = AT_PAD_LENGTH;
      this.#sink.onDataFrame(streamId, length, (flags & FRAME_FLAG.END_STREAM) !== 0);
      return;
    }
    const endStream = (flags & FRAME_FLAG.END_STREAM) !== 0;
    this.#padding = 0;
    this.#phase = length === 0 ? AT_HEADER : AT_DATA;
    this.#sink.onDataFrame(streamId, length, endStream);
    if (length === 0 && this.#fault === undefined) this.#sink.onData(streamId, EMPTY, 0, 0, 0, endStream);
  }

  #data(buffer: Buffer, start: number, end: number): number {
    const available = end - start;
    const take = available < this.#remaining ? available : this.#remaining;
    const remaining = this.#remaining - take;
    this.#remaining = remaining;
    if (remaining === 0) this.#phase = this.#padding === 0 ? AT_HEADER : AT_PADDING;
    const endStream = remaining === 0 && (this.#flags & FRAME_FLAG.END_STREAM) !== 0;
    this.#sink.onData(this.#streamId, buffer, start, start + take, remaining, endStream);
    return start + take;
  }

  #padLength(padding: number): void {
    const remaining = this.#remaining - 1 - padding;
    if (remaining < 0) {
      this.#fail(H2_ERROR.PROTOCOL_ERROR, 'DATA padding is longer than its frame');
      return;
    }
    this.#remaining = remaining;
    this.#padding = padding;
    if (remaining > 0) {
      this.#phase = AT_DATA;
      return;
    }
    this.#phase = padding === 0 ? AT_HEADER : AT_PADDING;
    this.#sink.onData(this.#streamId, EMPTY, 0, 0, 0, (this.#flags & FRAME_FLAG.END_STREAM) !== 0);
  }

  #padBytes(start: number, end: number): number {
    const take = Math.min(end - start, this.#padding);
    this.#padding -= take;
    if (this.#padding === 0) this.#phase = AT_HEADER;
    return start + take;
  }

  #skip(start: number, end: number): number {
    const take = Math.min(end - start, this.#remaining);
    this.#remaining -= take;
    if (this.#remaining === 0) this.#phase = AT_HEADER;
    return start + take;
  }

  #beginControl(length: number, type: number, flags: number, streamId: number): void {
    if (!this.#settingsSeen && (type !== FRAME_TYPE.SETTINGS || (flags & FRAME_FLAG.ACK) !== 0)) {
      this.#fail(H2_ERROR.PROTOCOL_ERROR, `first frame is of type ${type} instead of SETTINGS`);
      return;
    }
    switch (type) {
      case FRAME_TYPE.HEADERS:
        if ((streamId & 1) === 0) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, `HEADERS on stream ${streamId}, which nobody may open`);
          return;
        }
        this.#blockEndStream = (flags & FRAME_FLAG.END_STREAM) !== 0;
        this.#blockFrames = 0;
        this.#await(length, 'hbone.header_limit');
        return;
      case FRAME_TYPE.CONTINUATION:
        if (this.#blockStreamId === 0) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
          return;
        }
        if (++this.#blockFrames > this.#limits.maxContinuations) {
          this.#fail(H2_ERROR.ENHANCE_YOUR_CALM, 'too many CONTINUATION frames', 'hbone.header_limit');
          return;
        }
        this.#await(length, 'hbone.header_limit');
        return;
      case FRAME_TYPE.PRIORITY:
        if (streamId === 0) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, 'PRIORITY on stream 0');
          return;
        }
        this.#remaining = length;
        this.#phase = length === 0 ? AT_HEADER : AT_SKIP;
        if (length === 5) this.#sink.onPriority(streamId);
        else this.#sink.onStreamFault(streamFault(streamId, H2_ERROR.FRAME_SIZE_ERROR, 'PRIORITY is not 5 bytes'));
        return;
      case FRAME_TYPE.RST_STREAM:
        if ((streamId & 1) === 0) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, `RST_STREAM on stream ${streamId}, which cannot be open`);
          return;
        }
        this.#awaitExactly(length, 4, 'RST_STREAM');
        return;
      case FRAME_TYPE.SETTINGS:
        this.#beginSettings(length, flags, streamId);
        return;
      case FRAME_TYPE.PUSH_PROMISE:
        this.#fail(H2_ERROR.PROTOCOL_ERROR, 'PUSH_PROMISE although push is disabled');
        return;
      case FRAME_TYPE.PING:
        if (this.#onConnection(streamId, 'PING')) this.#awaitExactly(length, 8, 'PING');
        return;
      case FRAME_TYPE.GOAWAY:
        if (!this.#onConnection(streamId, 'GOAWAY')) return;
        if (length < 8) this.#fail(H2_ERROR.FRAME_SIZE_ERROR, 'GOAWAY is shorter than 8 bytes');
        else this.#await(length, 'hbone.flood');
        return;
      case FRAME_TYPE.WINDOW_UPDATE:
        if (streamId !== 0 && (streamId & 1) === 0) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, `WINDOW_UPDATE on stream ${streamId}, which cannot be open`);
          return;
        }
        this.#awaitExactly(length, 4, 'WINDOW_UPDATE');
        return;
      default:
        this.#remaining = length;
        this.#phase = length === 0 ? AT_HEADER : AT_SKIP;
        this.#sink.onIgnoredFrame(type, length);
    }
  }

  #beginSettings(length: number, flags: number, streamId: number): void {
    if (!this.#onConnection(streamId, 'SETTINGS')) return;
    this.#settingsSeen = true;
    if ((flags & FRAME_FLAG.ACK) !== 0) {
      this.#awaitExactly(length, 0, 'SETTINGS acknowledgement');
    } else if (length % 6 !== 0) {
      this.#fail(H2_ERROR.FRAME_SIZE_ERROR, 'SETTINGS length is not a multiple of 6');
    } else if (length > this.#limits.maxSettingsEntries * 6) {
      this.#fail(H2_ERROR.ENHANCE_YOUR_CALM, `SETTINGS with ${length / 6} entries`, 'hbone.flood');
    } else {
      this.#await(length, 'hbone.flood');
    }
  }

  #onConnection(streamId: number, what: string): boolean {
    if (streamId === 0) return true;
    this.#fail(H2_ERROR.PROTOCOL_ERROR, `${what} on stream ${streamId} instead of 0`);
    return false;
  }

  #awaitExactly(length: number, wanted: number, what: string): void {
    if (length === wanted) this.#await(length, 'hbone.flood');
    else this.#fail(H2_ERROR.FRAME_SIZE_ERROR, `${what} of ${length} bytes instead of ${wanted}`);
  }

  #await(length: number, reason: H2Reason): void {
    if (length > this.#limits.maxControlFrameBytes) {
      this.#fail(H2_ERROR.ENHANCE_YOUR_CALM, `control frame of ${length} bytes is over our limit`, reason);
      return;
    }
    this.#phase = AT_BODY;
    if (length === 0) this.#finishBody(EMPTY, 0, 0);
  }

  // A whole payload in the span is parsed where it lies; otherwise it is gathered. The copy grows with what arrives,
  // so announcing a long frame costs us nothing.
  #collectBody(buffer: Buffer, start: number, end: number): number {
    const available = end - start;
    if (this.#bodyFill === 0 && available >= this.#remaining) {
      const stop = start + this.#remaining;
      this.#finishBody(buffer, start, stop);
      return stop;
    }
    const take = Math.min(available, this.#remaining);
    this.#body = ensure(this.#body, this.#bodyFill, take, this.#bodyFill + this.#remaining);
    buffer.copy(this.#body, this.#bodyFill, start, start + take);
    this.#bodyFill += take;
    this.#remaining -= take;
    if (this.#remaining === 0) {
      const body = this.#body;
      const fill = this.#bodyFill;
      this.#body = EMPTY;
      this.#bodyFill = 0;
      this.#finishBody(body, 0, fill);
    }
    return start + take;
  }

  #finishBody(buffer: Buffer, start: number, end: number): void {
    this.#phase = AT_HEADER;
    this.#remaining = 0;
    switch (this.#type) {
      case FRAME_TYPE.HEADERS:
        this.#headers(buffer, start, end);
        return;
      case FRAME_TYPE.CONTINUATION:
        this.#continuation(buffer, start, end);
        return;
      case FRAME_TYPE.RST_STREAM:
        this.#sink.onRstStream(this.#streamId, readUint32(buffer, start));
        return;
      case FRAME_TYPE.SETTINGS:
        this.#settings(buffer, start, end);
        return;
      case FRAME_TYPE.PING:
        this.#sink.onPing(buffer, start, (this.#flags & FRAME_FLAG.ACK) !== 0);
        return;
      case FRAME_TYPE.GOAWAY:
        this.#sink.onGoaway(
          readUint32(buffer, start) & 0x7fff_ffff,
          readUint32(buffer, start + 4),
          buffer,
          start + 8,
          end,
        );
        return;
      default:
        this.#windowUpdate(readUint32(buffer, start) & 0x7fff_ffff);
    }
  }

  #headers(buffer: Buffer, bodyStart: number, bodyEnd: number): void {
    let start = bodyStart;
    let end = bodyEnd;
    const isPadded = (this.#flags & FRAME_FLAG.PADDED) !== 0;
    // Priority fields are five bytes nobody uses; a stream depending on itself is no longer an error (RFC 9113 §5.3.2).
    const fixed = (isPadded ? 1 : 0) + ((this.#flags & FRAME_FLAG.PRIORITY) !== 0 ? 5 : 0);
    if (end - start < fixed) {
      this.#fail(H2_ERROR.FRAME_SIZE_ERROR, 'HEADERS too short for its flags');
      return;
    }
    const padding = isPadded ? (buffer[start] ?? 0) : 0;
    start += fixed;
    if (padding > end - start) {
      this.#fail(H2_ERROR.PROTOCOL_ERROR, 'HEADERS padding is longer than its frame');
      return;
    }
    end -= padding;
    if (end - start > this.#limits.maxHeaderBlockBytes) {
      this.#failBlockSize();
    } else if ((this.#flags & FRAME_FLAG.END_HEADERS) !== 0) {
      this.#sink.onHeaders(this.#streamId, buffer, start, end, this.#blockEndStream);
    } else {
      this.#blockStreamId = this.#streamId;
      this.#appendBlock(buffer, start, end);
    }
  }

  #continuation(buffer: Buffer, start: number, end: number): void {
    if (this.#blockFill + end - start > this.#limits.maxHeaderBlockBytes) {
      this.#failBlockSize();
      return;
    }
    this.#appendBlock(buffer, start, end);
    if ((this.#flags & FRAME_FLAG.END_HEADERS) === 0) return;
    const block = this.#block;
    const fill = this.#blockFill;
    this.#block = EMPTY;
    this.#blockFill = 0;
    this.#blockStreamId = 0;
    this.#sink.onHeaders(this.#streamId, block, 0, fill, this.#blockEndStream);
  }

  #appendBlock(buffer: Buffer, start: number, end: number): void {
    this.#block = ensure(this.#block, this.#blockFill, end - start, this.#limits.maxHeaderBlockBytes);
    buffer.copy(this.#block, this.#blockFill, start, end);
    this.#blockFill += end - start;
  }

  #failBlockSize(): void {
    // The block cannot be decoded any more, so the compression state is lost and the connection with it.
    this.#fail(H2_ERROR.ENHANCE_YOUR_CALM, 'header block is over our limit', 'hbone.header_limit');
  }

  #settings(buffer: Buffer, start: number, end: number): void {
    if ((this.#flags & FRAME_FLAG.ACK) !== 0) {
      this.#sink.onSettingsAck();
      return;
    }
    const settings: Setting[] = [];
    for (let at = start; at < end; at += 6) {
      const id = ((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0);
      const value = readUint32(buffer, at + 2);
      if (!this.#isSettingValid(id, value)) return;
      settings.push({ id, value });
    }
    this.#sink.onSettings(settings);
  }

  #isSettingValid(id: number, value: number): boolean {
    switch (id) {
      case SETTING.ENABLE_PUSH:
        // A server has nobody to push to it, so announcing push is an error of the server (RFC 9113 §6.5.2).
        if (value > (this.#role === 'client' ? 0 : 1)) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, `ENABLE_PUSH of ${value}`);
          return false;
        }
        return true;
      case SETTING.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW_SIZE) {
          this.#fail(H2_ERROR.FLOW_CONTROL_ERROR, `INITIAL_WINDOW_SIZE of ${value}`, 'hbone.flow_control');
          return false;
        }
        return true;
      case SETTING.MAX_FRAME_SIZE:
        if (value < MIN_MAX_FRAME_SIZE || value > MAX_MAX_FRAME_SIZE) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, `MAX_FRAME_SIZE of ${value}`);
          return false;
        }
        return true;
      case SETTING.ENABLE_CONNECT_PROTOCOL:
        if (value > 1) {
          this.#fail(H2_ERROR.PROTOCOL_ERROR, `ENABLE_CONNECT_PROTOCOL of ${value}`);
          return false;
        }
        return true;
      default:
        return true;
    }
  }

  #windowUpdate(increment: number): void {
    if (increment !== 0) {
      this.#sink.onWindowUpdate(this.#streamId, increment);
    } else if (this.#streamId === 0) {
      this.#fail(H2_ERROR.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0 on the connection');
    } else {
      this.#sink.onStreamFault(streamFault(this.#streamId, H2_ERROR.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0'));
    }
  }

  #fail(code: number, message: string, reason: H2Reason = 'hbone.protocol'): void {
    this.#fault ??= connectionFault(code, message, reason);
  }
}

function readUint32(buffer: Buffer, at: number): number {
  return (
    (((buffer[at] ?? 0) << 24) |
      ((buffer[at + 1] ?? 0) << 16) |
      ((buffer[at + 2] ?? 0) << 8) |
      (buffer[at + 3] ?? 0)) >>>
    0
  );
}

// Room for `more` bytes after `fill`, doubling, never beyond `most`.
function ensure(buffer: Buffer, fill: number, more: number, most: number): Buffer {
  if (buffer.length >= fill + more) return buffer;
  const grown = Buffer.alloc(Math.min(most, Math.max(256, buffer.length * 2, fill + more)));
  buffer.copy(grown, 0, 0, fill);
  return grown;
}

function checkState(role: 'client' | 'server', limits: FrameLimits, state: FrameReaderState): void {
  const isSound =
    state.version === 1 &&
    isUpTo(state.phase, LAST_PHASE) &&
    (role === 'server' || state.phase !== AT_PREFACE) &&
    isUpTo(state.prefaceFill, PREFACE.length) &&
    state.head.length < FRAME_HEADER_BYTES &&
    isUpTo(state.type, 255) &&
    isUpTo(state.flags, 255) &&
    isUpTo(state.streamId, MAX_WINDOW_SIZE) &&
    isUpTo(state.remaining, MAX_MAX_FRAME_SIZE) &&
    isUpTo(state.padding, 255) &&
    (state.phase === AT_HEADER || state.head.length === 0) &&
    state.body.length + (state.phase === AT_BODY ? state.remaining : 0) <= limits.maxControlFrameBytes &&
    isUpTo(state.blockStreamId, MAX_WINDOW_SIZE) &&
    isUpTo(state.blockFrames, limits.maxContinuations) &&
    state.block.length <= limits.maxHeaderBlockBytes;
  if (!isSound) throw new RangeError('frame reader state is not sound');
}

function isUpTo(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= most;
}
