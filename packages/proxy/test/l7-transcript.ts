// Conversations written down, and the ways to show one to a reader: whole, in pieces, damaged.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import type { Movable } from '../src/l7/moving.ts';
import { wandering } from '../src/l7/sniffer-wanderer.ts';
import type { L7Listener, L7Sniffer } from '../src/l7/types.ts';
import { L7Recorder } from './l7-recorder.ts';

/** What one side says before the other does. */
export interface Turn {
  readonly side: 'client' | 'server';
  readonly bytes: Buffer;
}

export type MakeReader = (listener: L7Listener) => L7Sniffer & Movable;

export function client(...parts: readonly Buffer[]): Turn {
  return { side: 'client', bytes: Buffer.concat(parts) };
}

export function server(...parts: readonly Buffer[]): Turn {
  return { side: 'server', bytes: Buffer.concat(parts) };
}

/**
 * Shows all turns in pieces of at most `sizes` bytes, one after another and over again. The clock is the number of the
 * turn, so pieces make no difference to times. What need not be seen is skipped.
 */
export function readPieces(
  make: (listener: L7Listener) => L7Sniffer,
  turns: readonly Turn[],
  sizes: readonly number[],
): L7Recorder {
  const recorder = new L7Recorder();
  const reader = make(recorder);
  let piece = 0;
  for (const [nowMs, { side, bytes }] of turns.entries()) {
    for (let at = 0; at < bytes.length; ) {
      const step = Math.min(sizes[piece++ % sizes.length] ?? 1, bytes.length - at);
      at = show(reader, side, bytes, at, at + step, nowMs);
    }
  }
  reader.end(true, turns.length);
  return recorder;
}

/** Shows all turns as they are, and nothing is skipped. */
export function readWhole(make: MakeReader, turns: readonly Turn[]): L7Recorder {
  const recorder = new L7Recorder();
  const reader = make(recorder);
  for (const [nowMs, { side, bytes }] of turns.entries()) {
    if (side === 'client') reader.fromClient(bytes, 0, bytes.length, nowMs);
    else reader.fromServer(bytes, 0, bytes.length, nowMs);
  }
  reader.end(true, turns.length);
  return recorder;
}

// Bytes are dead after each call, so each is shown in a buffer that is spoilt afterwards.
function show(reader: L7Sniffer, side: Turn['side'], bytes: Buffer, start: number, end: number, nowMs: number): number {
  const skippable = side === 'client' ? reader.skippableFromClient : reader.skippableFromServer;
  assert.ok(skippable >= 0, `${skippable} bytes may be skipped`);
  const skipped = Math.min(skippable, end - start);
  if (skipped > 0) {
    if (side === 'client') reader.skipFromClient(skipped, nowMs);
    else reader.skipFromServer(skipped, nowMs);
  }
  const shown = Buffer.concat([Buffer.alloc(3, 0xee), bytes.subarray(start + skipped, end), Buffer.alloc(3, 0xee)]);
  if (side === 'client') reader.fromClient(shown, 3, shown.length - 3, nowMs);
  else reader.fromServer(shown, 3, shown.length - 3, nowMs);
  shown.fill(0xee);
  return end;
}

/** Any pieces make the same of it as one, also when the reader moves to another worker before each. */
export function assertPiecesDoNotMatter(make: MakeReader, turns: readonly Turn[], seed: number): void {
  const whole = readWhole(make, turns);
  const makeMoving = (listener: L7Listener): L7Sniffer => wandering(() => make(listener));
  assert.deepEqual(readPieces(make, turns, [1]), whole);
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 4000 })), {
    minLength: 1,
  });
  fc.assert(
    fc.property(sizes, someSizes => {
      assert.deepEqual(readPieces(make, turns, someSizes), whole);
    }),
    { seed, numRuns: 100 },
  );
  fc.assert(
    fc.property(sizes, someSizes => {
      assert.deepEqual(readPieces(makeMoving, turns, someSizes), whole);
    }),
    { seed, numRuns: 20 },
  );
}

/** Damaged conversations and mere noise end in at most one giving up, and after it nothing is told. */
export function assertNoiseIsHarmless(make: MakeReader, turns: readonly Turn[], seed: number): void {
  const damage = fc.record({
    turn: fc.nat({ max: turns.length - 1 }),
    at: fc.nat(),
    kind: fc.constantFrom('change', 'drop', 'double', 'noise'),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  });
  fc.assert(
    fc.property(
      fc.array(damage, { minLength: 1, maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 }),
      (damages, sizes) => {
        const damaged = turns.map(({ side, bytes }) => ({ side, bytes: Buffer.from(bytes) }));
        for (const { turn, at, kind, bytes } of damages) {
          const hit = damaged[turn];
          if (hit === undefined) continue;
          const where = at % Math.max(1, hit.bytes.length);
          if (kind === 'change') hit.bytes.set(bytes.subarray(0, hit.bytes.length - where), where);
          else hit.bytes = Buffer.concat([hit.bytes.subarray(0, where), ...replacement(kind, hit.bytes, where, bytes)]);
        }
        const recorder = readPieces(make, damaged, sizes);
        assert.ok(recorder.givenUp.length <= 1);
        for (const { durationMs, requestBytes, responseBytes, method } of recorder.requests) {
          assert.ok(durationMs >= 0 && requestBytes >= 0 && responseBytes >= 0);
          assert.match(method, /^[A-Z_a-z.]{1,32}$/);
        }
      },
    ),
    { seed, numRuns: 500 },
  );
}

function replacement(kind: string, bytes: Buffer, where: number, noise: Uint8Array): readonly Uint8Array[] {
  if (kind === 'drop') return [bytes.subarray(where + noise.length)];
  if (kind === 'double') return [bytes.subarray(where - (where % 7)), bytes.subarray(where)];
  return [noise];
}
