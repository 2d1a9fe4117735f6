// Properties of the codec under hostile bytes: never throws, always ends, holds bounded memory, and its verdict depends
// neither on the cut of the bytes nor on hand-overs. Seeds are fixed; raise FUZZ_RUNS for a longer search.

import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FrameReader } from './frame-reader.ts';
import { FrameRecorder } from './frame-recorder.ts';
import { CLIENT_START, fullSession } from './frame-session.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { STATIC_TABLE } from './hpack-tables.ts';
import { huffmanEncode } from './huffman.ts';
import { RequestRules, ResponseRules } from './header-rules.ts';

const RUNS = Number(process.env['FUZZ_RUNS'] ?? 1500);
// Small, so that random bytes reach the limits.
const LIMITS = {
  maxFrameSize: 16_384,
  maxControlFrameBytes: 300,
  maxHeaderBlockBytes: 400,
  maxContinuations: 4,
  maxSettingsEntries: 6,
};

const hostileBytes = fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes));

// Bytes that look like frames: short lengths, known types, low stream ids, and payloads of any kind.
const frameLike = fc
  .tuple(
    fc.integer({ min: 0, max: 40 }),
    fc.integer({ min: 0, max: 11 }),
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 0, max: 5 }),
    fc.uint8Array({ minLength: 40, maxLength: 40 }),
  )
  .map(([length, type, flags, streamId, payload]) =>
    Buffer.concat([Buffer.of(0, 0, length, type, flags, 0, 0, 0, streamId), Buffer.from(payload.subarray(0, length))]),
  );
const frameSoup = fc.array(frameLike, { maxLength: 30 }).map(frames => Buffer.concat([CLIENT_START, ...frames]));

const edit = fc.record({
  at: fc.nat(2000),
  remove: fc.integer({ min: 0, max: 12 }),
  insert: fc.uint8Array({ maxLength: 12 }),
});
const mutatedSession = fc.array(edit, { minLength: 1, maxLength: 6 }).map(edits => {
  let bytes = fullSession();
  for (const { at, remove, insert } of edits) {
    const start = at % bytes.length;
    bytes = Buffer.concat([bytes.subarray(0, start), insert, bytes.subarray(start + remove)]);
  }
  return bytes;
});

interface Verdict {
  readonly lines: string[];
  readonly fault: string;
}

function readWhole(bytes: Buffer, role: 'client' | 'server'): Verdict {
  const recorder = new FrameRecorder();
  const reader = new FrameReader(role, LIMITS, recorder);
  const fault = reader.push(bytes, 0, bytes.length);
  if (fault === undefined) assertBounded(reader);
  return { lines: recorder.transcript(), fault: JSON.stringify(fault ?? null) };
}

// Pieces of the given sizes in turn, moved to another reader between pieces.
function readInPieces(bytes: Buffer, role: 'client' | 'server', sizes: readonly number[]): Verdict {
  const recorder = new FrameRecorder();
  let reader = new FrameReader(role, LIMITS, recorder);
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const end = Math.min(bytes.length, at + (sizes[i % sizes.length] ?? 1));
    const fault = reader.push(bytes, at, end);
    if (fault !== undefined) return { lines: recorder.transcript(), fault: JSON.stringify(fault) };
    assertBounded(reader);
    reader = FrameReader.fromState(role, LIMITS, recorder, structuredClone(reader.exportState()));
    at = end;
  }
  return { lines: recorder.transcript(), fault: 'null' };
}

function assertBounded(reader: FrameReader): void {
  const state = reader.exportState();
  assert.ok(state.body.length <= LIMITS.maxControlFrameBytes);
  assert.ok(state.block.length <= LIMITS.maxHeaderBlockBytes);
}

describe('frame reader', () => {
  const inputs: [name: string, bytes: fc.Arbitrary<Buffer>][] = [
    ['random bytes', hostileBytes],
    ['random bytes after a good start', hostileBytes.map(bytes => Buffer.concat([CLIENT_START, bytes]))],
    ['random frames', frameSoup],
    ['a mutated session', mutatedSession],
  ];
  for (const [name, bytes] of inputs) {
    test(`gives one verdict on ${name} however they are cut and moved`, () => {
      const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 6 });
      fc.assert(
        fc.property(bytes, fc.constantFrom('client' as const, 'server' as const), sizes, (input, role, cuts) => {
          // A client reads no preface.
          const seen = role === 'client' && input.length > 24 ? input.subarray(24) : input;
          const whole = readWhole(seen, role);
          assert.deepEqual(readInPieces(seen, role, cuts), whole);
          assert.ok(whole.lines.length <= seen.length, 'more events than bytes');
        }),
        { seed: 9113, numRuns: RUNS },
      );
    });
  }

  test('most mutated sessions are read beyond their first frame, and many fail', () => {
    const verdicts = fc.sample(mutatedSession, { seed: 9113, numRuns: 300 }).map(bytes => readWhole(bytes, 'server'));
    assert.ok(verdicts.filter(verdict => verdict.lines.length > 3).length > 150);
    assert.ok(verdicts.filter(verdict => verdict.fault !== 'null').length > 50);
  });
});

describe('HPACK decoder', () => {
  test('survives random blocks within its bounds, and so does its copy', () => {
    const block = fc
      .array(fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0x40, 0x41, 0x82, 0xbe, 0xbf, 1, 2, 0x81)), {
        maxLength: 60,
      })
      .map(bytes => Buffer.from(bytes));
    const options = { maxTableSize: 200, maxHeaderListBytes: 300 };
    fc.assert(
      fc.property(fc.array(block, { maxLength: 8 }), blocks => {
        let decoder = new HpackDecoder(options);
        decoder.settingsAcknowledged();
        decoder.decode(Buffer.of(0x20), 0, 1, { header: () => {} });
        for (const bytes of blocks) {
          const copy = HpackDecoder.fromState(structuredClone(decoder.exportState()), options);
          const first = collect(decoder, bytes);
          assert.deepEqual(collect(copy, bytes), first);
          assert.ok(first.listBytes <= options.maxHeaderListBytes);
          if (first.fault !== 0 && first.fault.kind === 'compression') return;
          const { entries } = decoder.exportState();
          assert.ok(entries.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0) <= 200);
          decoder = copy;
        }
      }),
      { seed: 7541, numRuns: RUNS },
    );
  });

  test('decodes what a model encoder with every representation wrote', () => {
    const text = fc.oneof(fc.constantFrom('', 'a', 'b', 'shop'), fc.string({ maxLength: 30 }).map(toLatin1));
    const step = fc.record({
      kind: fc.constantFrom('index', 'index', 'indexing', 'indexing', 'plain', 'never', 'resize'),
      pick: fc.nat(1000),
      reuseName: fc.boolean(),
      isHuffman: fc.boolean(),
      name: text,
      value: text,
    });
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 12 }), { maxLength: 6 }), blocks => {
        const model = new ModelEncoder();
        const decoder = new HpackDecoder({ maxHeaderListBytes: 100_000 });
        for (const steps of blocks) {
          const bytes = Buffer.concat([
            ...steps.filter(({ kind }) => kind === 'resize').map(({ pick }) => model.resize(pick)),
            ...steps.filter(({ kind }) => kind !== 'resize').map(field => model.field(field)),
          ]);
          const { fields, fault } = collect(decoder, bytes);
          assert.equal(fault, 0);
          assert.deepEqual(fields, model.taken());
          assert.deepEqual(decoder.exportState().entries, model.table);
        }
      }),
      { seed: 7541, numRuns: RUNS },
    );
  });
});

test('header rules judge any list without throwing', () => {
  const name = fc.oneof(fc.constantFrom(':method', ':status', ':authority', ':path', 'te', 'baggage'), fc.string());
  fc.assert(
    fc.property(fc.array(fc.tuple(name, fc.string({ unit: 'binary' }))), fields => {
      const request = new RequestRules();
      const response = new ResponseRules();
      for (const [key, value] of fields) {
        request.header(key, value);
        response.header(key, value);
      }
      const ruling = request.finish(1);
      if (ruling.kind === 'malformed') assert.notEqual(ruling.fault.message, '');
      response.finish(1);
    }),
    { seed: 9113, numRuns: RUNS },
  );
});

function toLatin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function collect(decoder: HpackDecoder, bytes: Buffer) {
  const fields: [string, string][] = [];
  const fault = decoder.decode(bytes, 0, bytes.length, { header: (name, value) => fields.push([name, value]) });
  const listBytes = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
  return { fields, fault, listBytes };
}

interface ModelField {
  readonly kind: string;
  readonly pick: number;
  readonly reuseName: boolean;
  readonly isHuffman: boolean;
  readonly name: string;
  readonly value: string;
}

// HPACK written the naive way: the table is an array that is cut from behind.
class ModelEncoder {
  table: [string, string][] = [];
  #capacity = 4096;
  #sent: [string, string][] = [];

  taken(): [string, string][] {
    const sent = this.#sent;
    this.#sent = [];
    return sent;
  }

  resize(capacity: number): Buffer {
    this.#capacity = capacity;
    this.#cut();
    return this.#integer(0x20, 5, capacity);
  }

  field({ kind, pick, reuseName, isHuffman, name, value }: ModelField): Buffer {
    const known = [...STATIC_TABLE, ...this.table];
    const index = (pick % known.length) + 1;
    const [knownName, knownValue] = known[index - 1] ?? ['', ''];
    if (kind === 'index') {
      this.#sent.push([knownName, knownValue]);
      return this.#integer(0x80, 7, index);
    }
    const field: [string, string] = [reuseName ? knownName : name, value];
    this.#sent.push(field);
    const [pattern, bits] = kind === 'indexing' ? [0x40, 6] : [kind === 'never' ? 0x10 : 0, 4];
    if (kind === 'indexing') {
      this.table = [field, ...this.table];
      this.#cut();
    }
    return Buffer.concat([
      this.#integer(pattern, bits, reuseName ? index : 0),
      ...(reuseName ? [] : [this.#text(name, isHuffman)]),
      this.#text(value, !isHuffman),
    ]);
  }

  #cut(): void {
    let size = 0;
    const fits = this.table.findIndex(([name, value]) => (size += name.length + value.length + 32) > this.#capacity);
    if (fits >= 0) this.table = this.table.slice(0, fits);
  }

  #text(text: string, isHuffman: boolean): Buffer {
    if (!isHuffman) return Buffer.concat([this.#integer(0, 7, text.length), Buffer.from(text, 'latin1')]);
    const code = Buffer.alloc(text.length * 4 + 1);
    const length = huffmanEncode(text, code, 0);
    return Buffer.concat([this.#integer(0x80, 7, length), code.subarray(0, length)]);
  }

  #integer(pattern: number, bits: number, value: number): Buffer {
    const mask = 2 ** bits - 1;
    if (value < mask) return Buffer.of(pattern | value);
    const bytes = [pattern | mask];
    let rest = value - mask;
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
    return Buffer.of(...bytes, rest);
  }
}
