// The open streams of one HTTP/2 connection, as far as a bystander knows them. Entries are used again, so that a request costs no
// allocation; their number and the texts they hold are bounded.
import { GrpcMessages } from './grpc-messages.ts';
import type { Move } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';

/** Most streams that are followed at once; what is opened beyond is counted by the owner and otherwise let be. */
export const MAX_OPEN_STREAMS = 256;

/** Most characters of paths, authorities and trace contexts that wait; texts beyond are left out, the requests are told all the same. */
const MAX_WAITING_TEXT = 8192;

/** Entries kept for use again; a burst of streams leaves no more behind. */
const MAX_SPARE = 8;

export class Http2Stream {
  id = 0;
  startMs = 0;
  /** Number in METHODS. */
  method = 0;
  /** Final status, 0 before it came. */
  status = 0;
  /** -1 before it came. */
  grpcStatus = -1;
  isRequestOver = false;
  /** -1 before the response is over. */
  responseEndMs = -1;
  requestBytes = 0;
  responseBytes = 0;
  /** Counters of a gRPC call, absent for other requests. */
  requestMessages: GrpcMessages | undefined = undefined;
  responseMessages: GrpcMessages | undefined = undefined;
  path = '';
  authority = '';
  traceparent = '';

  #isCall = false;
  // Counters of a call that had this entry before.
  #spareRequests: GrpcMessages | undefined = undefined;
  #spareResponses: GrpcMessages | undefined = undefined;

  get isGrpc(): boolean {
    return this.#isCall;
  }

  /** Makes it a gRPC call. */
  countMessages(): void {
    this.#isCall = true;
    this.requestMessages = this.#spareRequests ?? new GrpcMessages();
    this.responseMessages = this.#spareResponses ?? new GrpcMessages();
    this.requestMessages.reset();
    this.responseMessages.reset();
  }

  begin(id: number): void {
    this.id = id;
    this.startMs = 0;
    this.method = 0;
    this.status = 0;
    this.grpcStatus = -1;
    this.isRequestOver = false;
    this.responseEndMs = -1;
    this.requestBytes = 0;
    this.responseBytes = 0;
    if (this.#isCall) {
      this.#isCall = false;
      this.#spareRequests = this.requestMessages;
      this.#spareResponses = this.responseMessages;
      this.requestMessages = undefined;
      this.responseMessages = undefined;
    }
    this.path = '';
    this.authority = '';
    this.traceparent = '';
  }

  /** All but the texts. */
  carry(move: Move): void {
    this.startMs = move.time(this.startMs);
    this.method = move.number(this.method);
    this.status = move.number(this.status);
    this.grpcStatus = move.number(this.grpcStatus);
    this.isRequestOver = move.flag(this.isRequestOver);
    this.responseEndMs = move.time(this.responseEndMs);
    this.requestBytes = move.number(this.requestBytes);
    this.responseBytes = move.number(this.responseBytes);
    const isCall = move.flag(this.#isCall);
    if (move.isUnpacking && isCall) this.countMessages();
    this.requestMessages?.carry(move);
    this.responseMessages?.carry(move);
  }
}

export class Http2Streams {
  readonly #open = new Map<number, Http2Stream>();
  readonly #spare: Http2Stream[] = [];
  readonly #options: L7Options;
  #texts = 0;

  constructor(options: L7Options) {
    this.#options = options;
  }

  get size(): number {
    return this.#open.size;
  }

  get(id: number): Http2Stream | undefined {
    return this.#open.get(id);
  }

  /** In the order in which they were opened; closing them meanwhile is allowed. */
  all(): Iterable<Http2Stream> {
    return this.#open.values();
  }

  /** A new stream, or undefined when too many are open. */
  open(id: number): Http2Stream | undefined {
    if (this.#open.size >= MAX_OPEN_STREAMS || (this.#options.streams?.left ?? 1) <= 0) return undefined;
    return this.#begin(id);
  }

  #begin(id: number): Http2Stream {
    const stream = this.#spare.pop() ?? new Http2Stream();
    stream.begin(id);
    this.#options.streams?.take();
    this.#open.set(id, stream);
    return stream;
  }

  keepTexts(stream: Http2Stream, path: string, authority: string, traceparent: string): void {
    const texts = path.length + authority.length + traceparent.length;
    if (texts === 0 || this.#texts + texts > MAX_WAITING_TEXT) return;
    this.#texts += texts;
    stream.path = path;
    stream.authority = authority;
    stream.traceparent = traceparent;
  }

  close(stream: Http2Stream): void {
    this.#open.delete(stream.id);
    this.#options.streams?.give(1);
    this.#texts -= stream.path.length + stream.authority.length + stream.traceparent.length;
    stream.path = '';
    stream.authority = '';
    stream.traceparent = '';
    if (this.#spare.length < MAX_SPARE) this.#spare.push(stream);
  }

  /** Packing leaves none open here. */
  carry(move: Move): void {
    const open = [...this.#open.values()];
    const count = move.number(open.length);
    for (let at = 0; at < count; at++) {
      const known = open[at];
      const id = move.number(known?.id ?? 0);
      const stream = known ?? this.#begin(id);
      stream.carry(move);
      const path = move.text(stream.path);
      const authority = move.text(stream.authority);
      const traceparent = move.text(stream.traceparent);
      if (move.isUnpacking) this.keepTexts(stream, path, authority, traceparent);
    }
    if (!move.isUnpacking) this.clear();
  }

  clear(): void {
    this.#options.streams?.give(this.#open.size);
    this.#open.clear();
    this.#spare.length = 0;
    this.#texts = 0;
  }
}
