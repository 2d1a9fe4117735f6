// Writes the frames of a tunnel that carry no user data: preface, SETTINGS, header blocks, PING, GOAWAY, resets, windows.
// Owns the HPACK encoder, since header blocks must be sent in the order they were encoded in. Frames are put into the
// tunnel's output; the engine decides when they leave. It knows no states: whoever calls it makes sure that the tunnel is
// not closed.
import type { Engine, Flushable } from './engine.ts';
import {
  type ConnectRequest,
  FRAME_FLAG,
  FRAME_HEADER_BYTES,
  FRAME_TYPE,
  H2_ERROR,
  type HpackEncoder,
  type Setting,
  writeConnectRequest,
  writeConnectResponse,
  writeFrameHeader,
  writeGoaway,
  writePing,
  writeRstStream,
  writeSettings,
  writeSettingsAck,
  writeWindowUpdate,
} from './h2/index.ts';
import type { TunnelOutput } from './tunnel-output.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** Room for one encoded header block of ours: authority, baggage and forwarded are each bounded far below. */
const MAX_BLOCK_BYTES = 8 * 1024;
// Tunnels are written one at a time, so one block buffer serves all of a worker.
const block = Buffer.allocUnsafe(MAX_BLOCK_BYTES);

export class ControlFrames {
  readonly encoder: HpackEncoder;
  readonly #engine: Engine;
  readonly #tunnel: Flushable;
  readonly #output: TunnelOutput;

  /** `tunnel` is marked as having something to send. */
  constructor(engine: Engine, tunnel: Flushable, output: TunnelOutput, encoder: HpackEncoder) {
    this.#engine = engine;
    this.#tunnel = tunnel;
    this.#output = output;
    this.encoder = encoder;
  }

  /** The client's first bytes. */
  preface(): void {
    const at = this.#reserve(PREFACE.length);
    if (at >= 0) PREFACE.copy(this.#output.buffer, at);
  }

  settings(list: readonly Setting[]): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 6 * list.length);
    if (at >= 0) writeSettings(this.#output.buffer, at, list);
  }

  settingsAck(): void {
    const at = this.#reserve(FRAME_HEADER_BYTES);
    if (at >= 0) writeSettingsAck(this.#output.buffer, at);
  }

  /** CONNECT; false, and nothing sent, when it cannot be encoded or is too large. */
  request(id: number, request: ConnectRequest): boolean {
    return this.#headers(id, writeConnectRequest(this.encoder, block, 0, request), false);
  }

  /** Status 200; false, and nothing sent, when it cannot be encoded or is too large. */
  accepted(id: number, baggage: string | undefined): boolean {
    return this.#headers(id, writeConnectResponse(this.encoder, block, 0, 200, baggage), false);
  }

  /** A status that ends the stream; a peer that is still sending is told to stop (RFC 9113 section 8.1). */
  finalStatus(id: number, status: number, isRemoteEnded: boolean): void {
    this.#headers(id, writeConnectResponse(this.encoder, block, 0, status, undefined), true);
    if (!isRemoteEnded) this.reset(id, H2_ERROR.NO_ERROR);
  }

  endStream(id: number): void {
    this.#frame(id, FRAME_TYPE.DATA, FRAME_FLAG.END_STREAM, 0);
  }

  reset(id: number, code: number): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 4);
    if (at >= 0) writeRstStream(this.#output.buffer, at, id, code);
  }

  /** `id` 0 is the connection. */
  windowUpdate(id: number, increment: number): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 4);
    if (at >= 0) writeWindowUpdate(this.#output.buffer, at, id, increment);
  }

  /** Eight bytes of `payload` from `start`. */
  ping(payload: Buffer, start: number, ack: boolean): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 8);
    if (at >= 0) writePing(this.#output.buffer, at, ack, payload, start);
  }

  goaway(lastStreamId: number, code: number): void {
    const at = this.#reserve(FRAME_HEADER_BYTES + 8);
    if (at >= 0) writeGoaway(this.#output.buffer, at, lastStreamId, code, '');
  }

  /** Sends the first `length` bytes of `block`; a negative length says that it did not fit. */
  #headers(id: number, length: number, endStream: boolean): boolean {
    if (length < 0) return false;
    const flags = FRAME_FLAG.END_HEADERS | (endStream ? FRAME_FLAG.END_STREAM : 0);
    const at = this.#frame(id, FRAME_TYPE.HEADERS, flags, length);
    if (at >= 0) block.copy(this.#output.buffer, at, 0, length);
    return true;
  }

  /** Where the frame's `length` bytes of payload go; negative when there is no memory left. */
  #frame(id: number, type: number, flags: number, length: number): number {
    const at = this.#reserve(FRAME_HEADER_BYTES + length);
    if (at < 0) return -1;
    writeFrameHeader(this.#output.buffer, at, length, type, flags, id);
    return at + FRAME_HEADER_BYTES;
  }

  #reserve(bytes: number): number {
    this.#engine.markDirty(this.#tunnel);
    return this.#output.reserve(bytes);
  }
}
