// One gRPC call on an HTTP/2 stream (grpc/doc/PROTOCOL-HTTP2.md). Messages are pulled: while the caller works on one, the
// server is held back by flow control. However the call ends, `messages` ends: normally for status OK, else by CallError.
import type { ClientHttp2Stream, IncomingHttpHeaders, IncomingHttpStatusHeader } from 'node:http2';
import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import {
  CallError,
  decodeStatusMessage,
  type GrpcStatus,
  statusFromHttp,
  statusFromNumber,
  statusFromReset,
} from './call-error.ts';
import { type FramingFault, messagePrefix, MessageReader } from '../framing.ts';

interface Method<I extends DescMessage, O extends DescMessage> {
  readonly input: I;
  readonly output: O;
}

const HTTP_OK = 200;
const CANCEL = 0x8;

export class GrpcCall<I extends DescMessage, O extends DescMessage> {
  readonly #stream: ClientHttp2Stream;
  readonly #method: Method<I, O>;
  readonly #reader: MessageReader;
  readonly #signal: AbortSignal | undefined;
  #headers: (IncomingHttpHeaders & IncomingHttpStatusHeader) | undefined;
  #trailers: IncomingHttpHeaders | undefined;
  #failure: CallError | undefined;

  constructor(
    stream: ClientHttp2Stream,
    method: Method<I, O>,
    options: { readonly maxMessageBytes: number; readonly signal: AbortSignal | undefined },
  ) {
    this.#stream = stream;
    this.#method = method;
    this.#reader = new MessageReader(options.maxMessageBytes, refuseFrame);
    this.#signal = options.signal;
    stream.once('response', (headers: IncomingHttpHeaders & IncomingHttpStatusHeader) => {
      this.#headers = headers;
    });
    stream.once('trailers', (trailers: IncomingHttpHeaders) => {
      this.#trailers = trailers;
    });
    // Kept for `messages`; unheard it would end the process.
    stream.on('error', error => this.#fail(error));
    const onAbort = (): void => this.#cancel();
    this.#signal?.addEventListener('abort', onAbort);
    stream.once('close', () => this.#signal?.removeEventListener('abort', onAbort));
  }

  /** What an abort means: our deadline, or that we gave up. */
  static aborted(signal: AbortSignal): CallError {
    const isDeadline = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
    return isDeadline
      ? new CallError('grpc.deadline', 'DEADLINE_EXCEEDED', 'no answer in time')
      : new CallError('grpc.cancelled', 'CANCELLED', 'given up');
  }

  /** Whether the server has accepted the call: it answered, and not with an error at once. */
  get isOpen(): boolean {
    return this.#headers?.[':status'] === HTTP_OK && this.#headers['grpc-status'] === undefined;
  }

  /** False when the caller should wait before it sends more. A call that has ended takes the message and drops it. */
  send(message: MessageShape<I>): boolean {
    if (this.#stream.destroyed || this.#stream.writableEnded) return true;
    const bytes = toBinary(this.#method.input, message);
    return this.#stream.write(Buffer.concat([messagePrefix(bytes.length), bytes]));
  }

  closeSend(): void {
    if (!this.#stream.writableEnded) this.#stream.end();
  }

  /** Everything the server sends, once. @throws CallError */
  async *messages(): AsyncGenerator<MessageShape<O>, void> {
    try {
      for await (const chunk of this.#stream) {
        if (!Buffer.isBuffer(chunk)) continue;
        this.#checkHeaders();
        for (const bytes of this.#reader.push(chunk)) yield this.#decode(bytes);
      }
    } catch (error) {
      throw (
        this.#outcome(error) ??
        new CallError('grpc.lost', 'UNKNOWN', 'the stream broke after its status', { cause: error })
      );
    } finally {
      this.#stream.close(CANCEL);
    }
    const outcome = this.#outcome(undefined);
    if (outcome !== undefined) throw outcome;
  }

  #decode(bytes: Uint8Array): MessageShape<O> {
    try {
      return fromBinary(this.#method.output, bytes);
    } catch (cause) {
      throw new CallError('grpc.protocol', 'INTERNAL', `the server sent no ${this.#method.output.name}`, { cause });
    }
  }

  #cancel(): void {
    if (this.#signal !== undefined) this.#failure ??= GrpcCall.aborted(this.#signal);
    this.#stream.close(CANCEL);
  }

  #fail(error: unknown): void {
    if (error instanceof CallError) this.#failure ??= error;
  }

  /** A body that is no gRPC must not be read as such. */
  #checkHeaders(): void {
    const status = this.#headers?.[':status'];
    const type = this.#headers?.['content-type'];
    if (status === HTTP_OK && (type === undefined || type.startsWith('application/grpc'))) return;
    const code: GrpcStatus = statusFromHttp(status ?? 0);
    throw new CallError('grpc.protocol', code, `the server answered with HTTP status ${status} and ${String(type)}`);
  }

  /** Why the call ended; undefined for status OK. */
  #outcome(thrown: unknown): CallError | undefined {
    if (this.#failure !== undefined) return this.#failure;
    if (thrown instanceof CallError) return thrown;
    const status = this.#trailers?.['grpc-status'] ?? this.#headers?.['grpc-status'];
    if (typeof status === 'string') {
      const name = statusFromNumber(status);
      if (name === 'OK') {
        if (!this.#reader.isMidMessage) return undefined;
        return new CallError('grpc.protocol', 'INTERNAL', 'the stream ended inside a message');
      }
      const text = this.#trailers?.['grpc-message'] ?? this.#headers?.['grpc-message'];
      return new CallError('grpc.status', name, decodeStatusMessage(typeof text === 'string' ? text : name));
    }
    const httpStatus = this.#headers?.[':status'];
    if (httpStatus !== undefined && httpStatus !== HTTP_OK) {
      const message = `the server answered with HTTP status ${httpStatus}`;
      return new CallError('grpc.protocol', statusFromHttp(httpStatus), message);
    }
    const reset = this.#stream.rstCode;
    if (reset !== undefined && reset !== 0 && this.#stream.session?.destroyed === false) {
      return new CallError('grpc.lost', statusFromReset(reset), `the server reset the stream, code ${reset}`);
    }
    const why = thrown instanceof Error ? `: ${thrown.message}` : '';
    return new CallError('grpc.lost', 'UNKNOWN', `the connection ended without a status${why}`, { cause: thrown });
  }
}

/** The server sent what we do not take; compression was not offered. */
export function refuseFrame(fault: FramingFault): CallError {
  if (fault.kind === 'compressed') {
    return new CallError('grpc.protocol', 'INTERNAL', 'a compressed message, which nobody offered');
  }
  const message = `a message of ${fault.bytes} bytes, at most ${fault.maxBytes} are taken`;
  return new CallError('grpc.too_long', 'RESOURCE_EXHAUSTED', message);
}
