import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CLIENT_PREFACE, FRAME_FLAG, FRAME_TYPE, SETTING, writeFrameHeader } from '../h2/index.ts';
import { Http2Reader } from './http2-reader.ts';
import { converse, everywhere, SnifferRecorder, type Turn } from './sniffer-recorder.ts';
import { wandering } from './sniffer-wanderer.ts';
import type { L7Sniffer } from './types.ts';

const ALL = { wantPath: true, wantAuthority: true, wantTraceparent: true };
const { HEADERS, DATA, CONTINUATION, PUSH_PROMISE, RST_STREAM, SETTINGS, GOAWAY, PING } = FRAME_TYPE;
const { END_HEADERS, END_STREAM, PADDED, PRIORITY, ACK } = FRAME_FLAG;

function frame(type: number, flags: number, streamId: number, payload: Uint8Array | string = ''): Buffer {
  const bytes = Buffer.from(payload);
  const header = Buffer.alloc(9);
  writeFrameHeader(header, 0, bytes.length, type, flags, streamId);
  return Buffer.concat([header, bytes]);
}

function uint32(...values: number[]): Buffer {
  return Buffer.concat(
    values.map(value => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(value);
      return bytes;
    }),
  );
}

// Fields as literals that go into no table.
function fields(list: Record<string, string>): Buffer {
  return Buffer.concat(
    Object.entries(list).flatMap(([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from(
        value.length < 127 ? [value.length] : [127, ((value.length - 127) & 0x7f) | 0x80, (value.length - 127) >> 7],
      ),
      Buffer.from(value),
    ]),
  );
}

function from(side: Turn['side'], ...frames: readonly (Buffer | string)[]): Turn {
  return { side, bytes: Buffer.concat(frames.map(each => Buffer.from(each))) };
}

const HELLO = from('client', CLIENT_PREFACE, frame(SETTINGS, 0, 0));
const WELCOME = from('server', frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0));
const get = (path: string, extra: Record<string, string> = {}): Buffer =>
  fields({ ':method': 'GET', ':scheme': 'http', ':path': path, ':authority': 'shop', ...extra });
const ask = (streamId: number, path = '/a'): Turn =>
  from('client', frame(HEADERS, END_HEADERS | END_STREAM, streamId, get(path)));
const answer = (streamId: number, status = '200'): Turn =>
  from('server', frame(HEADERS, END_HEADERS | END_STREAM, streamId, fields({ ':status': status })));

function read(turns: readonly Turn[], cuts: number[][] = []): { recorder: SnifferRecorder; reader: Http2Reader } {
  const recorder = new SnifferRecorder();
  const reader = new Http2Reader(recorder, ALL);
  converse(reader, turns, cuts);
  return { recorder, reader };
}

/** The same by a reader that moves to another worker before every piece. */
function readMoving(turns: readonly Turn[], cuts: number[][]): { recorder: SnifferRecorder; reader: L7Sniffer } {
  const recorder = new SnifferRecorder();
  const reader = wandering(() => new Http2Reader(recorder, ALL));
  converse(reader, turns, cuts);
  return { recorder, reader };
}

const GRPC = { 'content-type': 'application/grpc+proto' };
const message = (size: number): Buffer => Buffer.concat([Buffer.from([0]), uint32(size), Buffer.alloc(size, 7)]);
const padded = Buffer.concat([Buffer.from([5]), message(3), Buffer.alloc(5)]);
const large = get('/large', { 'x-large': 'y'.repeat(3000) });

const CASES: { name: string; turns: Turn[]; lines: string[]; giveUps?: string[]; end?: 'client' | 'server' }[] = [
  {
    name: 'streams that overlap, answered in any order',
    turns: [HELLO, WELCOME, ask(1, '/1'), ask(3, '/3?q'), answer(3, '404'), answer(1)],
    lines: ['GET /3 404', 'GET /1 200'],
  },
  {
    name: 'a server that talks first',
    turns: [from('server', frame(SETTINGS, 0, 0)), HELLO, ask(1), answer(1)],
    lines: ['GET /a 200'],
  },
  {
    name: 'a block in three frames, with padding and priority',
    turns: [
      HELLO,
      from(
        'client',
        frame(
          HEADERS,
          END_STREAM | PADDED | PRIORITY,
          1,
          Buffer.concat([Buffer.from([4]), uint32(0), Buffer.from([9]), large.subarray(0, 5), Buffer.alloc(4)]),
        ),
        frame(CONTINUATION, 0, 1, large.subarray(5, 1000)),
        frame(CONTINUATION, END_HEADERS, 1, large.subarray(1000)),
      ),
      WELCOME,
      answer(1),
    ],
    lines: ['GET /large 200'],
  },
  {
    name: 'a promise in two frames opens no request',
    turns: [
      HELLO,
      WELCOME,
      ask(1),
      from(
        'server',
        frame(PUSH_PROMISE, 0, 1, Buffer.concat([uint32(2), get('/pushed').subarray(0, 9)])),
        frame(CONTINUATION, END_HEADERS, 1, get('/pushed').subarray(9)),
      ),
      answer(1),
    ],
    lines: ['GET /a 200'],
  },
  {
    name: 'interim responses, trailers, pings and unknown frames',
    turns: [
      HELLO,
      WELCOME,
      from(
        'client',
        frame(HEADERS, END_HEADERS, 1, get('/up')),
        frame(DATA, 0, 1, 'abc'),
        frame(0xbe, 0x5, 1, 'grease'),
      ),
      from('server', frame(HEADERS, END_HEADERS, 1, fields({ ':status': '103' })), frame(PING, 0, 0, '12345678')),
      from('client', frame(HEADERS, END_HEADERS | END_STREAM, 1, fields({ 'x-sum': '1' }))),
      from(
        'server',
        frame(HEADERS, END_HEADERS, 1, fields({ ':status': '201' })),
        frame(DATA, PADDED, 1, '\x03x\0\0\0'),
      ),
      from('server', frame(DATA, 0, 1), frame(DATA, END_STREAM, 1)),
    ],
    lines: ['GET /up 201'],
  },
  {
    name: 'a pushed stream is no request, and its block still counts for the table',
    turns: [
      HELLO,
      WELCOME,
      ask(1),
      // :authority goes into the server's table and is referred to by the trailers.
      from(
        'server',
        frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([uint32(2), Buffer.from([0x82, 0x41, 1, 0x61])])),
        frame(HEADERS, END_HEADERS | END_STREAM, 2, Buffer.from([0x88])),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, Buffer.from([0x88, 0xbe])),
      ),
    ],
    lines: ['GET /a 200'],
  },
  {
    name: 'resets by either side, and what follows them',
    turns: [
      HELLO,
      WELCOME,
      ask(1, '/1'),
      ask(3, '/3'),
      from('client', frame(RST_STREAM, 0, 1, uint32(8))),
      from('server', frame(RST_STREAM, 0, 3, uint32(7)), frame(HEADERS, END_HEADERS, 1, Buffer.from([0x88]))),
      from('server', frame(DATA, END_STREAM, 1, 'late')),
    ],
    lines: ['GET /1 0 DC', 'GET /3 0 UC'],
  },
  {
    name: 'a response that was whole before the reset of its request',
    turns: [
      HELLO,
      WELCOME,
      from('client', frame(HEADERS, END_HEADERS, 1, get('/early'))),
      answer(1, '413'),
      from('server', frame(RST_STREAM, 0, 1, uint32(0))),
    ],
    lines: ['GET /early 413'],
  },
  {
    name: 'GOAWAY leaves out what came after its last stream',
    turns: [
      HELLO,
      WELCOME,
      ask(1, '/1'),
      ask(3, '/3'),
      from('server', frame(GOAWAY, 0, 0, `${uint32(1, 0).toString('latin1')}bye`)),
      answer(1),
    ],
    lines: ['GET /3 0 UC', 'GET /1 200'],
  },
  {
    name: 'a client that leaves',
    turns: [HELLO, WELCOME, ask(1), ask(3)],
    end: 'client',
    lines: ['GET /a 0 DC', 'GET /a 0 DC'],
  },
  { name: 'a server that leaves', turns: [HELLO, WELCOME, ask(1)], end: 'server', lines: ['GET /a 0 UC'] },
  {
    name: 'garbage behind a request: answered, then given up',
    turns: [HELLO, WELCOME, ask(1), from('client', frame(CONTINUATION, 0, 9, 'x')), answer(1)],
    lines: ['GET /a 200'],
    giveUps: ['malformed'],
  },
  {
    name: 'an early response counts when the client breaks',
    turns: [
      HELLO,
      WELCOME,
      from('client', frame(HEADERS, END_HEADERS, 1, get('/up'))),
      from('client', frame(HEADERS, END_HEADERS, 3, get('/up'))),
      answer(1, '413'),
      from('client', frame(DATA, 0, 0, 'x')),
      answer(3, '200'),
    ],
    lines: ['GET /up 413', 'GET /up 200'],
    giveUps: ['malformed'],
  },
  {
    name: 'an answer in HTTP/1.1',
    turns: [HELLO, ask(1), { side: 'server', bytes: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }],
    lines: [],
    giveUps: ['malformed'],
  },
];

// Frames of the client that end the reading at once.
const BROKEN: Record<string, { frames: Buffer[]; why: string }> = {
  'a block of HPACK that refers to nothing': {
    frames: [frame(HEADERS, END_HEADERS, 1, Buffer.from([0xff, 0x10]))],
    why: 'malformed',
  },
  'a request on an even stream': { frames: [frame(HEADERS, END_HEADERS, 2, get('/'))], why: 'malformed' },
  'headers on stream 0': { frames: [frame(HEADERS, END_HEADERS, 0, get('/'))], why: 'malformed' },
  'data on stream 0': { frames: [frame(DATA, 0, 0, 'x')], why: 'malformed' },
  'a frame inside a block': {
    frames: [frame(HEADERS, 0, 1, get('/')), frame(PING, 0, 0, '12345678')],
    why: 'malformed',
  },
  'a continuation of another stream': {
    frames: [frame(HEADERS, 0, 1, get('/')), frame(CONTINUATION, 4, 3, '')],
    why: 'malformed',
  },
  'more padding than frame': { frames: [frame(DATA, PADDED, 1, '\x09abc')], why: 'malformed' },
  'padding of an empty frame': { frames: [frame(DATA, PADDED, 1)], why: 'malformed' },
  'a reset of a wrong size': { frames: [frame(RST_STREAM, 0, 1, 'abc')], why: 'malformed' },
  'settings of a wrong size': { frames: [frame(SETTINGS, 0, 0, 'abc')], why: 'malformed' },
  'very many settings': { frames: [frame(SETTINGS, 0, 0, Buffer.alloc(606))], why: 'limit' },
  'settings that are never acknowledged': {
    frames: Array.from({ length: 20 }, () => frame(SETTINGS, 0, 0)),
    why: 'limit',
  },
  'a block of 17 000 bytes': { frames: [frame(HEADERS, END_HEADERS, 1, Buffer.alloc(17_000))], why: 'limit' },
  'a block without end': {
    frames: [
      frame(HEADERS, 0, 1, get('/')),
      ...Array.from({ length: 20 }, () => frame(CONTINUATION, 0, 1, Buffer.alloc(1000))),
    ],
    why: 'limit',
  },
};

describe('HTTP/2 reader', () => {
  for (const { name, turns, lines, giveUps, end } of CASES) {
    test(`${name}: whole, byte by byte, and cut anywhere`, () => {
      const told = (cuts: number[][], readIt: typeof readMoving = read): SnifferRecorder => {
        const { recorder, reader } = readIt(turns, cuts);
        if (end !== undefined) reader.end(end === 'client', turns.length);
        return recorder;
      };
      const whole = told([]);
      assert.deepEqual(whole.lines, lines);
      assert.deepEqual(whole.giveUps, giveUps ?? []);
      assert.deepEqual(told(everywhere(turns)), whole);
      assert.deepEqual(told(everywhere(turns), readMoving), whole);
      const length = Math.max(...turns.map(turn => turn.bytes.length));
      for (let cut = 1; cut < Math.min(length, 400); cut++) {
        assert.deepEqual(told(turns.map(() => [cut])), whole, `cut at ${cut}`);
      }
    });
  }

  test('what breaks the framing or the table is given up for what it is', () => {
    for (const [name, { frames, why }] of Object.entries(BROKEN)) {
      const turns = [HELLO, from('client', ...frames)];
      assert.deepEqual(read(turns).recorder.giveUps, [why], name);
      assert.deepEqual(read(turns, everywhere(turns)).recorder.giveUps, [why], `${name}, byte by byte`);
    }
    assert.deepEqual(read([from('client', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r?')]).recorder.giveUps, ['malformed']);
    assert.deepEqual(read([from('client', CLIENT_PREFACE, frame(PING, 0, 0, '12345678'))]).recorder.giveUps, [
      'malformed',
    ]);
  });

  test('gRPC: messages across and within frames, statuses in trailers and in trailers-only responses', () => {
    const messages = Buffer.concat([message(0), message(70_000), message(5)]);
    const turns = [
      HELLO,
      WELCOME,
      from('client', frame(HEADERS, END_HEADERS, 1, get('/s/M', GRPC)), frame(DATA, 0, 1, messages.subarray(0, 3))),
      from('client', frame(DATA, 0, 1, messages.subarray(3, 9)), frame(DATA, 0, 1, messages.subarray(9))),
      from('client', frame(DATA, PADDED | END_STREAM, 1, padded)),
      from(
        'server',
        frame(HEADERS, END_HEADERS, 1, fields({ ':status': '200', ...GRPC })),
        frame(DATA, 0, 1, message(100)),
      ),
      from('server', frame(HEADERS, END_HEADERS | END_STREAM, 1, fields({ 'grpc-status': '0' }))),
      from('client', frame(HEADERS, END_HEADERS | END_STREAM, 3, get('/s/N', GRPC))),
      from(
        'server',
        frame(HEADERS, END_HEADERS | END_STREAM, 3, fields({ ':status': '200', ...GRPC, 'grpc-status': '12' })),
      ),
      from('client', frame(HEADERS, END_HEADERS | END_STREAM, 5, get('/s/O', GRPC))),
      from(
        'server',
        frame(HEADERS, END_HEADERS, 5, fields({ ':status': '200', ...GRPC })),
        frame(RST_STREAM, 0, 5, uint32(2)),
      ),
      // Answered before it has all been asked.
      from('client', frame(HEADERS, END_HEADERS, 7, get('/s/P', GRPC))),
      from(
        'server',
        frame(HEADERS, END_HEADERS | END_STREAM, 7, fields({ ':status': '200', ...GRPC, 'grpc-status': '3' })),
      ),
      from('client', frame(DATA, END_STREAM, 7, message(1))),
    ];
    const { recorder } = read(turns);
    assert.deepEqual(
      recorder.requests.map(({ protocol, path, grpcStatus, requestMessages, responseMessages, flags }) => [
        protocol,
        path,
        grpcStatus,
        requestMessages,
        responseMessages,
        flags,
      ]),
      [
        ['grpc', '/s/M', 0, 4, 1, undefined],
        ['grpc', '/s/N', 12, 0, 0, undefined],
        ['grpc', '/s/O', undefined, 0, 0, 'UC'],
        ['grpc', '/s/P', 3, 1, 0, undefined],
      ],
    );
    assert.deepEqual(recorder.protocols, ['grpc']);
    for (const step of [1, 2, 3, 5, 7, 1000]) {
      const cuts = turns.map(({ bytes }) => Array.from({ length: Math.ceil(bytes.length / step) }, (_, i) => i * step));
      assert.deepEqual(read(turns, cuts).recorder, recorder, `pieces of ${step}`);
      assert.deepEqual(readMoving(turns, cuts).recorder, recorder, `moved in pieces of ${step}`);
    }
  });

  test('messages of a long call are told when asked for, each once, and the rest with its end', () => {
    const { recorder, reader } = read([
      HELLO,
      WELCOME,
      ask(1),
      from(
        'client',
        frame(HEADERS, END_HEADERS, 3, get('/s/M', GRPC)),
        frame(DATA, 0, 3, Buffer.concat([message(1), message(2)])),
      ),
      from(
        'server',
        frame(HEADERS, END_HEADERS, 3, fields({ ':status': '200', ...GRPC })),
        frame(DATA, 0, 3, message(3)),
      ),
    ]);
    reader.tellMessages();
    reader.tellMessages();
    const told = { protocol: 'grpc', status: 200, method: 'GET', path: '/s/M' };
    assert.deepEqual(recorder.messages, [{ ...told, requestMessages: 2, responseMessages: 1 }]);
    converse(reader, [from('server', frame(DATA, 0, 3, message(3)))]);
    reader.tellMessages();
    assert.deepEqual(recorder.messages.slice(1), [{ ...told, requestMessages: 0, responseMessages: 1 }]);
    converse(reader, [
      from('client', frame(DATA, END_STREAM, 3, message(4))),
      from('server', frame(HEADERS, END_HEADERS | END_STREAM, 3, fields({ 'grpc-status': '0' }))),
    ]);
    reader.tellMessages();
    const [{ requestMessages, responseMessages, toldRequestMessages, toldResponseMessages } = assert.fail()] =
      recorder.requests;
    assert.deepEqual(
      [requestMessages, toldRequestMessages, responseMessages, toldResponseMessages, recorder.messages.length],
      [3, 2, 2, 2, 2],
    );
  });

  test('sizes are frames with their headers; times run from the first byte of the head to the end of the response', () => {
    const { recorder, reader } = read([HELLO, WELCOME]);
    const head = frame(HEADERS, END_HEADERS, 1, get('/'));
    reader.fromClient(head, 0, 4, 10);
    reader.fromClient(head, 4, head.length, 11);
    const data = frame(DATA, END_STREAM, 1, Buffer.alloc(1000));
    reader.fromClient(data, 0, 9, 12);
    assert.equal(reader.skippableFromClient, 1000);
    reader.skipFromClient(1000, 13);
    const response = from(
      'server',
      frame(HEADERS, END_HEADERS, 1, Buffer.from([0x88])),
      frame(DATA, END_STREAM, 1, 'ab'),
    );
    reader.fromServer(response.bytes, 0, response.bytes.length - 1, 14);
    assert.equal(reader.skippableFromServer, 1);
    reader.skipFromServer(1, 20.5);
    const [request] = recorder.requests;
    assert.deepEqual(
      [request?.startMs, request?.durationMs, request?.requestBytes, request?.responseBytes],
      [10, 10.5, head.length + 1009, response.bytes.length],
    );
  });

  test('256 streams are followed; what is opened beyond is counted and does no harm', () => {
    const { recorder, reader } = read([HELLO, WELCOME]);
    for (let i = 0; i < 356; i++) converse(reader, [ask(2 * i + 1)]);
    assert.equal(recorder.untracked, 100);
    for (let i = 0; i < 356; i++) converse(reader, [answer(2 * i + 1)]);
    converse(reader, [ask(3001), answer(3001)]);
    assert.equal(recorder.requests.length, 257);
    assert.deepEqual(recorder.giveUps, []);
  });

  test('data of a stream that was reset in the middle is not counted for the next one', () => {
    const turns = [
      HELLO,
      WELCOME,
      from('client', frame(HEADERS, END_HEADERS | END_STREAM, 1, get('/one', GRPC))),
      from('server', frame(HEADERS, END_HEADERS, 1, fields({ ':status': '200', ...GRPC }))),
    ];
    const { recorder, reader } = read(turns);
    const data = frame(DATA, 0, 1, Buffer.concat([message(10), message(10)]));
    reader.fromServer(data, 0, 12, 5);
    converse(reader, [
      from('client', frame(RST_STREAM, 0, 1, uint32(8))),
      from('client', frame(HEADERS, END_HEADERS | END_STREAM, 3, get('/two', GRPC))),
    ]);
    reader.fromServer(data, 12, data.length, 6);
    converse(reader, [
      from(
        'server',
        frame(HEADERS, END_HEADERS, 3, fields({ ':status': '200', ...GRPC })),
        frame(DATA, 0, 3, message(4)),
      ),
      from('server', frame(HEADERS, END_HEADERS | END_STREAM, 3, fields({ 'grpc-status': '0' }))),
    ]);
    assert.deepEqual(
      recorder.requests.map(({ path, responseMessages }) => [path, responseMessages]),
      [
        ['/one', 0],
        ['/two', 1],
      ],
    );
  });

  test('a table size that was announced binds from its acknowledgement, and may be used a moment before', () => {
    const announce = (bytes: number): Buffer => {
      const payload = Buffer.alloc(6);
      payload.writeUInt16BE(SETTING.HEADER_TABLE_SIZE);
      payload.writeUInt32BE(bytes, 2);
      return frame(SETTINGS, 0, 0, payload);
    };
    const ack = frame(SETTINGS, ACK, 0);
    const hello = from('client', CLIENT_PREFACE, announce(8192));
    // 0x3f 0xe1 0x3f is a size update to 8192.
    const grown = frame(HEADERS, END_HEADERS | END_STREAM, 1, Buffer.from([0x3f, 0xe1, 0x3f, 0x88]));
    const settings = frame(SETTINGS, 0, 0);
    assert.deepEqual(read([hello, ask(1), from('server', settings, grown)]).recorder.lines, ['GET /a 200']);
    assert.deepEqual(read([hello, ask(1), from('server', settings, ack, grown)]).recorder.lines, ['GET /a 200']);
    const shrunk = [hello, from('server', settings, ack), from('client', announce(100)), ask(1)];
    assert.deepEqual(read([...shrunk, from('server', grown)]).recorder.lines, ['GET /a 200']);
    assert.deepEqual(read([...shrunk, from('server', ack, grown)]).recorder.giveUps, ['malformed']);
  });

  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 30 }),
    fc
      .record({
        type: fc.integer({ min: 0, max: 10 }),
        flags: fc.constantFrom(0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, PADDED, PRIORITY | END_HEADERS),
        streamId: fc.constantFrom(0, 1, 2, 3, 5, 7),
        payload: fc.oneof(
          fc.constantFrom(
            get('/a'),
            get('/g', GRPC),
            Buffer.from([0x88]),
            uint32(8),
            uint32(1, 0),
            Buffer.alloc(0),
            message(3),
          ),
          fc.uint8Array({ maxLength: 20 }),
        ),
      })
      .map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload)),
  );

  const someCuts = fc.array(fc.array(fc.nat(60), { maxLength: 3 }), { maxLength: 27 });

  test('any frames in any order: never throws, gives up once at most, and neither cuts nor moves matter', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), piece), { maxLength: 25 }),
        someCuts,
        fc.boolean(),
        (pieces, cuts, byClient) => {
          const turns = [
            HELLO,
            WELCOME,
            ...pieces.map(([isClient, bytes]): Turn => ({ side: isClient ? 'client' : 'server', bytes })),
          ];
          const whole = read(turns);
          const single = read(turns, everywhere(turns));
          whole.reader.end(byClient, 1000);
          single.reader.end(byClient, 1000);
          assert.deepEqual(single.recorder, whole.recorder);
          const moving = readMoving(turns, cuts);
          moving.reader.end(byClient, 1000);
          assert.deepEqual(moving.recorder, whole.recorder);
          assert.ok(whole.recorder.giveUps.length <= 1);
        },
      ),
      { seed: 9113, numRuns: 3000 },
    );
  });
});
