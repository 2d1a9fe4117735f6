// Reads an HTTP/2 connection (prior knowledge) of which it is no part, and tells of each stream's request when it is over; gRPC calls
// are told as such, with their status and messages. Same bytes, same requests, however they are cut; never throws.
// After an error of HPACK or of framing the tables are lost: it gives up, when it was the client's as soon as the rest is answered.
import { DEFAULT_HEADER_TABLE_SIZE } from '../h2/frames.ts';
import type { GrpcMessages } from './grpc-messages.ts';
import { Http2Fields } from './http2-fields.ts';
import { Http2Frames, type Http2Sink } from './http2-frames.ts';
import { PassiveHpack } from './http2-hpack.ts';
import { Http2Streams, type Http2Stream } from './http2-streams.ts';
import type { Movable, Move } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';
import { METHODS } from './sniffer-texts.ts';
import type { L7GiveUp, L7Listener, L7Sniffer } from './types.ts';

/** Most SETTINGS that wait for their acknowledgement. */
const MAX_UNACKNOWLEDGED = 16;

// Header blocks are decoded one at a time, so one object serves every connection of a thread.
const fields = new Http2Fields();

/** What the SETTINGS of one side allow the encoder of the other. */
class TableLimit {
  readonly #hpack: PassiveHpack;
  #acknowledged = DEFAULT_HEADER_TABLE_SIZE;
  // One a SETTINGS frame that is not acknowledged yet; -1 changes nothing.
  #announced: number[] = [];

  constructor(hpack: PassiveHpack) {
    this.#hpack = hpack;
  }

  /** False when too many wait. */
  announce(tableBytes: number): boolean {
    if (this.#announced.length >= MAX_UNACKNOWLEDGED) return false;
    this.#announced.push(tableBytes);
    this.#apply();
    return true;
  }

  acknowledge(): void {
    const tableBytes = this.#announced.shift() ?? -1;
    if (tableBytes >= 0) this.#acknowledged = tableBytes;
    this.#apply();
  }

  carry(move: Move): void {
    this.#acknowledged = move.number(this.#acknowledged);
    const count = move.number(this.#announced.length);
    for (let at = 0; at < count; at++) this.#announced[at] = move.number(this.#announced[at] ?? 0);
  }

  // An encoder may use a size as soon as it has read it, a moment before its acknowledgement is on the wire.
  #apply(): void {
    this.#hpack.setLimit(Math.max(this.#acknowledged, ...this.#announced));
  }
}

/**
 * One connection. It calls `onProtocol` itself, with `grpc` or `http` by the first request, or `http` when it ends or gives up without one.
 * A stream is told when its response and its request are both over, or one side resets it (`DC`, `UC`), or the server's
 * GOAWAY leaves it out (`UC`).
 */
export class Http2Reader implements L7Sniffer, Http2Sink, Movable {
  readonly #listener: L7Listener;
  readonly #options: L7Options;
  readonly #client: Http2Frames;
  readonly #server: Http2Frames;
  readonly #clientHpack: PassiveHpack;
  readonly #serverHpack: PassiveHpack;
  // The client's SETTINGS bind the server's encoder, and the other way round.
  readonly #clientLimit: TableLimit;
  readonly #serverLimit: TableLimit;
  readonly #streams: Http2Streams;
  #lastStreamId = 0;
  // The last stream of the server's GOAWAY, if there was one.
  #goawayStreamId = Number.POSITIVE_INFINITY;
  #nowMs = 0;
  #isNamed = false;
  #clientFault: L7GiveUp | '' = '';
  #isOver = false;

  constructor(listener: L7Listener, options: L7Options) {
    this.#listener = listener;
    this.#options = options;
    this.#streams = new Http2Streams(options);
    this.#client = new Http2Frames(true, this);
    this.#server = new Http2Frames(false, this);
    this.#clientHpack = new PassiveHpack(options);
    this.#serverHpack = new PassiveHpack(options);
    this.#clientLimit = new TableLimit(this.#serverHpack);
    this.#serverLimit = new TableLimit(this.#clientHpack);
  }

  get skippableFromClient(): number {
    return this.#client.skippable;
  }

  get skippableFromServer(): number {
    return this.#server.skippable;
  }

  fromClient(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#client.read(bytes, start, end, nowMs);
    this.#settle();
  }

  fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    this.#nowMs = nowMs;
    this.#server.read(bytes, start, end, nowMs);
    this.#settle();
  }

  skipFromClient(bytes: number, nowMs: number): void {
    this.#skip(this.#client, bytes, nowMs);
  }

  skipFromServer(bytes: number, nowMs: number): void {
    this.#skip(this.#server, bytes, nowMs);
  }

  end(byClient: boolean, nowMs: number): void {
    if (this.#isOver) return;
    this.#nowMs = nowMs;
    this.#name(false);
    for (const stream of this.#streams.all()) this.#tell(stream, byClient ? 'DC' : 'UC');
    if (this.#clientFault === '') this.#close();
    else this.#giveUp(this.#clientFault);
  }

  tellMessages(): void {
    for (const { requestMessages, responseMessages, status, method, path } of this.#streams.all()) {
      const requests = requestMessages?.takeNews() ?? 0;
      const responses = responseMessages?.takeNews() ?? 0;
      if (requests + responses === 0) continue;
      this.#listener.onMessages?.({
        protocol: 'grpc',
        status,
        requestMessages: requests,
        responseMessages: responses,
        method: METHODS[method] ?? '',
        path,
      });
    }
  }

  onBlock(
    frames: Http2Frames,
    streamId: number,
    isPromise: boolean,
    isEnd: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
    wireBytes: number,
  ): void {
    fields.reset();
    const outcome = (frames.isClient ? this.#clientHpack : this.#serverHpack).decode(bytes, start, end, fields);
    if (outcome !== '') frames.fault = outcome;
    else if (isPromise) return;
    else if (frames.isClient) this.#clientBlock(frames, streamId, isEnd, wireBytes);
    else this.#serverBlock(streamId, isEnd, wireBytes);
  }

  onData(frames: Http2Frames, streamId: number, wireBytes: number): GrpcMessages | undefined {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return undefined;
    if (frames.isClient) stream.requestBytes += wireBytes;
    else stream.responseBytes += wireBytes;
    return frames.isClient ? stream.requestMessages : stream.responseMessages;
  }

  onDataEnd(frames: Http2Frames, streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    if (frames.isClient) this.#requestOver(stream);
    else this.#responseOver(stream);
  }

  onReset(frames: Http2Frames, streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#tell(stream, frames.isClient ? 'DC' : 'UC');
  }

  onSettings(frames: Http2Frames, tableBytes: number): void {
    const limit = frames.isClient ? this.#clientLimit : this.#serverLimit;
    if (!limit.announce(tableBytes)) frames.fault = 'limit';
  }

  onSettingsAck(frames: Http2Frames): void {
    // The server acknowledges what the client announced.
    (frames.isClient ? this.#serverLimit : this.#clientLimit).acknowledge();
  }

  onGoaway(frames: Http2Frames, lastStreamId: number): void {
    // Only a lower one leaves out more, and a flood of the same costs nothing.
    if (frames.isClient || lastStreamId >= this.#goawayStreamId) return;
    this.#goawayStreamId = lastStreamId;
    for (const stream of this.#streams.all()) {
      if (stream.id > lastStreamId) this.#tell(stream, 'UC');
    }
  }

  carry(move: Move): void {
    // The streams first: a frame that is under way finds its counter there.
    this.#streams.carry(move);
    this.#client.carry(move, id => this.#streams.get(id)?.requestMessages);
    this.#server.carry(move, id => this.#streams.get(id)?.responseMessages);
    this.#clientHpack.carry(move);
    this.#serverHpack.carry(move);
    this.#clientLimit.carry(move);
    this.#serverLimit.carry(move);
    this.#lastStreamId = move.number(this.#lastStreamId);
    this.#goawayStreamId = move.number(this.#goawayStreamId);
    this.#isNamed = move.flag(this.#isNamed);
    this.#clientFault = move.text(this.#clientFault);
    this.#isOver = move.flag(this.#isOver);
  }

  #clientBlock(frames: Http2Frames, streamId: number, isEnd: boolean, wireBytes: number): void {
    if (streamId % 2 === 0) {
      frames.fault = 'malformed';
      return;
    }
    let stream = this.#streams.get(streamId);
    if (stream === undefined) {
      // Trailers of a stream that is over already.
      if (streamId <= this.#lastStreamId) return;
      this.#lastStreamId = streamId;
      this.#name(fields.isGrpc);
      stream = this.#streams.open(streamId);
      if (stream === undefined) {
        this.#listener.onUntracked?.();
        return;
      }
      stream.startMs = frames.startMs;
      stream.method = Math.max(fields.method, 0);
      if (fields.isGrpc) stream.countMessages();
      // The table may know texts that nobody wants at the moment.
      this.#streams.keepTexts(
        stream,
        this.#options.wantPath ? fields.path : '',
        this.#options.wantAuthority ? fields.authority : '',
        this.#options.wantTraceparent ? fields.traceparent : '',
      );
    }
    stream.requestBytes += wireBytes;
    if (isEnd) this.#requestOver(stream);
  }

  #serverBlock(streamId: number, isEnd: boolean, wireBytes: number): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    stream.responseBytes += wireBytes;
    // Interim responses (1xx) come before the one that counts; trailers have no status of HTTP.
    if (stream.status === 0 && fields.status >= 200) stream.status = fields.status;
    if (fields.grpcStatus >= 0) stream.grpcStatus = fields.grpcStatus;
    if (isEnd) this.#responseOver(stream);
  }

  #requestOver(stream: Http2Stream): void {
    stream.isRequestOver = true;
    if (stream.responseEndMs >= 0) this.#tell(stream, undefined);
  }

  #responseOver(stream: Http2Stream): void {
    if (stream.responseEndMs < 0) stream.responseEndMs = this.#nowMs;
    if (stream.isRequestOver || this.#clientFault !== '') this.#tell(stream, undefined);
  }

  // A response that was whole makes what happens afterwards unimportant.
  #tell(stream: Http2Stream, cause: 'DC' | 'UC' | undefined): void {
    const isWhole = stream.responseEndMs >= 0;
    this.#listener.onRequest({
      protocol: stream.isGrpc ? 'grpc' : 'http',
      startMs: stream.startMs,
      durationMs: (isWhole ? stream.responseEndMs : this.#nowMs) - stream.startMs,
      requestBytes: stream.requestBytes,
      responseBytes: stream.responseBytes,
      status: stream.status,
      grpcStatus: stream.isGrpc && stream.grpcStatus >= 0 ? stream.grpcStatus : undefined,
      requestMessages: stream.requestMessages?.count ?? 0,
      responseMessages: stream.responseMessages?.count ?? 0,
      toldRequestMessages: stream.requestMessages?.told,
      toldResponseMessages: stream.responseMessages?.told,
      method: METHODS[stream.method] ?? '',
      path: stream.path,
      authority: stream.authority,
      error: undefined,
      flags: isWhole ? undefined : cause,
      traceparent: stream.traceparent === '' ? undefined : stream.traceparent,
    });
    this.#client.release(stream.requestMessages);
    this.#server.release(stream.responseMessages);
    this.#streams.close(stream);
  }

  #skip(frames: Http2Frames, bytes: number, nowMs: number): void {
    if (bytes <= 0 || frames.fault !== '') return;
    this.#nowMs = nowMs;
    if (bytes > frames.skippable) frames.fault = 'malformed';
    else frames.skip(bytes);
    this.#settle();
  }

  // After bytes: acts on what they broke.
  #settle(): void {
    if (this.#isOver) return;
    const server = this.#server.fault;
    if (server === 'malformed' || server === 'limit') {
      this.#giveUp(server);
      return;
    }
    const client = this.#client.fault;
    if (this.#clientFault === '') {
      if (client !== 'malformed' && client !== 'limit') return;
      this.#clientFault = client;
      // No more of any request will be seen, so a whole response is enough.
      for (const stream of this.#streams.all()) {
        if (stream.responseEndMs >= 0) this.#tell(stream, undefined);
      }
    }
    if (this.#streams.size === 0) this.#giveUp(this.#clientFault);
  }

  #name(isGrpc: boolean): void {
    if (this.#isNamed) return;
    this.#isNamed = true;
    this.#listener.onProtocol(isGrpc ? 'grpc' : 'http');
  }

  #giveUp(why: L7GiveUp): void {
    this.#name(false);
    this.#close();
    this.#listener.onGiveUp(why);
  }

  #close(): void {
    this.#isOver = true;
    this.#client.stop();
    this.#server.stop();
    this.#streams.clear();
  }
}
