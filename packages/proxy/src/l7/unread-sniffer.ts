// A reader that gives up at the first byte.
import type { L7Listener, L7Sniffer } from './types.ts';

/** For a protocol that can be named but not read. */
export class UnreadSniffer implements L7Sniffer {
  readonly skippableFromClient = Number.POSITIVE_INFINITY;
  readonly skippableFromServer = Number.POSITIVE_INFINITY;
  #listener: L7Listener | undefined;

  constructor(listener: L7Listener) {
    this.#listener = listener;
  }

  fromClient(_bytes: Uint8Array, _start: number, _end: number, _nowMs: number): void {
    this.#listener?.onGiveUp('limit');
    this.#listener = undefined;
  }

  fromServer(_bytes: Uint8Array, _start: number, _end: number, _nowMs: number): void {}
  end(_byClient: boolean, _nowMs: number): void {}
  skipFromClient(_bytes: number, _nowMs: number): void {}
  skipFromServer(_bytes: number, _nowMs: number): void {}
}
