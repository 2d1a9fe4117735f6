// One connection to a gRPC server and the calls on it, over node:http2: what xDS and the certificate call need of gRPC and
// no more (binary messages, no compression, no name resolution or balancing). TLS proves the server by the given roots and
// by the URL's host or one alternative name; plain text goes to this machine only. connect-node was tried:
// it would cost every node 9 MB, for it is built on fetch's Headers.
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import type { DescMethodStreaming, DescMethodUnary, DescMessage, MessageShape } from '@bufbuild/protobuf';
import { CallError } from './call-error.ts';
import { dial } from './dial.ts';
import { GrpcCall } from './grpc-call.ts';
import type { GrpcTarget } from './grpc-target.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Largest message to take; 4 MiB. */
  readonly maxMessageBytes?: number | undefined;
}

export interface UnaryOptions extends CallOptions {
  /** For the whole call, reading the headers included; also told to the server. */
  readonly timeoutMs: number;
}

const CONNECT_TIMEOUT_MS = 5000;
const KEEPALIVE = { intervalMs: 30_000, timeoutMs: 10_000 } as const;
const STREAM_WINDOW_BYTES = 4 << 20;
/** The connection's window is not a setting; it is widened once the connection is up. */
const CONNECTION_WINDOW_BYTES = 16 << 20;
const MAX_HEADER_BYTES = 64 << 10;

/** An open connection. It is used until it fails or is closed; whoever wants another opens another. */
export class GrpcSession {
  readonly #http2: ClientHttp2Session;
  readonly #target: GrpcTarget;
  readonly #authority: string;
  readonly #closed: Promise<void>;
  #calls = 0;
  #isDraining = false;
  #cancelPing: () => void = () => undefined;

  /** Use `openGrpcSession`. */
  constructor(http2: ClientHttp2Session, target: GrpcTarget, authority: string) {
    this.#http2 = http2;
    this.#target = target;
    this.#authority = authority;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#closed = promise;
    http2.once('close', () => {
      this.#cancelPing();
      resolve();
    });
    // GOAWAY: calls under way go on, new ones need a new connection.
    http2.on('goaway', () => (this.#isDraining = true));
    // A failure reaches whoever has a call open through that call; without one it only means that this is closed.
    http2.on('error', () => undefined);
  }

  /** Whether new calls may be started. */
  get isUsable(): boolean {
    return !this.#isDraining && !this.#http2.closed && !this.#http2.destroyed;
  }

  /** Resolves when the connection is gone, for whatever reason. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  /** Sends one message and waits for one. @throws CallError */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    message: MessageShape<I>,
    options: UnaryOptions,
  ): Promise<MessageShape<O>> {
    const deadline = AbortSignal.timeout(options.timeoutMs);
    const signal = options.signal === undefined ? deadline : AbortSignal.any([options.signal, deadline]);
    const call = await this.#start(
      method,
      { ...options, signal },
      { 'grpc-timeout': `${Math.ceil(options.timeoutMs)}m` },
    );
    call.send(message);
    call.closeSend();
    let answer: MessageShape<O> | undefined;
    for await (const received of call.messages()) {
      if (answer !== undefined)
        throw new CallError('grpc.protocol', 'INTERNAL', 'more than one answer to one question');
      answer = received;
    }
    if (answer === undefined) throw new CallError('grpc.protocol', 'INTERNAL', 'success without an answer');
    return answer;
  }

  /** Opens a stream in both directions. @throws CallError when the headers cannot be had or the connection is gone */
  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    options: CallOptions = {},
  ): Promise<GrpcCall<I, O>> {
    return await this.#start(method, options, {});
  }

  /** Ends the connection and every call on it. Closing again changes nothing. */
  close(): void {
    this.#http2.destroy();
  }

  async #start<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O> | DescMethodStreaming<I, O>,
    { signal, maxMessageBytes = 4 << 20 }: CallOptions,
    extra: Readonly<Record<string, string>>,
  ): Promise<GrpcCall<I, O>> {
    const headers = await this.#headers();
    if (signal?.aborted === true) throw GrpcCall.aborted(signal);
    if (!this.isUsable) throw new CallError('grpc.lost', 'UNAVAILABLE', 'the connection is closed');
    this.#calls++;
    this.#ping();
    try {
      const stream = this.#http2.request({
        ...headers,
        ...extra,
        ':method': 'POST',
        ':path': `/${method.parent.typeName}/${method.name}`,
        ':authority': this.#authority,
        'content-type': 'application/grpc',
        te: 'trailers',
        'user-agent': 'ambit',
      });
      stream.once('close', () => {
        this.#calls--;
        this.#ping();
      });
      return new GrpcCall(stream, method, { maxMessageBytes, signal });
    } catch (cause) {
      this.#calls--;
      throw new CallError('grpc.credentials', 'INTERNAL', `cannot send the request's headers: ${text(cause)}`, {
        cause,
      });
    }
  }

  async #headers(): Promise<Readonly<Record<string, string>>> {
    let headers: Readonly<Record<string, string>>;
    try {
      headers = await this.#target.headers();
    } catch (cause) {
      throw new CallError('grpc.credentials', 'UNAUTHENTICATED', `cannot read the credentials: ${text(cause)}`, {
        cause,
      });
    }
    for (const [name, value] of Object.entries(headers)) {
      // node:http2 would send a line break as it is. The value may be a secret, so it is not shown.
      if (!/^[\x20-\x7e]*$/.test(value)) {
        throw new CallError(
          'grpc.credentials',
          'UNAUTHENTICATED',
          `header ${name} has a character that gRPC does not allow`,
        );
      }
    }
    return headers;
  }

  /** Keeps a PING under way while there are calls. */
  #ping(): void {
    this.#cancelPing();
    this.#cancelPing = () => undefined;
    if (this.#calls === 0 || this.#http2.destroyed) return;
    const { intervalMs, timeoutMs } = this.#target.keepalive ?? KEEPALIVE;
    const next = setTimeout(() => {
      const late = setTimeout(() => {
        const message = `no answer to a PING within ${timeoutMs} ms`;
        this.#http2.destroy(new CallError('grpc.lost', 'UNAVAILABLE', message));
      }, timeoutMs);
      late.unref();
      this.#cancelPing = () => clearTimeout(late);
      if (this.#http2.destroyed) return;
      this.#http2.ping(() => {
        clearTimeout(late);
        this.#ping();
      });
    }, intervalMs);
    next.unref();
    this.#cancelPing = () => clearTimeout(next);
  }
}

/** @throws CallError: xds.no_roots, grpc.plaintext, grpc.connect, grpc.untrusted, grpc.cancelled */
export async function openGrpcSession(
  target: GrpcTarget,
  options: { readonly signal?: AbortSignal } = {},
): Promise<GrpcSession> {
  const deadline = AbortSignal.timeout(target.connectTimeoutMs ?? CONNECT_TIMEOUT_MS);
  const signal = options.signal === undefined ? deadline : AbortSignal.any([options.signal, deadline]);
  const { socket, authority, scheme } = await dial(target, signal);
  const http2 = connectHttp2(`${scheme}://${authority}`, {
    createConnection: () => socket,
    maxHeaderListPairs: 256,
    settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES, maxHeaderListSize: MAX_HEADER_BYTES },
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onAbort = (): void => {
    const why =
      options.signal?.aborted === true
        ? GrpcCall.aborted(options.signal)
        : connectError(target.url, 'no HTTP/2 in time');
    http2.destroy(why);
  };
  let isUp = false;
  signal.addEventListener('abort', onAbort);
  // A gRPC server's first frame is SETTINGS. Who sends none is something else, or hangs.
  http2.once('remoteSettings', () => {
    isUp = true;
    resolve();
  });
  http2.once('error', error =>
    reject(error instanceof CallError ? error : connectError(target.url, text(error), error)),
  );
  http2.once('close', () => reject(connectError(target.url, 'closed before HTTP/2 began')));
  const session = new GrpcSession(http2, target, authority);
  try {
    if (signal.aborted) onAbort();
    await promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!isUp) http2.destroy();
  }
  http2.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  return session;
}

function connectError(url: string, why: string, cause?: unknown): CallError {
  return new CallError('grpc.connect', 'UNAVAILABLE', `${url}: ${why}`, { cause });
}

function text(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
