// What a passive reader of a connection's plaintext sees. It looks at bytes that have been or will be carried anyway and is
// never on their way: whatever it makes of them, a connection is not touched. Plain data where it leaves the worker.

/** Protocols by the name that reports use; `tls` and `unknown` are honest answers. */
export type L7Protocol = 'http' | 'grpc' | 'postgresql' | 'redis' | 'mysql' | 'kafka' | 'tls' | 'unknown';

/** Why a reader stopped for good; the connection goes on unread. */
export type L7GiveUp =
  /** Bytes that the protocol does not allow. */
  | 'malformed'
  /** Something larger or more numerous than the reader keeps state for. */
  | 'limit'
  /** The two directions do not fit each other. */
  | 'desynchronized'
  /** The connection became something else on purpose: `101`, CONNECT, `SSLRequest` granted. Not an error. */
  | 'upgraded'
  /** The worker has no time for it. */
  | 'overload'
  /** The connection moved to another worker, and the reader was too large to go with it (`MAX_MOVED_BYTES`). */
  | 'moved';

/** One finished request (or command) of a connection. Texts are bounded by the reader. */
export interface L7Request {
  readonly protocol: 'http' | 'grpc' | 'postgresql' | 'redis' | 'mysql' | 'kafka';
  /** Monotonic milliseconds (the engine's clock) at which its first byte was seen. */
  readonly startMs: number;
  /** Until the last byte of the response was seen. */
  readonly durationMs: number;
  /** Whole size on the wire, heads included, as far as it can be attributed to this request. */
  readonly requestBytes: number;
  readonly responseBytes: number;
  /** HTTP status, 0 when no response came. Other protocols: 0. */
  readonly status: number;
  /** Number of the gRPC status; gRPC only. Absent when the trailers never came. */
  readonly grpcStatus?: number | undefined;
  readonly requestMessages: number;
  readonly responseMessages: number;
  /** Of these messages, those that `onMessages` told before. */
  readonly toldRequestMessages?: number | undefined;
  readonly toldResponseMessages?: number | undefined;
  /** HTTP method, or the command's name (`SELECT`, `GET`, `Produce`), upper bound 32 characters. */
  readonly method: string;
  /** Request target without its query, at most 256 characters; HTTP and gRPC only. */
  readonly path: string;
  /** `:authority` or Host, at most 256 characters. */
  readonly authority: string;
  /** The protocol's own error name when the answer was one (SQLSTATE, `ERR`, MySQL's number, Kafka's number). */
  readonly error?: string | undefined;
  /** `DC`: the client left before the response was whole; `UC`: the server did; absent otherwise. */
  readonly flags?: 'DC' | 'UC' | undefined;
  /** The request's own `traceparent`, when it carries a well-formed one. */
  readonly traceparent?: string | undefined;
}

/** Messages of a gRPC call that goes on: those that no earlier word on it has told. */
export interface L7Messages {
  readonly protocol: 'grpc';
  /** HTTP status so far, 0 before the response began. */
  readonly status: number;
  readonly requestMessages: number;
  readonly responseMessages: number;
  readonly method: string;
  readonly path: string;
}

/** Whoever wants to know. Called while bytes are copied: it does little, and never throws. */
export interface L7Listener {
  onProtocol(protocol: L7Protocol): void;
  onRequest(request: L7Request): void;
  onGiveUp(why: L7GiveUp): void;
  /** Only because of `tellMessages`. */
  onMessages?(messages: L7Messages): void;
  /** A request began that is not followed, because too many are under way: it will never be told. */
  onUntracked?(): void;
}

/**
 * Reads one connection. The bytes are dead after each call. `nowMs` is the engine's clock.
 * A sniffer bounds its own memory and never throws. Idle it holds 1 to 3 KiB; at work under 16 KiB, except that HTTP/2 may add,
 * while they last, 16 KiB of a header block that came in part and 70 KiB of 256 open streams with their texts.
 */
export interface L7Sniffer {
  fromClient(bytes: Uint8Array, start: number, end: number, nowMs: number): void;
  fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void;
  /** The connection ended; requests under way are told with `DC` or `UC`. */
  end(byClient: boolean, nowMs: number): void;
  /**
   * Bytes that may come from that side without being looked at: the rest of a body whose length is known. The copy engine
   * then only calls `skip`. 0: show me the next ones. Infinity: it has given up or the protocol is not read.
   */
  readonly skippableFromClient: number;
  readonly skippableFromServer: number;
  skipFromClient(bytes: number, nowMs: number): void;
  skipFromServer(bytes: number, nowMs: number): void;
}

/** A sniffer that finds out first what there is to read. */
export interface DetectingReader extends L7Sniffer {
  /** What reads once that is known, and may be shown the bytes directly; this sniffer before. */
  readonly reader: L7Sniffer;
}

/** A sniffer of a whole connection, which can go on in another thread. */
export interface MovableSniffer extends DetectingReader {
  /** Tells of the messages of calls that are under way, so that long ones are heard of before their end. */
  tellMessages(): void;
  /**
   * What `thawSniffer` makes of it elsewhere, at any point: plain data of at most 16 KiB that survives structured cloning. This sniffer
   * is dead afterwards. Undefined when there is nothing to go on with: it read nothing any more, or is too large to
   * move, which it tells as `moved`.
   */
  freeze(): unknown;
}
