// The sending half of a tunnel: HTTP/2 bytes are written straight into the content area of the next TLS record of one
// slab, sealed in place and sent with one system call a turn. A bulk read from a pod lands in the payload areas of up
// to sixteen records at once, so user bytes are never copied on their way into the tunnel.
//
// Slab layout:  [sent | sealed, unsent | content of the open record | free]
//                0    sentTo           record                       record + 5 + contentBytes
//
// When a socket stops taking bytes the slab fills up to HIGH_BYTES and streams stop being read; what is left is for
// control frames. A peer that makes us produce control frames beyond that without reading is cut (`broken`).
import {
  Errno,
  type Fd,
  MAX_RECORD_CONTENT_BYTES,
  MIN_OUTPUT_BYTES,
  RECORD_HEADER_BYTES,
  RECORD_OVERHEAD_BYTES,
  type RecordLayer,
  type Slab,
  send,
} from '@ambit/native';
import { FRAME_HEADER_BYTES, FRAME_TYPE, writeFrameHeader } from './h2/index.ts';
import { type Engine, TRANSMIT_BYTES } from './engine.ts';
import type { PlaintextTap } from './l7/plaintext-tap.ts';

const MAX_CONTENT_BYTES = MAX_RECORD_CONTENT_BYTES;
const RECORD_STRIDE = MAX_CONTENT_BYTES + RECORD_OVERHEAD_BYTES;
/** Payload of a DATA frame that fills a record of its own. */
const FULL_PAYLOAD_BYTES = MAX_CONTENT_BYTES - FRAME_HEADER_BYTES;
/** Kept free of user data so that control frames can always be written. */
const CONTROL_RESERVE_BYTES = 64 * 1024;
/** Above this many unsent bytes on a blocked socket, streams are not read. */
const HIGH_BYTES = 256 * 1024;
/** Below this much room it is better to start a new record than to read a sliver. */
const LEAST_READ_BYTES = 1024;
/** A bulk reader sends early once this much is sealed, so that the peer works while we read on. */
const EARLY_SEND_BYTES = 128 * 1024;

export class TunnelOutput {
  /** The socket took everything last time; set again by the reactor's OUT event. */
  isWritable = true;
  /** The control reserve is used up, or the record layer refused to seal: the tunnel must be ended. */
  broken: 'overflow' | 'exhausted' | undefined;

  readonly #engine: Engine;
  readonly #records: RecordLayer;
  readonly #fd: Fd;
  #slab: Slab | undefined;
  #sentTo = 0;
  #record = 0;
  #contentBytes = 0;
  #segmentBytes = 0;

  constructor(engine: Engine, records: RecordLayer, fd: Fd) {
    this.#engine = engine;
    this.#records = records;
    this.#fd = fd;
  }

  get queuedBytes(): number {
    return this.#slab === undefined ? 0 : this.#record - this.#sentTo + this.#contentBytes;
  }

  /** Whether a stream may add user data now. False also when the process has no memory left for a slab. */
  get acceptsData(): boolean {
    if (!this.isWritable && this.queuedBytes > HIGH_BYTES) return false;
    const used = this.#record + RECORD_HEADER_BYTES + this.#contentBytes;
    return used + CONTROL_RESERVE_BYTES + 2 * RECORD_STRIDE < TRANSMIT_BYTES;
  }

  /**
   * Claims `bytes` of record content and returns the buffer offset to write them at, or -1 when there is no memory
   * left for it (`broken` is then set). The claim stands: the caller must fill it before returning to the engine.
   */
  reserve(bytes: number): number {
    this.#ensureSlab(true);
    if (this.#contentBytes + bytes > MAX_CONTENT_BYTES) this.#seal();
    let at = this.#record + RECORD_HEADER_BYTES + this.#contentBytes;
    if (at + bytes + RECORD_OVERHEAD_BYTES > TRANSMIT_BYTES && this.#sentTo > 0) {
      this.#compact();
      at = this.#record + RECORD_HEADER_BYTES + this.#contentBytes;
    }
    if (at + bytes + RECORD_OVERHEAD_BYTES > TRANSMIT_BYTES) return this.#overflow();
    this.#contentBytes += bytes;
    return at;
  }

  /** The memory that `reserve` offsets refer to. Only valid after a successful `reserve`. */
  get buffer(): Buffer {
    if (this.#slab === undefined) throw new Error('invariant: buffer asked for before reserve');
    return this.#slab.bytes;
  }

  /**
   * Lays out payload areas for a read of at most `limit` bytes into the engine's iov and returns their total size; 0
   * when there is no room. Nothing else may be written to this output between this and `commitRead`.
   */
  prepareRead(limit: number, segments: number): number {
    if (!this.#ensureSlab(false)) return 0;
    this.#settleControl();
    if (MAX_CONTENT_BYTES - this.#contentBytes - FRAME_HEADER_BYTES < LEAST_READ_BYTES) this.#seal();
    const slab = this.#slab;
    if (slab === undefined) return 0;
    const iov = this.#engine.iov;
    iov.clear();
    let payload = this.#record + RECORD_HEADER_BYTES + this.#contentBytes + FRAME_HEADER_BYTES;
    let room = MAX_CONTENT_BYTES - this.#contentBytes - FRAME_HEADER_BYTES;
    let next = this.#record + RECORD_STRIDE;
    let total = 0;
    for (let count = 0; count < segments; count++) {
      if (next + CONTROL_RESERVE_BYTES > TRANSMIT_BYTES) break;
      const length = Math.min(room, limit - total);
      if (length === 0) break;
      iov.push(slab, payload, length);
      if (count === 0) this.#segmentBytes = length;
      total += length;
      payload = next + RECORD_HEADER_BYTES + FRAME_HEADER_BYTES;
      room = FULL_PAYLOAD_BYTES;
      next += RECORD_STRIDE;
    }
    return total;
  }

  /** Shows the `bytes` just read, before `commitRead` seals them where they are. */
  showRead(bytes: number, tap: PlaintextTap): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    let at = this.#record + RECORD_HEADER_BYTES + this.#contentBytes + FRAME_HEADER_BYTES;
    let next = this.#record + RECORD_STRIDE;
    let left = bytes;
    let length = Math.min(left, this.#segmentBytes);
    for (;;) {
      tap.fromTcp(slab.bytes, at, at + length, this.#engine.nowMs);
      left -= length;
      if (left === 0) return;
      at = next + RECORD_HEADER_BYTES + FRAME_HEADER_BYTES;
      next += RECORD_STRIDE;
      length = Math.min(left, FULL_PAYLOAD_BYTES);
    }
  }

  /** Turns the `bytes` just read into DATA frames of `streamId`. */
  commitRead(streamId: number, bytes: number): void {
    const slab = this.#slab;
    if (slab === undefined || bytes === 0) return;
    let left = bytes;
    let length = Math.min(left, this.#segmentBytes);
    for (;;) {
      writeFrameHeader(
        slab.bytes,
        this.#record + RECORD_HEADER_BYTES + this.#contentBytes,
        length,
        FRAME_TYPE.DATA,
        0,
        streamId,
      );
      this.#contentBytes += FRAME_HEADER_BYTES + length;
      left -= length;
      if (left === 0) break;
      this.#sealRecord(slab);
      length = Math.min(left, FULL_PAYLOAD_BYTES);
    }
    if (this.isWritable && this.#record - this.#sentTo >= EARLY_SEND_BYTES) this.flush();
  }

  /** Seals and sends what there is. Returns 0, or the positive errno that broke the connection. */
  flush(): number {
    const slab = this.#slab;
    if (slab === undefined) {
      if (!this.#records.wantsOutput) return 0;
      this.#ensureSlab(true);
      return this.flush();
    }
    this.#seal();
    if (this.isWritable && this.#record > this.#sentTo) {
      const sent = send(this.#fd, slab, this.#sentTo, this.#record - this.#sentTo);
      if (sent < 0) {
        if (sent !== -Errno.EAGAIN) return -sent;
        this.isWritable = false;
      } else {
        this.#sentTo += sent;
        if (this.#sentTo < this.#record) this.isWritable = false;
      }
    }
    if (this.#sentTo === this.#record) this.#dropSlab();
    return 0;
  }

  /** Seals a TLS alert behind everything queued; `flush` sends it. */
  queueAlert(level: number, description: number): void {
    this.#ensureSlab(true);
    this.#seal();
    const slab = this.#slab;
    if (slab === undefined || this.#record + MIN_OUTPUT_BYTES > TRANSMIT_BYTES) return;
    const sealed = this.#records.sealAlert(slab, this.#record, level, description);
    if (sealed > 0) this.#record += sealed;
  }

  /** Takes out what is sealed and unsent, for a hand-over; the output is empty afterwards. */
  takeUnsent(): Uint8Array {
    if (this.#slab !== undefined) this.#seal();
    if (this.#slab === undefined) return new Uint8Array(0);
    const unsent = Uint8Array.prototype.slice.call(this.#slab.bytes, this.#sentTo, this.#record);
    this.#dropSlab();
    return unsent;
  }

  /** Puts back what `takeUnsent` of the former owner returned. */
  restoreUnsent(unsent: Uint8Array): void {
    if (unsent.length === 0) return;
    this.#ensureSlab(true);
    this.#slab?.bytes.set(unsent, 0);
    this.#record = unsent.length;
  }

  close(): void {
    this.#dropSlab();
  }

  #ensureSlab(essential: boolean): boolean {
    if (this.#slab !== undefined) return true;
    this.#slab = this.#engine.takeTransmitSlab(essential);
    this.#sentTo = 0;
    this.#record = 0;
    this.#contentBytes = 0;
    return this.#slab !== undefined;
  }

  #dropSlab(): void {
    if (this.#slab === undefined) return;
    this.#engine.returnTransmitSlab(this.#slab);
    this.#slab = undefined;
    this.#sentTo = 0;
    this.#record = 0;
    this.#contentBytes = 0;
  }

  // What was sent long ago makes room; only when a peer reads slowly enough to keep one slab busy to its end.
  #compact(): void {
    this.#slab?.bytes.copyWithin(0, this.#sentTo, this.#record + RECORD_HEADER_BYTES + this.#contentBytes);
    this.#record -= this.#sentTo;
    this.#sentTo = 0;
  }

  #overflow(): number {
    this.broken = 'overflow';
    return -1;
  }

  #seal(): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    this.#settleControl();
    if (this.#contentBytes > 0) this.#sealRecord(slab);
  }

  #sealRecord(slab: Slab): void {
    const sealed = this.#records.seal(slab, this.#record, this.#contentBytes);
    this.#contentBytes = 0;
    if (sealed < 0) this.broken = 'exhausted';
    else this.#record += sealed;
  }

  // Control records (a key update of ours or an answer to the peer's) go out before the open record, whose content is
  // moved up to make room. It happens once in millions of records, so the move costs nothing that counts.
  #settleControl(): void {
    const slab = this.#slab;
    if (slab === undefined) return;
    while (this.#records.wantsOutput) {
      const control = this.#engine.scratch;
      const length = this.#records.takeOutput(control, 0, MIN_OUTPUT_BYTES);
      if (length <= 0) return;
      const content = this.#record + RECORD_HEADER_BYTES;
      if (content + this.#contentBytes + length + RECORD_OVERHEAD_BYTES > TRANSMIT_BYTES) {
        this.broken = 'overflow';
        return;
      }
      slab.bytes.copyWithin(content + length, content, content + this.#contentBytes);
      control.bytes.copy(slab.bytes, this.#record, 0, length);
      this.#record += length;
    }
  }
}
