// Test support: a reader that moves to another worker before every call, as far as a reader can tell.
import assert from 'node:assert/strict';
import { thawSniffer } from './detect.ts';
import { type Movable, Packing, Unpacking } from './moving.ts';
import type { L7Options } from './sniffer-options.ts';
import type { L7Listener, L7Sniffer, MovableSniffer } from './types.ts';

export class Wanderer<Reader extends L7Sniffer> implements L7Sniffer {
  #reader: Reader;
  readonly #move: (reader: Reader) => Reader;
  moves = 0;

  constructor(reader: Reader, move: (reader: Reader) => Reader) {
    this.#reader = reader;
    this.#move = move;
  }

  fromClient(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    this.#moved().fromClient(bytes, start, end, nowMs);
  }

  fromServer(bytes: Uint8Array, start: number, end: number, nowMs: number): void {
    this.#moved().fromServer(bytes, start, end, nowMs);
  }

  skipFromClient(bytes: number, nowMs: number): void {
    this.#moved().skipFromClient(bytes, nowMs);
  }

  skipFromServer(bytes: number, nowMs: number): void {
    this.#moved().skipFromServer(bytes, nowMs);
  }

  end(byClient: boolean, nowMs: number): void {
    this.#moved().end(byClient, nowMs);
  }

  get skippableFromClient(): number {
    return this.#reader.skippableFromClient;
  }

  get skippableFromServer(): number {
    return this.#reader.skippableFromServer;
  }

  #moved(): Reader {
    // Whoever reads nothing any more has nothing to take along.
    if (
      this.skippableFromClient !== Number.POSITIVE_INFINITY ||
      this.skippableFromServer !== Number.POSITIVE_INFINITY
    ) {
      this.#reader = this.#move(this.#reader);
      this.moves++;
    }
    return this.#reader;
  }
}

/** A reader of one protocol that moves all the time. */
export function wandering<Reader extends L7Sniffer & Movable>(make: () => Reader): Wanderer<Reader> {
  return new Wanderer(make(), old => {
    const packing = new Packing();
    old.carry(packing);
    const { packed } = packing;
    assert.ok(packed, 'it is too large to move');
    const unpacking = new Unpacking(structuredClone(packed));
    const fresh = make();
    fresh.carry(unpacking);
    assert.ok(unpacking.isDone);
    return fresh;
  });
}

/** The same for a sniffer that may still be finding out what it reads. */
export function wanderingSniffer(
  sniffer: MovableSniffer,
  listener: L7Listener,
  options: L7Options,
): Wanderer<MovableSniffer> {
  return new Wanderer(sniffer, old => {
    const thawed = thawSniffer(structuredClone(old.freeze()), listener, options);
    assert.ok(thawed);
    return thawed;
  });
}
