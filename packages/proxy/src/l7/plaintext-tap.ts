// Between a copy engine and a sniffer: shows what passes, skips what need not be shown, and lets go when there is nothing
// more to read. Whatever a sniffer does, it ends here: a fault in one costs its connection's telemetry and nothing else.
import type { DetectingReader, L7Sniffer } from './types.ts';

/** Which end of the conversation the TCP connection leads to. */
export type TcpSide = 'client' | 'server';

export class PlaintextTap {
  readonly #sniffer: DetectingReader;
  // What reads now: the sniffer itself until it has found out what there is to read.
  #reader: L7Sniffer;
  readonly #isClientTcp: boolean;
  readonly #onFault: (error: unknown) => void;
  #isDone = false;

  constructor(sniffer: DetectingReader, tcpSide: TcpSide, onFault: (error: unknown) => void) {
    this.#sniffer = sniffer;
    this.#reader = sniffer.reader;
    this.#isClientTcp = tcpSide === 'client';
    this.#onFault = onFault;
  }

  /** Nothing is read any more, which shows when bytes come: whoever holds it may forget it. */
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

  /** The connection is read elsewhere: nothing is shown any more, its end neither. */
  letGo(): void {
    this.#isDone = true;
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
    const reader = this.#reader;
    try {
      const skippable = isFromClient ? reader.skippableFromClient : reader.skippableFromServer;
      if (skippable > 0) {
        if (reader.skippableFromClient === Infinity && reader.skippableFromServer === Infinity) {
          this.#isDone = true;
          return;
        }
        const skipped = Math.min(skippable, end - start);
        if (isFromClient) reader.skipFromClient(skipped, nowMs);
        else reader.skipFromServer(skipped, nowMs);
        if (start + skipped === end) return;
        start += skipped;
      }
      if (isFromClient) reader.fromClient(bytes, start, end, nowMs);
      else reader.fromServer(bytes, start, end, nowMs);
      if (reader === this.#sniffer) this.#reader = this.#sniffer.reader;
    } catch (error) {
      this.#isDone = true;
      this.#onFault(error);
    }
  }
}
