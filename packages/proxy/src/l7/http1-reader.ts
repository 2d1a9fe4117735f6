// Reads an HTTP/1.x connection of which it is no part: pairs each response with its request and tells of the pair when both are
// over. Guarantees: the same bytes give the same requests however they are cut; never throws; under 16 KiB of state.
// When the client's bytes stop making sense, the requests before them are still answered and told; then it gives up.
import { Http1Direction } from './http1-body.ts';
import { Http1Queue } from './http1-queue.ts';
import type { Movable, Move } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';
import { METHODS } from './sniffer-texts.ts';
import type { L7GiveUp, L7Listener, L7Sniffer } from './types.ts';

const HEAD = METHODS.indexOf('HEAD');
const CONNECT = METHODS.indexOf('CONNECT');

/**
 * One connection. It does not call `onProtocol`: whoever recognised HTTP does.
 *
 * A request is told once its response is over, and its own body too: an early response waits for the rest of the upload.
 * `101`, and any `2xx` to CONNECT, are told and then given up as `upgraded` (also `h2c`). Requests under way when the server's
 * bytes stop making sense are not told, since their outcome is unknown.
 */
export class Http1Reader implements L7Sniffer, Movable {
  readonly #listener: L7Listener;
  readonly #client: Http1Direction;
  readonly #server: Http1Direction;
  readonly #queue = new Http1Queue();
  #requestStartMs = 0;
  // Whether the newest request of the queue has bytes to come.
  #isRequestOpen = false;
  // The final status of the response under way, 0 before its head.
  #status = 0;
  // A response that was over before its request: when it ended, else -1.
  #earlyEndMs = -1;
  // Why the client is no longer read.
  #clientFault: L7GiveUp | '' = '';
  // The server speaks unasked: all it can want to say is that it closes.
  #isFarewell = false;
  #isOver = false;

  constructor(listener: L7Listener, options: L7Options) {
    this.#listener = listener;
    this.#client = new Http1Direction(true, options);
    this.#server = new Http1Direction(false, options);
  }

  get skippableFromClient(): number {
    return this.#client.skippable;
  }

  get skippableFromServer(): number {
    return this.#server.skippable;
  }

  fromClient(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    const client = this.#client;
    let at = start;
    while (at < end && client.phase !== 'dead') {
      if (client.bytes === 0) {
        // RFC 9112 §2.2: empty lines in front of a request are not part of it.
        while (at < end && (bytes[at] === 13 || bytes[at] === 10)) at++;
        if (at === end) return;
        this.#requestStartMs = nowMs;
      }
      at = client.read(bytes, at, end);
      this.#afterClient();
    }
  }

  fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    const server = this.#server;
    let at = start;
    while (at < end && server.phase !== 'dead') {
      const isUnasked = server.bytes === 0 && this.#queue.length === 0;
      if (isUnasked && this.#client.bytes > 0) this.#admitUnfinished();
      else if (isUnasked) this.#isFarewell = true;
      else if (this.#earlyEndMs >= 0) {
        this.#giveUp('desynchronized');
        return;
      }
      at = server.read(bytes, at, end);
      this.#afterServer(nowMs);
    }
  }

  skipFromClient(bytes: number, _nowMs: number): void {
    if (bytes <= 0) return;
    if (bytes > this.#client.skippable) {
      this.#giveUp('desynchronized');
      return;
    }
    this.#client.skip(bytes);
    this.#afterClient();
  }

  skipFromServer(bytes: number, nowMs: number): void {
    if (bytes <= 0) return;
    if (bytes > this.#server.skippable) {
      this.#giveUp('desynchronized');
      return;
    }
    this.#server.skip(bytes);
    this.#afterServer(nowMs);
  }

  end(byClient: boolean, nowMs: number): void {
    if (this.#isOver) return;
    this.#settleRequest();
    if (this.#earlyEndMs >= 0) this.#tell(this.#earlyEndMs, undefined);
    else if (this.#server.phase === 'to_end' && !byClient) this.#tell(nowMs, undefined);
    while (this.#queue.length > 0) this.#tell(nowMs, byClient ? 'DC' : 'UC');
    if (this.#clientFault === '') this.#close();
    else this.#giveUp(this.#clientFault);
  }

  carry(move: Move): void {
    this.#client.carry(move);
    this.#server.carry(move);
    this.#queue.carry(move);
    this.#requestStartMs = move.time(this.#requestStartMs);
    this.#isRequestOpen = move.flag(this.#isRequestOpen);
    this.#status = move.number(this.#status);
    this.#earlyEndMs = move.time(this.#earlyEndMs);
    this.#clientFault = move.text(this.#clientFault);
    this.#isFarewell = move.flag(this.#isFarewell);
    this.#isOver = move.flag(this.#isOver);
  }

  #afterClient(): void {
    const client = this.#client;
    switch (client.event) {
      case 'none':
        return;
      case 'head':
        this.#requestHead();
        return;
      case 'message':
        this.#requestOver();
        return;
      case 'malformed':
      case 'limit':
        this.#clientBroke(client.event);
        return;
    }
  }

  // A request that is answered before its head is whole, as servers do with what is too slow or too large for them.
  #admitUnfinished(): void {
    const { method, path, authority, traceparent } = this.#client.head;
    this.#queue.push(this.#requestStartMs, method, path, authority, traceparent);
    this.#isRequestOpen = true;
  }

  #requestHead(): void {
    const client = this.#client;
    const head = client.head;
    if (this.#queue.isFull) {
      this.#clientBroke('limit');
      return;
    }
    if (!this.#isRequestOpen) {
      this.#queue.push(this.#requestStartMs, head.method, head.path, head.authority, head.traceparent);
      this.#isRequestOpen = true;
    }
    if (head.coding === 'chunked') client.beginChunks();
    else if (!client.beginLength(Math.max(head.contentLength, 0))) this.#requestOver();
  }

  #requestOver(): void {
    this.#settleRequest();
    this.#client.beginMessage();
    if (this.#earlyEndMs >= 0) this.#tell(this.#earlyEndMs, undefined);
    this.#giveUpWhenAnswered();
  }

  // The newest request has all the bytes it will get.
  #settleRequest(): void {
    if (!this.#isRequestOpen) return;
    this.#isRequestOpen = false;
    this.#queue.setNewestBytes(this.#client.bytes);
  }

  #clientBroke(why: L7GiveUp): void {
    this.#clientFault = why;
    this.#settleRequest();
    this.#client.stop();
    if (this.#earlyEndMs >= 0) this.#tell(this.#earlyEndMs, undefined);
    this.#giveUpWhenAnswered();
  }

  #giveUpWhenAnswered(): void {
    if (this.#clientFault !== '' && this.#queue.length === 0) this.#giveUp(this.#clientFault);
  }

  #afterServer(nowMs: number): void {
    const server = this.#server;
    if (this.#isFarewell) {
      if (server.event !== 'none') this.#farewell(nowMs);
      return;
    }
    switch (server.event) {
      case 'none':
        return;
      case 'head':
        this.#responseHead(nowMs);
        return;
      case 'message':
        this.#responseOver(nowMs);
        return;
      case 'malformed':
      case 'limit':
        this.#giveUp(server.event);
        return;
    }
  }

  // RFC 9110 §15.5.9: 408 is what nginx, HAProxy and Node say to a client that kept its connection and asked for nothing. What
  // was asked meanwhile is not answered any more.
  #farewell(nowMs: number): void {
    if (this.#server.event !== 'head' || this.#server.head.status !== 408) {
      this.#giveUp('desynchronized');
      return;
    }
    this.#settleRequest();
    while (this.#queue.length > 0) this.#tell(nowMs, 'UC');
    this.#close();
  }

  // RFC 9112 §6.3, in its order.
  #responseHead(nowMs: number): void {
    const server = this.#server;
    const head = server.head;
    const method = this.#queue.method;
    const status = head.status;
    if (status < 200 && status !== 101) {
      server.beginFinalHead();
      return;
    }
    this.#status = status;
    if (status === 101 || (method === CONNECT && status < 300)) {
      this.#settleOldest();
      this.#tell(nowMs, undefined);
      this.#giveUp('upgraded');
    } else if (method === HEAD || status === 204 || status === 304) {
      this.#responseOver(nowMs);
    } else if (head.hasFaultyFraming) {
      this.#giveUp('malformed');
    } else if (head.coding === 'chunked') {
      server.beginChunks();
    } else if (head.coding === 'other' || head.contentLength < 0) {
      server.beginToEnd();
    } else if (!server.beginLength(head.contentLength)) {
      this.#responseOver(nowMs);
    }
  }

  #responseOver(nowMs: number): void {
    if (this.#queue.length === 1 && this.#isRequestOpen) {
      this.#earlyEndMs = nowMs;
      // The bytes stay counted until it is told.
      this.#server.phase = 'head';
      this.#server.head.begin();
      return;
    }
    this.#tell(nowMs, undefined);
    this.#giveUpWhenAnswered();
  }

  // The response ended the exchange, whatever the client still sends.
  #settleOldest(): void {
    if (this.#queue.length === 1) this.#settleRequest();
  }

  // Tells of the oldest request, whose response ended at `endMs` or never will.
  #tell(endMs: number, flags: 'DC' | 'UC' | undefined): void {
    const request = this.#queue;
    this.#listener.onRequest({
      protocol: 'http',
      startMs: request.startMs,
      durationMs: endMs - request.startMs,
      requestBytes: request.requestBytes,
      responseBytes: this.#server.bytes,
      status: this.#status,
      grpcStatus: undefined,
      requestMessages: 0,
      responseMessages: 0,
      method: METHODS[request.method] ?? '',
      path: request.path,
      authority: request.authority,
      error: undefined,
      flags,
      traceparent: request.traceparent === '' ? undefined : request.traceparent,
    });
    this.#queue.shift();
    this.#status = 0;
    this.#earlyEndMs = -1;
    this.#server.beginMessage();
  }

  #giveUp(why: L7GiveUp): void {
    if (this.#isOver) return;
    // A response that was whole is told, whatever became of its request.
    this.#settleRequest();
    if (this.#earlyEndMs >= 0) this.#tell(this.#earlyEndMs, undefined);
    this.#close();
    this.#listener.onGiveUp(why);
  }

  #close(): void {
    this.#isOver = true;
    this.#client.stop();
    this.#server.stop();
    this.#queue.clear();
  }
}
