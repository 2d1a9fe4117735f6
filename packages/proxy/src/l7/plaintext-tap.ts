// Between a copy engine and a sniffer: shows what passes, skips what need not be shown, and lets go when there is nothing
// more to read. Whatever a sniffer does, it ends here: a fault in one costs its connection's telemetry and nothing else.
import type { L7Sniffer } from './types.ts';

/** Which end of the conversation the TCP connection leads to. */
export type TcpSide = 'client' | 'server';

export class PlaintextTap {
  readonly #sniffer: L7Sniffer;
  readonly #isClientTcp: boolean;
  readonly #onFault: (error: unknown) => void;
  #isDone = false;

  constructor(sniffer: L7Sniffer, tcpSide: TcpSide, onFault: (error: unknown) => void) {
    this.#sniffer = sniffer;
    this.#isClientTcp = tcpSide === 'client';
    this.#onFault = onFault;
  }

  /** Nothing is read any more: whoever holds it may forget it. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** Bytes that came from the TCP connection. */
  fromTcp(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    this.#show(this.#isClientTcp, bytes, start, end, nowMs);
  }

  /** Bytes that go to the TCP connection. */
  toTcp(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    this.#show(!this.#isClientTcp, bytes, start, end, nowMs);
  }

  /** The connection is over; `byClient`: the client ended it while a response may have been under way. */
  end(byClient: boolean, nowMs: number): void {
    if (this.#isDone) return;
    this.#isDone = true;
    try {
      this.#sniffer.end(byClient, nowMs);
    } catch (error) {
      this.#onFault(error);
    }
  }

  #show(isFromClient: boolean, bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    if (this.#isDone) return;
    const sniffer = this.#sniffer;
    try {
      const skippable = isFromClient ? sniffer.skippableFromClient : sniffer.skippableFromServer;
      const skipped = skippable < end - start ? skippable : end - start;
      if (skipped > 0) {
        if (isFromClient) sniffer.skipFromClient(skipped, nowMs);
        else sniffer.skipFromServer(skipped, nowMs);
      }
      if (start + skipped < end) {
        if (isFromClient) sniffer.fromClient(bytes, start + skipped, end, nowMs);
        else sniffer.fromServer(bytes, start + skipped, end, nowMs);
      }
      this.#isDone =
        sniffer.skippableFromClient === Number.POSITIVE_INFINITY &&
        sniffer.skippableFromServer === Number.POSITIVE_INFINITY;
    } catch (error) {
      this.#isDone = true;
      this.#onFault(error);
    }
  }
}
