// What readers of commands and answers have in common: who waits for an answer, telling it, giving up, the end.
// A connection that is given up is never looked at again, and what it held is let go. Protocols are in the subclasses.
import type { Movable, Move } from './moving.ts';
import { PendingRequests } from './pending-requests.ts';
import type { L7GiveUp, L7Listener, L7Request, L7Sniffer } from './types.ts';

/** One direction of a connection, cut into messages. */
export interface SideReader extends Movable {
  push(bytes: Uint8Array, start: number, end: number, nowMs: number): void;
  /** Bytes that it need not see: the rest of a message whose length is known. */
  readonly rest: number;
  /** As if `bytes` of the rest had been pushed; `bytes` is at most `rest`. */
  skip(bytes: number, nowMs: number): void;
  /** Nothing more is read, not even the rest of what is being pushed. */
  stop(): void;
}

/** A reader of one protocol; `onProtocol` is the detector's to call, not the reader's. */
export abstract class CommandReader implements L7Sniffer, Movable {
  readonly #protocol: L7Request['protocol'];
  #listener: L7Listener | undefined;
  protected pending: PendingRequests;
  /** Size so far of the answer to the oldest pending request. */
  protected responseBytes = 0;
  /** What was sent for that request after it was queued. */
  protected addedBytes = 0;
  /** Error of that answer. */
  protected error: string | undefined;
  protected abstract readonly client: SideReader;
  protected abstract readonly server: SideReader;

  constructor(protocol: L7Request['protocol'], listener: L7Listener, pending: PendingRequests) {
    this.#protocol = protocol;
    this.#listener = listener;
    this.pending = pending;
  }

  /** Name of a pending request's command. */
  protected abstract nameOf(word: number, kind: number): string;
  /** Whether a pending entry of that kind is a request to be told. */
  protected abstract isRequest(kind: number): boolean;

  fromClient(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.#listener !== undefined) this.client.push(bytes, start, end, nowMs);
  }

  fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.#listener !== undefined) this.server.push(bytes, start, end, nowMs);
  }

  get skippableFromClient(): number {
    return this.#listener === undefined ? Number.POSITIVE_INFINITY : this.client.rest;
  }

  get skippableFromServer(): number {
    return this.#listener === undefined ? Number.POSITIVE_INFINITY : this.server.rest;
  }

  skipFromClient(bytes: number, nowMs: number): void {
    if (this.#listener !== undefined) this.#skip(this.client, bytes, nowMs);
  }

  skipFromServer(bytes: number, nowMs: number): void {
    if (this.#listener !== undefined) this.#skip(this.server, bytes, nowMs);
  }

  end(byClient: boolean, nowMs: number): void {
    while (this.pending.length > 0) {
      if (this.isRequest(this.pending.kind(0))) this.finish(nowMs, byClient ? 'DC' : 'UC');
      else this.drop();
    }
    this.#leave();
  }

  /** Subclasses carry what they add behind it. Not after giving up: there is nothing left. */
  carry(move: Move): void {
    this.client.carry(move);
    this.server.carry(move);
    this.pending.carry(move);
    this.responseBytes = move.number(this.responseBytes);
    this.addedBytes = move.number(this.addedBytes);
    const error = move.text(this.error ?? '');
    this.error = error === '' ? undefined : error;
  }

  /** Tells the oldest pending request as finished and forgets it. */
  protected finish(nowMs: number, flags?: 'DC' | 'UC'): void {
    const { pending, error, responseBytes } = this;
    const startMs = pending.startMs(0);
    const requestBytes = pending.bytes(0) + this.addedBytes;
    const method = this.nameOf(pending.word(0), pending.kind(0));
    this.drop();
    this.tell(method, startMs, nowMs, requestBytes, responseBytes, error, flags);
  }

  /** Forgets the oldest pending entry. */
  protected drop(): void {
    this.pending.shift();
    this.responseBytes = 0;
    this.addedBytes = 0;
    this.error = undefined;
  }

  protected tell(
    method: string,
    startMs: number,
    nowMs: number,
    requestBytes: number,
    responseBytes: number,
    error: string | undefined,
    flags: 'DC' | 'UC' | undefined,
  ): void {
    this.#listener?.onRequest({
      protocol: this.#protocol,
      startMs,
      durationMs: Math.max(0, nowMs - startMs),
      requestBytes,
      responseBytes,
      status: 0,
      requestMessages: 0,
      responseMessages: 0,
      method,
      path: '',
      authority: '',
      error,
      flags,
    });
  }

  protected giveUp(why: L7GiveUp): void {
    const listener = this.#listener;
    this.#leave();
    listener?.onGiveUp(why);
  }

  #leave(): void {
    this.#listener = undefined;
    this.client.stop();
    this.server.stop();
    this.pending = new PendingRequests(0);
  }

  // More than was offered would mean that bytes went by that had to be seen.
  #skip(side: SideReader, bytes: number, nowMs: number): void {
    if (bytes > side.rest) this.giveUp('desynchronized');
    else side.skip(bytes, nowMs);
  }
}
