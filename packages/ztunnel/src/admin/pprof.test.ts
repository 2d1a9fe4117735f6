import assert from 'node:assert/strict';
import { test } from 'node:test';
import protobuf from 'protobufjs';
import { encodeCpu, encodeHeap } from './pprof.ts';
import { type CallFrame, type CpuProfile, ThreadProfiler } from './v8-profile.ts';

// The part of pprof's schema that is written, read by an independent implementation.
const SCHEMA = protobuf
  .parse(`
syntax = "proto3";
message Profile {
  repeated ValueType sample_type = 1; repeated Sample sample = 2; repeated Location location = 4;
  repeated Function function = 5; repeated string string_table = 6; int64 time_nanos = 9; int64 duration_nanos = 10;
  ValueType period_type = 11; int64 period = 12; repeated int64 comment = 13;
}
message ValueType { int64 type = 1; int64 unit = 2; }
message Sample { repeated uint64 location_id = 1; repeated int64 value = 2; repeated Label label = 3; }
message Label { int64 key = 1; int64 str = 2; }
message Location { uint64 id = 1; repeated Line line = 4; }
message Line { uint64 function_id = 1; int64 line = 2; }
message Function { uint64 id = 1; int64 name = 2; int64 system_name = 3; int64 filename = 4; int64 start_line = 5; }
`)
  .root.lookupType('Profile');

interface Profile {
  readonly sampleType: readonly { readonly type: number; readonly unit: number }[];
  readonly sample: readonly {
    readonly locationId: readonly number[];
    readonly value: readonly number[];
    readonly label: readonly { readonly key: number; readonly str: number }[];
  }[];
  readonly location: readonly { readonly id: number; readonly line: readonly { readonly functionId: number }[] }[];
  readonly function: readonly {
    readonly id: number;
    readonly name: number;
    readonly filename: number;
    readonly startLine: number;
  }[];
  readonly stringTable: readonly string[];
  readonly timeNanos: string;
  readonly durationNanos: number;
  readonly period: number;
  readonly comment: readonly number[];
}

interface Read {
  readonly profile: Profile;
  /** `thread: innermost < ... < outermost` -> values. */
  readonly samples: ReadonlyMap<string, readonly number[]>;
}

function read(bytes: Uint8Array): Read {
  const decoded = SCHEMA.decode(bytes);
  const profile = SCHEMA.toObject(decoded, { longs: Number, arrays: true, defaults: true }) as unknown as Profile;
  const exact = SCHEMA.toObject(decoded, { longs: String }) as unknown as Profile;
  const text = (index: number): string => profile.stringTable[index] ?? '?';
  const names = new Map(profile.function.map(({ id, name }) => [id, text(name)]));
  const places = new Map(profile.location.map(({ id, line }) => [id, names.get(line[0]?.functionId ?? 0) ?? '?']));
  const samples = new Map<string, readonly number[]>();
  for (const { locationId, value, label } of profile.sample) {
    assert.deepEqual(
      label.map(({ key }) => text(key)),
      ['thread'],
    );
    samples.set(`${text(label[0]?.str ?? 0)}: ${locationId.map(id => places.get(id)).join(' < ')}`, value);
  }
  return { profile: { ...profile, timeNanos: exact.timeNanos }, samples };
}

const frame = (functionName: string, lineNumber = 0): CallFrame => ({
  functionName,
  url: functionName.startsWith('(') ? '' : 'file:///app/a.ts',
  lineNumber,
});

test('a CPU profile counts each stack, names threads, and leaves idle time out', () => {
  const profile: CpuProfile = {
    nodes: [
      { id: 1, callFrame: frame('(root)', -1), children: [2, 3] },
      { id: 2, callFrame: frame('outer', 4), children: [4] },
      { id: 3, callFrame: frame('(idle)', -1) },
      { id: 4, callFrame: frame('', 8) },
    ],
    samples: [2, 4, 4, 3, 3, 1],
    startTime: 0,
    endTime: 1,
  };
  const bytes = encodeCpu(
    [
      { thread: 'main', profile },
      { thread: 'worker-0', profile: { ...profile, samples: [2] } },
    ],
    { periodNs: 10_000_000, durationMs: 1500.5, timeMs: 1_800_000_000_123, comments: ['left out'] },
  );
  const { profile: out, samples } = read(bytes);
  assert.deepEqual(
    [...samples],
    [
      ['main: outer', [1, 10_000_000]],
      ['main: (anonymous a.ts:9) < outer', [2, 20_000_000]],
      ['worker-0: outer', [1, 10_000_000]],
    ],
  );
  const types = out.sampleType.map(({ type, unit }) => `${out.stringTable[type]}/${out.stringTable[unit]}`);
  assert.deepEqual(types, ['samples/count', 'cpu/nanoseconds']);
  assert.deepEqual([out.timeNanos, out.durationNanos, out.period], ['1800000000123000000', 1_500_500_000, 10_000_000]);
  assert.deepEqual(
    out.comment.map(index => out.stringTable[index]),
    ['left out'],
  );
  assert.equal(out.stringTable[0], '');
  assert.deepEqual(
    out.function.map(({ startLine, filename }) => [startLine, out.stringTable[filename]]),
    [
      [5, '/app/a.ts'],
      [9, '/app/a.ts'],
    ],
  );
});

test('a heap profile adds up what lives by where it was allocated', () => {
  const leaf = { id: 3, callFrame: frame('keep', 1), children: [] };
  const outer = { id: 2, callFrame: frame('outer', 4), children: [leaf] };
  const head = { id: 1, callFrame: frame('(root)', -1), children: [outer] };
  const samples = [
    { size: 100.4, nodeId: 3 },
    { size: 50, nodeId: 3 },
    { size: 7, nodeId: 2 },
  ];
  const bytes = encodeHeap([{ thread: 'main', profile: { head, samples } }], { timeMs: 1, comments: [] });
  const out = read(bytes);
  assert.deepEqual(
    [...out.samples],
    [
      ['main: outer', [7]],
      ['main: keep < outer', [150]],
    ],
  );
});

function burn(untilMs: number): number {
  let sum = 0;
  while (performance.now() < untilMs) sum += Math.sqrt(sum + 1);
  return sum;
}

test('this thread is profiled within the call, and what burns is found', () => {
  const profiler = new ThreadProfiler();
  assert.equal(profiler.stopCpu(), undefined);
  profiler.startCpu(1000);
  burn(performance.now() + 300);
  const profile = profiler.stopCpu();
  assert.ok(profile !== undefined);
  const { samples } = read(
    encodeCpu([{ thread: 'main', profile }], { periodNs: 1e6, durationMs: 300, timeMs: 0, comments: [] }),
  );
  assert.ok(
    [...samples.keys()].some(stack => stack.startsWith('main: burn < ')),
    [...samples.keys()].join('\n'),
  );
});

test('live objects of this thread are found while sampling is on, and only then', () => {
  const profiler = new ThreadProfiler();
  assert.equal(profiler.heap(), undefined);
  profiler.startHeap();
  const kept: number[][] = [];
  const keep = (): void => void kept.push(Array.from({ length: 100_000 }, (_, i) => i + 0.5));
  for (let i = 0; i < 40; i++) keep();
  const profile = profiler.heap();
  assert.ok(profile !== undefined);
  const { samples } = read(encodeHeap([{ thread: 'main', profile }], { timeMs: 0, comments: [] }));
  const bytes = [...samples].reduce((sum, [stack, [size = 0]]) => (stack.includes('keep') ? sum + size : sum), 0);
  assert.ok(bytes > 1_000_000, `${bytes} of ${kept.length}`);
  profiler.stopHeap();
  assert.equal(profiler.heap(), undefined);
});
