// What reading a connection costs: CPU time of this process a request, in process, without sockets; and how fast bodies pass.
// Run: node packages/proxy/bench/l7.ts    CPU time, medians of ROUNDS rounds after a warm-up; compare only within one run.
// Each exchange is copied into one slab as an engine's reads are; that copy is in the figure.

import { Buffer } from 'node:buffer';
import { FRAME_FLAG, FRAME_TYPE, writeFrameHeader, writeSettings, CLIENT_PREFACE } from '../src/h2/index.ts';
import { COUNTS_ONLY, type L7Listener, type L7Options, openSniffer, PlaintextTap } from '../src/index.ts';

const ROUNDS = 9;
const REQUESTS_A_ROUND = 100_000;

class Counter implements L7Listener {
  requests = 0;
  giveUps = 0;
  onProtocol(): void {}
  onRequest(): void {
    this.requests++;
  }
  onGiveUp(): void {
    this.giveUps++;
  }
}

const EVERYTHING: L7Options = { wantPath: true, wantAuthority: true, wantTraceparent: true };

function cpuNs(from: NodeJS.CpuUsage): number {
  const used = process.cpuUsage(from);
  return (used.user + used.system) * 1000;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

interface Exchange {
  readonly request: Buffer;
  readonly response: Buffer;
}

// `next` gives the exchange number i of a connection; each is one read of either side, as on a keep-alive connection.
function bench(name: string, options: L7Options, open: Exchange | undefined, next: (i: number) => Exchange): void {
  const slab = Buffer.alloc(272 * 1024);
  const rounds: number[] = [];
  for (let round = -3; round < ROUNDS; round++) {
    const counter = new Counter();
    const tap = new PlaintextTap(openSniffer(counter, options), 'client', error => {
      throw error;
    });
    const show = ({ request, response }: Exchange, nowMs: number): void => {
      request.copy(slab, 0);
      tap.fromTcp(slab, 0, request.length, nowMs);
      response.copy(slab, 0);
      tap.toTcp(slab, 0, response.length, nowMs);
    };
    if (open !== undefined) show(open, 0);
    const from = process.cpuUsage();
    for (let i = 0; i < REQUESTS_A_ROUND; i++) show(next(i), i);
    const ns = cpuNs(from);
    const expected = REQUESTS_A_ROUND + (open === undefined ? 0 : 1);
    if (counter.requests !== expected || counter.giveUps > 0) throw new Error(`${name}: requests were lost`);
    if (round >= 0) rounds.push(ns / REQUESTS_A_ROUND);
  }
  console.log(`${name.padEnd(64)} ${median(rounds).toFixed(0).padStart(7)} ns a request`);
}

function http1(): Exchange {
  const request = Buffer.from(
    'GET /api/v1/products/1234?q=shoes HTTP/1.1\r\nHost: catalog.shop.svc.cluster.local\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n',
  );
  const response = Buffer.from(
    'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Tue, 24 Nov 2026 14:11:28 GMT\r\nContent-Length: 24\r\nConnection: keep-alive\r\n\r\n{"id":1234,"name":"red"}',
  );
  return { request, response };
}

// Frames of one stream; the stream's number is written into copies by `numbered`.
function frames(parts: readonly (readonly [type: number, flags: number, payload: Buffer])[]): Buffer {
  return Buffer.concat(
    parts.map(([type, flags, payload]) => {
      const frame = Buffer.alloc(9 + payload.length);
      payload.copy(frame, writeFrameHeader(frame, 0, payload.length, type, flags, 0));
      return frame;
    }),
  );
}

function numbered(bytes: Buffer, streamId: number): Buffer {
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) bytes.writeUInt32BE(streamId, at + 5);
  return bytes;
}

// Literals with incremental indexing, as encoders send a field for the first time.
function indexing(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(
    fields.flatMap(([name, value]) => [
      Buffer.from([0x40, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]),
  );
}

const { HEADERS, DATA } = FRAME_TYPE;
const { END_HEADERS, END_STREAM } = FRAME_FLAG;

function settings(preface: string): Buffer {
  const bytes = Buffer.alloc(64);
  return bytes.subarray(0, writeSettings(bytes, bytes.write(preface, 'latin1'), []));
}

// The first exchange fills the tables, the others refer to them, as a kept connection does.
function h2(
  requestFields: [string, string][],
  answerFields: [string, string][],
  trailer: Buffer,
  body: Buffer,
): {
  open: Exchange;
  next: (i: number) => Exchange;
} {
  const indexed = (count: number): Buffer => Buffer.from(Array.from({ length: count }, (_, i) => 0x80 | (62 + i)));
  const hasBody = body.length > 0;
  const ask = (block: Buffer): Buffer =>
    hasBody
      ? frames([
          [HEADERS, END_HEADERS, block],
          [DATA, END_STREAM, body],
        ])
      : frames([[HEADERS, END_HEADERS | END_STREAM, block]]);
  const answer = (block: Buffer, end: Buffer): Buffer =>
    end.length === 0
      ? frames([
          [HEADERS, END_HEADERS, block],
          [DATA, END_STREAM, Buffer.alloc(24)],
        ])
      : frames([
          [HEADERS, END_HEADERS, block],
          [DATA, 0, body],
          [HEADERS, END_HEADERS | END_STREAM, end],
        ]);
  const first = {
    request: Buffer.concat([settings(CLIENT_PREFACE), numbered(ask(indexing(requestFields)), 1)]),
    response: Buffer.concat([settings(''), numbered(answer(indexing(answerFields), trailer), 1)]),
  };
  const request = ask(indexed(requestFields.length));
  const response = answer(indexed(answerFields.length), trailer);
  return {
    open: first,
    next: i => ({ request: numbered(request, 2 * i + 3), response: numbered(response, 2 * i + 3) }),
  };
}

console.log(`node ${process.version}, CPU time, median of ${ROUNDS} rounds`);
const pair = http1();
const sizes = `${pair.request.length} + ${pair.response.length} bytes`;
bench(`HTTP/1.1 keep-alive, ${sizes}, counts only`, COUNTS_ONLY, undefined, () => pair);
bench(`HTTP/1.1 keep-alive, ${sizes}, with path and authority`, EVERYTHING, undefined, () => pair);

const common: [string, string][] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/shop.v1.Catalog/GetProduct'],
  [':authority', 'catalog.shop.svc.cluster.local'],
  ['user-agent', 'grpc-node-js/1.12.0'],
];
const plain = h2(
  common,
  [
    [':status', '200'],
    ['content-type', 'application/json'],
    ['server', 'x'],
  ],
  Buffer.alloc(0),
  Buffer.alloc(0),
);
bench('HTTP/2, tables warm, counts only', COUNTS_ONLY, plain.open, plain.next);
bench('HTTP/2, tables warm, with path and authority', EVERYTHING, plain.open, plain.next);
const message = Buffer.concat([Buffer.from([0, 0, 0, 0, 100]), Buffer.alloc(100)]);
const call = h2(
  [...common, ['te', 'trailers'], ['content-type', 'application/grpc']],
  [
    [':status', '200'],
    ['content-type', 'application/grpc'],
  ],
  // grpc-status: 0, never indexed, with a literal name.
  Buffer.concat([Buffer.from([0, 11]), Buffer.from('grpc-status'), Buffer.from([1, 0x30])]),
  message,
);
bench('gRPC unary, 100 bytes each way, counts only', COUNTS_ONLY, call.open, call.next);
bench('gRPC unary, 100 bytes each way, with path and authority', EVERYTHING, call.open, call.next);

// Bodies pass in reads of 64 KiB.
function benchBulk(name: string, request: Buffer, head: Buffer, readOf: (i: number) => Buffer): void {
  const rates: number[] = [];
  for (let round = -1; round < ROUNDS; round++) {
    const counter = new Counter();
    const tap = new PlaintextTap(openSniffer(counter, COUNTS_ONLY), 'client', error => {
      throw error;
    });
    tap.fromTcp(request, 0, request.length, 0);
    tap.toTcp(head, 0, head.length, 0);
    let bytes = 0;
    const from = process.cpuUsage();
    for (let i = 0; i < 200_000; i++) {
      const read = readOf(i);
      tap.toTcp(read, 0, read.length, i);
      bytes += read.length;
    }
    const ns = cpuNs(from);
    if (counter.giveUps > 0) throw new Error(`${name}: given up`);
    if (round >= 0) rates.push(bytes / ns);
  }
  console.log(`${name.padEnd(64)} ${median(rates).toFixed(0).padStart(7)} GB/s of CPU time`);
}

const read64k = Buffer.alloc(65_536);
const length = 200_000 * 65_536;
benchBulk(
  'HTTP/1.1 body by length, reads of 64 KiB',
  pair.request,
  Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`),
  () => read64k,
);
const chunks = Buffer.concat(
  Array.from({ length: 4 }, () => Buffer.concat([Buffer.from('4000\r\n'), Buffer.alloc(16_384), Buffer.from('\r\n')])),
);
benchBulk(
  'HTTP/1.1 body in chunks of 16 KiB, reads of 64 KiB',
  pair.request,
  Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'),
  () => chunks,
);
const dataFrames = numbered(
  frames(Array.from({ length: 4 }, (): [number, number, Buffer] => [DATA, 0, Buffer.alloc(16_384)])),
  1,
);
const headersOnly = numbered(frames([[HEADERS, END_HEADERS, Buffer.from([0x88])]]), 1);
benchBulk(
  'HTTP/2 DATA of 16 KiB, reads of 64 KiB',
  plain.open.request,
  Buffer.concat([settings(''), headersOnly]),
  () => dataFrames,
);
const grpcHeaders = numbered(
  frames([
    [
      HEADERS,
      END_HEADERS,
      indexing([
        [':status', '200'],
        ['content-type', 'application/grpc'],
      ]),
    ],
  ]),
  1,
);
// Each frame holds four messages of 4 KiB less their prefix.
const quarter = Buffer.alloc(4096);
quarter.writeUInt32BE(4091, 1);
const grpcData = numbered(
  frames(
    Array.from({ length: 4 }, (): [number, number, Buffer] => [
      DATA,
      0,
      Buffer.concat([quarter, quarter, quarter, quarter]),
    ]),
  ),
  1,
);
benchBulk(
  'gRPC stream of 4 KiB messages, reads of 64 KiB',
  call.open.request,
  Buffer.concat([settings(''), grpcHeaders]),
  () => grpcData,
);
