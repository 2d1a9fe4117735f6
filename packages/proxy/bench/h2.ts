// What the HTTP/2 codec costs: ns a DATA frame and ns a header block, in process, without sockets.
// Run: node packages/proxy/bench/h2.ts    Figures are medians of ROUNDS rounds after a warm-up; compare only within one run.
// Garbage collections are counted over all rounds: none in millions of frames means nothing is allocated for a frame.

import { Buffer } from 'node:buffer';
import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import {
  CLIENT_PREFACE,
  DEFAULT_FRAME_LIMITS,
  FRAME_FLAG,
  FRAME_TYPE,
  FrameReader,
  type FrameSink,
  HpackDecoder,
  HpackEncoder,
  RequestRules,
  writeConnectRequest,
  writeFrameHeader,
  writeSettings,
} from '../src/h2/index.ts';

const ROUNDS = 15;
const FRAMES_A_ROUND = 200_000;
const BLOCKS_A_ROUND = 50_000;

// Adds up what it sees, so that nothing can be optimised away.
class CountingSink implements FrameSink {
  bytes = 0;
  frames = 0;
  readonly rules = new RequestRules();
  readonly decoder = new HpackDecoder({ maxHeaderListBytes: 65_536 });

  onDataFrame(_streamId: number, flowLength: number): void {
    this.frames++;
    this.bytes += flowLength;
  }

  onData(_streamId: number, _buffer: Buffer, start: number, end: number): void {
    this.bytes += end - start;
  }

  onHeaders(streamId: number, buffer: Buffer, start: number, end: number): void {
    this.rules.reset();
    if (this.decoder.decode(buffer, start, end, this.rules) !== 0) throw new Error('bad block');
    if (this.rules.finish(streamId).kind === 'ok') this.frames++;
  }

  onPriority(): void {}
  onRstStream(): void {}
  onSettings(): void {}
  onSettingsAck(): void {}
  onPing(): void {}
  onGoaway(): void {}
  onWindowUpdate(): void {}
  onIgnoredFrame(): void {}
  onStreamFault(): void {}
}

function started(): { reader: FrameReader; sink: CountingSink } {
  const sink = new CountingSink();
  const reader = new FrameReader('server', { ...DEFAULT_FRAME_LIMITS, maxFrameSize: 1_048_576 }, sink);
  const start = Buffer.alloc(64);
  const end = writeSettings(start, start.write(CLIENT_PREFACE, 'latin1'), []);
  reader.push(start, 0, end);
  return { reader, sink };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

let collections = 0;
const observer = new PerformanceObserver(list => {
  collections += list.getEntries().length;
});
observer.observe({ entryTypes: ['gc'] });

// Entries reach the observer on a later turn of the loop; two turns empty its queue.
async function collectionsSoFar(): Promise<number> {
  await setImmediate();
  await setImmediate();
  return collections;
}

function report(name: string, rounds: number[], gcs: number): void {
  console.log(
    `${name.padEnd(46)} ${median(rounds).toFixed(1).padStart(9)} ns   ${String(gcs).padStart(5)} collections`,
  );
}

// One buffer of frames, pushed whole or in pieces of `cut` bytes, over and over.
async function benchData(name: string, payloadBytes: number, cut: number): Promise<void> {
  const { reader, sink } = started();
  const framesInBuffer = Math.max(1, Math.floor(262_144 / (payloadBytes + 9)));
  const span = Buffer.alloc(framesInBuffer * (payloadBytes + 9));
  for (let i = 0, at = 0; i < framesInBuffer; i++) {
    at = writeFrameHeader(span, at, payloadBytes, FRAME_TYPE.DATA, 0, 2 * (i % 50) + 1) + payloadBytes;
  }
  const pushes = Math.ceil(FRAMES_A_ROUND / framesInBuffer);
  const rounds: number[] = [];
  const gcsBefore = await collectionsSoFar();
  for (let round = -3; round < ROUNDS; round++) {
    const from = process.hrtime.bigint();
    for (let i = 0; i < pushes; i++) {
      for (let at = 0; at < span.length; at += cut) reader.push(span, at, Math.min(span.length, at + cut));
    }
    const ns = Number(process.hrtime.bigint() - from);
    if (round >= 0) rounds.push(ns / (pushes * framesInBuffer));
  }
  if (sink.frames !== pushes * framesInBuffer * (ROUNDS + 3)) throw new Error('frames were lost');
  report(name, rounds, (await collectionsSoFar()) - gcsBefore);
}

const REQUEST = {
  authority: '10.61.1.11:8080',
  baggage:
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,service.version=v1',
  forwarded: 'for="10.61.1.10:43122";host=cart.shop.svc.cluster.local',
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00',
  xForwardedNetwork: undefined,
};

async function benchHeaders(): Promise<void> {
  const { reader, sink } = started();
  const frame = Buffer.alloc(1000);
  const encoder = new HpackEncoder();
  const end = writeConnectRequest(encoder, frame, 9, REQUEST);
  writeFrameHeader(frame, 0, end - 9, FRAME_TYPE.HEADERS, FRAME_FLAG.END_HEADERS, 1);
  let gcsBefore = await collectionsSoFar();
  const decoding = timeBlocks(() => reader.push(frame, 0, end));
  if (sink.frames !== BLOCKS_A_ROUND * (ROUNDS + 3)) throw new Error('requests were lost');
  let gcs = await collectionsSoFar();
  report(`CONNECT request read and judged, ${end - 9} bytes`, decoding, gcs - gcsBefore);
  gcsBefore = gcs;
  const encoding = timeBlocks(() => writeConnectRequest(encoder, frame, 9, REQUEST));
  gcs = await collectionsSoFar();
  report('CONNECT request written', encoding, gcs - gcsBefore);
}

function timeBlocks(run: () => unknown): number[] {
  const rounds: number[] = [];
  for (let round = -3; round < ROUNDS; round++) {
    const from = process.hrtime.bigint();
    for (let i = 0; i < BLOCKS_A_ROUND; i++) run();
    if (round >= 0) rounds.push(Number(process.hrtime.bigint() - from) / BLOCKS_A_ROUND);
  }
  return rounds;
}

console.log(`node ${process.version}, median of ${ROUNDS} rounds`);
await benchData('DATA frame of 16 KiB, whole', 16_384, 1 << 20);
await benchData('DATA frame of 16 KiB, in reads of 4 KiB', 16_384, 4096);
await benchData('DATA frame of 1 MiB, in reads of 256 KiB', 1_048_576, 262_144);
await benchData('DATA frame of 100 bytes, whole', 100, 1 << 20);
await benchData('DATA frame of 1 byte, in reads of 5 bytes', 1, 5);
await benchHeaders();
observer.disconnect();
