// Bounds of what moves, and times; that moves change nothing is tested with each reader.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import v8 from 'node:v8';
import { CLIENT_PREFACE, FRAME_FLAG, FRAME_TYPE, writeFrameHeader } from '../h2/index.ts';
import { openSniffer, thawSniffer } from './detect.ts';
import { MAX_MOVED_BYTES, Packing, Unpacking } from './moving.ts';
import { client, converse, server, SnifferRecorder } from './sniffer-recorder.ts';
import { COUNTS_ONLY, StreamBudget } from './sniffer-options.ts';

const ALL = { wantPath: true, wantAuthority: true, wantTraceparent: true };

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  payload.copy(bytes, writeFrameHeader(bytes, 0, payload.length, type, flags, streamId));
  return bytes;
}

const OPENING = Buffer.concat([Buffer.from(CLIENT_PREFACE), frame(FRAME_TYPE.SETTINGS, 0, 0, Buffer.alloc(0))]);
const ask = (streamId: number): Buffer =>
  frame(FRAME_TYPE.HEADERS, FRAME_FLAG.END_HEADERS | FRAME_FLAG.END_STREAM, streamId, Buffer.from([0x82, 0x84]));
const answer = (streamId: number): Buffer =>
  frame(FRAME_TYPE.HEADERS, FRAME_FLAG.END_HEADERS | FRAME_FLAG.END_STREAM, streamId, Buffer.from([0x88]));
const SETTINGS = frame(FRAME_TYPE.SETTINGS, 0, 0, Buffer.alloc(0));

test('times are those of the other clock, and what only looks like a time stays', () => {
  const packing = new Packing();
  packing.time(1500.25);
  packing.time(-1);
  packing.time(10);
  const { packed } = packing;
  assert.ok(packed);
  const unpacking = new Unpacking({ ...packed, originMs: performance.timeOrigin - 1000 });
  assert.ok(Math.abs(unpacking.time() - 500.25) < 0.01);
  assert.equal(unpacking.time(), -1);
  // From before the other thread's clock began.
  assert.equal(unpacking.time(), 0);
  assert.ok(unpacking.isDone);
});

test('256 streams move, in no more than the bound as a structured clone has it', () => {
  const recorder = new SnifferRecorder();
  const sniffer = openSniffer(recorder, ALL);
  const ids = Array.from({ length: 256 }, (_, i) => 2 * i + 1);
  converse(sniffer, [{ side: 'client', bytes: Buffer.concat([OPENING, ...ids.map(ask)]) }]);
  const state = sniffer.freeze();
  assert.ok(v8.serialize(state).length <= MAX_MOVED_BYTES, `${v8.serialize(state).length}`);
  const thawed = thawSniffer(structuredClone(state), recorder, ALL);
  assert.ok(thawed);
  converse(thawed, [{ side: 'server', bytes: Buffer.concat([SETTINGS, ...ids.map(answer)]) }]);
  assert.equal(recorder.lines.filter(line => line === 'GET / 200').length, 256);
});

test('what is too large to move is given up as moved, once, and the sniffer is dead', () => {
  const recorder = new SnifferRecorder();
  const sniffer = openSniffer(recorder, ALL);
  const block = frame(FRAME_TYPE.HEADERS, 0, 1, Buffer.alloc(16_380));
  converse(sniffer, [{ side: 'client', bytes: Buffer.concat([OPENING, block.subarray(0, block.length - 1)]) }]);
  assert.equal(sniffer.freeze(), undefined);
  assert.deepEqual(recorder.giveUps, ['moved']);
  converse(sniffer, [{ side: 'client', bytes: block }]);
  sniffer.end(true, 5);
  assert.equal(sniffer.freeze(), undefined);
  assert.deepEqual([recorder.giveUps, recorder.requests], [['moved'], []]);
});

test('a state of another program is no sniffer', () => {
  const sniffer = openSniffer(new SnifferRecorder(), ALL);
  converse(sniffer, [client('GET / HTTP/1.1\r\nHost: a\r\n')]);
  const { packed } = sniffer.freeze() as { packed: { values: unknown[]; originMs: number } };
  const recorder = new SnifferRecorder();
  for (const state of [
    undefined,
    { candidate: 2, packed: { ...packed, values: packed.values.slice(1) } },
    { candidate: 2, packed: { ...packed, values: [...packed.values, 1] } },
    { candidate: 1, packed },
    { candidate: 99, packed },
  ]) {
    assert.equal(thawSniffer(state, recorder, ALL), undefined);
  }
  converse(thawSniffer({ candidate: 2, packed }, recorder, ALL) ?? assert.fail('it is whole'), [
    client('\r\n'),
    server('HTTP/1.1 204 No\r\n\r\n'),
  ]);
  assert.deepEqual(recorder.lines, ['GET / 204']);
});

test('the streams of all connections share a budget, which moving takes and gives, and an end gives back', () => {
  const here = new StreamBudget(10);
  const there = new StreamBudget(4);
  const recorder = new SnifferRecorder();
  const open = (streams: number): ReturnType<typeof openSniffer> => {
    const sniffer = openSniffer(recorder, { ...COUNTS_ONLY, streams: here });
    const asked = Array.from({ length: streams }, (_, i) => ask(2 * i + 1));
    converse(sniffer, [{ side: 'client', bytes: Buffer.concat([OPENING, ...asked]) }]);
    return sniffer;
  };
  const first = open(7);
  const second = open(7);
  assert.deepEqual([here.left, recorder.untracked], [0, 4]);
  const moved = thawSniffer(structuredClone(first.freeze()), recorder, { ...COUNTS_ONLY, streams: there });
  assert.ok(moved);
  assert.deepEqual([here.left, there.left], [7, -3]);
  converse(moved, [{ side: 'client', bytes: ask(101) }]);
  assert.equal(recorder.untracked, 5);
  converse(moved, [{ side: 'server', bytes: Buffer.concat([SETTINGS, answer(1)]) }]);
  assert.equal(there.left, -2);
  moved.end(true, 9);
  second.end(true, 9);
  assert.deepEqual([here.left, there.left], [10, 4]);
});
