// One gRPC call on one HTTP/2 stream: messages in with back-pressure, messages out as fast as the peer takes them, one
// status at the end. It never throws into the server's event loop, and what a peer can make it hold is one message.
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { constants } from 'node:http2';
import { type FramingFault, messagePrefix, MessageReader } from '../framing.ts';
import { GrpcError, statusTrailers } from './status.ts';

/** Small parts are joined up to this size; longer ones are written as they are, in pieces of it. */
const PIECE_BYTES = 256 * 1024;

export interface CallOptions {
  readonly maxRequestBytes: number;
  /** The peer's deadline; undefined: none. */
  readonly timeoutMs: number | undefined;
}

export class Call {
  readonly #request: Http2ServerRequest;
  readonly #response: Http2ServerResponse;
  readonly #maxRequestBytes: number;
  readonly #abort = new AbortController();
  readonly #deadline: NodeJS.Timeout | undefined;

  /** Sends the response's headers at once: a client may wait for them before it says anything. */
  constructor(request: Http2ServerRequest, response: Http2ServerResponse, options: CallOptions) {
    this.#request = request;
    this.#response = response;
    this.#maxRequestBytes = options.maxRequestBytes;
    // Resets arrive as errors; `close` follows each of them and is where they are handled.
    request.on('error', ignore);
    response.on('error', ignore);
    response.stream.on('error', ignore);
    response.stream.once('close', () => this.#end(new GrpcError('cancelled', 'the stream was closed')));
    if (options.timeoutMs !== undefined) {
      const expire = () => this.#abort.abort(new GrpcError('deadline_exceeded', 'the deadline has passed'));
      // Node's timers hold 31 bits; a longer deadline is as good as none.
      if (options.timeoutMs < 2 ** 31) this.#deadline = setTimeout(expire, options.timeoutMs).unref();
    }
    response.writeHead(200, { 'content-type': 'application/grpc' });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /**
   * The peer's messages until it half-closes. The peer is held back while the consumer is busy.
   * @throws GrpcError for a message that breaks the rules, cancelled when the stream breaks
   */
  async *messages(): AsyncGenerator<Buffer, void, undefined> {
    const reader = new MessageReader(this.#maxRequestBytes, refuseFrame);
    try {
      for await (const chunk of this.#request) yield* reader.push(chunk as Buffer);
    } catch (error) {
      throw error instanceof GrpcError ? error : new GrpcError('cancelled', 'the stream broke', { cause: error });
    }
    this.#abort.signal.throwIfAborted();
    if (reader.isMidMessage) throw new GrpcError('invalid_argument', 'the stream ended inside a message');
  }

  /**
   * Writes one message and resolves when the peer has taken all of it (its window and the socket let it through).
   * @throws GrpcError deadline_exceeded when the peer takes nothing for `stuckMs`; the abort reason when the call ends
   */
  async send(parts: readonly Uint8Array[], stuckMs: number): Promise<number> {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const prefix = messagePrefix(length);
    for (const piece of pieces([prefix, ...parts])) await this.#write(piece, stuckMs);
    return prefix.length + length;
  }

  /** Ends the call: with success, or with the status that `error` carries. Nothing happens if it has ended already. */
  finish(error: GrpcError | undefined): void {
    const { stream } = this.#response;
    if (!stream.destroyed && !this.#response.writableEnded) {
      this.#response.addTrailers(statusTrailers(error));
      // A peer that still sends is told to stop, once it has the trailers: they are written in this event.
      stream.once('wantTrailers', () => {
        setImmediate(() => {
          if (!stream.readableEnded && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR);
        });
      });
      this.#response.end();
      // What the peer still sends is thrown away; unread, it would hold up the connection's window.
      this.#request.resume();
    }
    this.#end(error ?? new GrpcError('cancelled', 'the call has ended'));
  }

  /** Resets the stream: for a peer that takes no bytes, and so would never see trailers. */
  reset(error: GrpcError): void {
    if (!this.#response.stream.destroyed) this.#response.stream.close(constants.NGHTTP2_CANCEL);
    this.#end(error);
  }

  #end(reason: GrpcError): void {
    clearTimeout(this.#deadline);
    this.#abort.abort(reason);
  }

  #write(piece: Uint8Array, stuckMs: number): Promise<void> {
    const { signal } = this.#abort;
    return new Promise((resolve, reject) => {
      const settle = (error: unknown) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        if (error === undefined || error === null) resolve();
        else
          reject(error instanceof GrpcError ? error : new GrpcError('cancelled', 'the stream broke', { cause: error }));
      };
      const onAbort = () => settle(signal.reason);
      const timer = setTimeout(
        () => settle(new GrpcError('deadline_exceeded', `the peer took no bytes for ${stuckMs} ms`)),
        stuckMs,
      );
      signal.addEventListener('abort', onAbort);
      if (signal.aborted) onAbort();
      else this.#response.stream.write(piece, settle);
    });
  }
}

function* pieces(parts: readonly Uint8Array[]): Generator<Uint8Array> {
  let small: Uint8Array[] = [];
  let smallBytes = 0;
  for (const part of parts) {
    if (smallBytes + part.length <= PIECE_BYTES) {
      small.push(part);
      smallBytes += part.length;
      continue;
    }
    if (smallBytes > 0) yield Buffer.concat(small, smallBytes);
    [small, smallBytes] = [[], 0];
    let at = 0;
    for (; part.length - at > PIECE_BYTES; at += PIECE_BYTES) yield part.subarray(at, at + PIECE_BYTES);
    small.push(part.subarray(at));
    smallBytes = part.length - at;
  }
  if (smallBytes > 0) yield Buffer.concat(small, smallBytes);
}

const ignore = (): void => undefined;

/** The client sent what we do not take. */
export function refuseFrame(fault: FramingFault): GrpcError {
  return fault.kind === 'compressed'
    ? new GrpcError('unimplemented', 'compressed messages are not supported')
    : new GrpcError('resource_exhausted', `a message of ${fault.bytes} bytes, ${fault.maxBytes} are allowed`);
}
