import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Http1Reader } from './http1-reader.ts';
import { client, converse, everywhere, server, SnifferRecorder, type Turn } from './sniffer-recorder.ts';
import { wandering } from './sniffer-wanderer.ts';
import type { L7Sniffer } from './types.ts';

const ALL = { wantPath: true, wantAuthority: true, wantTraceparent: true };

interface Read {
  readonly recorder: SnifferRecorder;
  readonly reader: Http1Reader;
}

function read(turns: readonly Turn[], cuts: number[][] = []): Read {
  const recorder = new SnifferRecorder();
  const reader = new Http1Reader(recorder, ALL);
  converse(reader, turns, cuts);
  return { recorder, reader };
}

/** The same by a reader that moves to another worker before every piece. */
function readMoving(turns: readonly Turn[], cuts: number[][]): { recorder: SnifferRecorder; reader: L7Sniffer } {
  const recorder = new SnifferRecorder();
  const reader = wandering(() => new Http1Reader(recorder, ALL));
  converse(reader, turns, cuts);
  return { recorder, reader };
}

const GET = client('GET /a?b=c HTTP/1.1\r\nHost: shop\r\n\r\n');
const OK = server('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi');

// Each with what must come of it, whole and cut anywhere.
const CASES: { name: string; turns: Turn[]; lines: string[]; giveUps: string[]; end?: 'client' | 'server' }[] = [
  { name: 'keep-alive', turns: [GET, OK, GET, OK], lines: ['GET /a 200', 'GET /a 200'], giveUps: [] },
  {
    name: 'pipelining keeps the order',
    turns: [
      client('GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nPOST /3 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc'),
      server('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n'),
      server('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n'),
    ],
    lines: ['GET /1 200', 'HEAD /2 200', 'POST /3 404'],
    giveUps: [],
  },
  {
    name: 'chunks with extensions and trailers',
    turns: [
      client(
        'POST /up HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3;a="b"\r\nabc\r\n0A \r\n0123456789\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n',
      ),
      server('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n'),
      GET,
      OK,
    ],
    lines: ['POST /up 200', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'interim responses belong to the final one',
    turns: [
      client('PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n'),
      server('HTTP/1.1 100 Continue\r\n\r\n'),
      client('ab'),
      server('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n'),
    ],
    lines: ['PUT /x 201'],
    giveUps: [],
  },
  {
    name: 'no body by status',
    turns: [
      GET,
      server('HTTP/1.1 204 No Content\r\n\r\n'),
      GET,
      server('HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n'),
      GET,
      OK,
    ],
    lines: ['GET /a 204', 'GET /a 304', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'a response without length ends with the connection',
    turns: [GET, server('HTTP/1.0 200 OK\r\n\r\nand so on'), server(' and on')],
    end: 'server',
    lines: ['GET /a 200'],
    giveUps: [],
  },
  {
    name: 'a client that leaves such a response is DC',
    turns: [GET, server('HTTP/1.0 200 OK\r\n\r\nand so on')],
    end: 'client',
    lines: ['GET /a 200 DC'],
    giveUps: [],
  },
  {
    name: 'a server that leaves is UC for all that wait',
    turns: [GET, GET, server('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc')],
    end: 'server',
    lines: ['GET /a 200 UC', 'GET /a UC'].map(line => line.replace('a UC', 'a 0 UC')),
    giveUps: [],
  },
  {
    name: 'a protocol switch',
    turns: [
      client('GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'),
      server('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello'),
      client('\x81\x00'),
    ],
    lines: ['GET /ws 101'],
    giveUps: ['upgraded'],
  },
  {
    name: 'an offered h2c that is declined',
    turns: [client('GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n'), OK, GET, OK],
    lines: ['GET / 200', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'a granted CONNECT, even when the client did not wait',
    turns: [
      client('CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n'),
      client('\x16\x03\x01 not http'),
      server('HTTP/1.1 200 Connection established\r\n\r\n'),
    ],
    lines: ['CONNECT 200'],
    giveUps: ['upgraded'],
  },
  {
    name: 'a refused CONNECT',
    turns: [
      client('CONNECT db:5432 HTTP/1.1\r\n\r\n'),
      server('HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n'),
      GET,
      OK,
    ],
    lines: ['CONNECT 403', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'an early response waits for its request',
    turns: [
      client('POST /up HTTP/1.1\r\nContent-Length: 6\r\n\r\nab'),
      server('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n'),
      client('cdef'),
      GET,
      OK,
    ],
    lines: ['POST /up 413', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'an early response counts when the client leaves',
    turns: [
      client('POST /up HTTP/1.1\r\nContent-Length: 6\r\n\r\nab'),
      server('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n'),
    ],
    end: 'client',
    lines: ['POST /up 413'],
    giveUps: [],
  },
  {
    name: 'a whole early response is told even if the client then does something else',
    turns: [
      client('POST /up HTTP/1.1\r\nContent-Length: 60\r\n\r\nab'),
      server('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n'),
      GET,
      OK,
    ],
    lines: ['POST /up 413'],
    giveUps: ['desynchronized'],
  },
  {
    name: 'a head that is too slow for its server is told with the answer',
    turns: [client('GET /slow HTTP/1.1\r\nHost:'), server('HTTP/1.1 408 Request Timeout\r\n\r\n')],
    end: 'server',
    lines: ['GET /slow 408'],
    giveUps: [],
  },
  {
    name: 'a head that is answered in the middle, and goes on',
    turns: [client('GET /slow HTTP/1.1\r\nHost:'), OK, client(' a\r\n\r\n'), GET, OK],
    lines: ['GET /slow 200', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'contradicting lengths of a response without body do not matter',
    turns: [
      client('HEAD /h HTTP/1.1\r\n\r\n'),
      server('HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'),
      GET,
      OK,
    ],
    lines: ['HEAD /h 200', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'garbage behind a request',
    turns: [GET, client('\x00\x01garbage'), OK],
    lines: ['GET /a 200'],
    giveUps: ['malformed'],
  },
  {
    name: 'garbage behind an answered request',
    turns: [GET, OK, client('\x00\x01garbage')],
    lines: ['GET /a 200'],
    giveUps: ['malformed'],
  },
  {
    name: 'an answer that nobody asked for',
    turns: [GET, OK, server('HTTP/1.1 500 Oops\r\n\r\n')],
    lines: ['GET /a 200'],
    giveUps: ['desynchronized'],
  },
  {
    name: 'the farewell of a server to a client that kept quiet',
    turns: [GET, OK, server('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi')],
    lines: ['GET /a 200'],
    giveUps: [],
  },
  {
    name: 'a request that crosses the farewell',
    turns: [GET, OK, server('HTTP/1.1 408 Request'), GET, server(' Timeout\r\n\r\n')],
    lines: ['GET /a 200', 'GET /a 0 UC'],
    giveUps: [],
  },
  {
    name: 'a folded field and bare line feeds',
    turns: [client('GET /a HTTP/1.1\nX-Long: 1\n 2\n\n'), server('HTTP/1.1 200\nContent-Length: 0\n\n')],
    lines: ['GET /a 200'],
    giveUps: [],
  },
  {
    name: 'empty lines in front of a request',
    turns: [client('\r\n\r\nGET /a HTTP/1.1\r\n\r\n'), OK, client('\r\n'), GET, OK],
    lines: ['GET /a 200', 'GET /a 200'],
    giveUps: [],
  },
  {
    name: 'other forms of a target',
    turns: [
      client('GET http://shop:80/p/q?r HTTP/1.1\r\n\r\nOPTIONS * HTTP/1.1\r\n\r\nBREW /pot HTTP/1.1\r\n\r\n'),
      server(
        'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 204 OK\r\n\r\nHTTP/1.1 418 No\r\nContent-Length: 0\r\n\r\n',
      ),
    ],
    lines: ['GET /p/q 200', 'OPTIONS * 204', 'OTHER /pot 418'],
    giveUps: [],
  },
  {
    name: 'a very long request line',
    turns: [client(`GET /${'x'.repeat(5000)}?y HTTP/1.1\r\nCookie: ${'z'.repeat(9000)}\r\n\r\n`), OK],
    lines: [`GET /${'x'.repeat(255)} 200`],
    giveUps: [],
  },
];

// Framing that two readers could understand differently: never guessed at.
const SMUGGLING: Record<string, string> = {
  'two lengths': 'Content-Length: 1\r\nContent-Length: 2\r\n',
  'the same length twice': 'Content-Length: 1\r\nContent-Length: 1\r\n',
  'a list of lengths': 'Content-Length: 1, 1\r\n',
  'a signed length': 'Content-Length: +1\r\n',
  'an empty length': 'Content-Length: \r\n',
  'a huge length': 'Content-Length: 99999999999999999999\r\n',
  'length and chunks': 'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n',
  'chunks and length': 'Transfer-Encoding: chunked\r\nContent-Length: 1\r\n',
  'chunked twice': 'Transfer-Encoding: chunked, chunked\r\n',
  'two codings': 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n',
  'chunked in front': 'Transfer-Encoding: chunked, gzip\r\n',
  'no chunked': 'Transfer-Encoding: gzip\r\n',
  identity: 'Transfer-Encoding: identity\r\n',
  'a coding with a vertical tab': 'Transfer-Encoding: \vchunked\r\n',
  'a blank before the colon': 'Transfer-Encoding : chunked\r\n',
  'a folded coding': 'Transfer-Encoding:\r\n chunked\r\n',
  'a fold at the start': ' X: 1\r\n',
  'a bare CR': 'X: 1\rContent-Length: 5\r\n',
  'a NUL': 'X: \0\r\n',
  'no colon': 'Content-Length 5\r\n',
  'no name': ': 5\r\n',
};

interface Message {
  readonly method: string;
  readonly path: string;
  readonly fields: readonly string[];
  readonly body: Uint8Array | null;
  readonly isChunked: boolean;
  readonly status: number;
  readonly answer: Uint8Array;
  readonly isAnswerChunked: boolean;
}

function bodyLines(body: Uint8Array | null, isChunked: boolean): { field: string; body: Buffer } {
  if (body === null) return { field: '', body: Buffer.alloc(0) };
  if (!isChunked) return { field: `Content-Length: ${body.length}\r\n`, body: Buffer.from(body) };
  const half = body.length >> 1;
  const chunks = [body.subarray(0, half), body.subarray(half)].filter(chunk => chunk.length > 0);
  const framed = chunks.flatMap(chunk => [Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]);
  return { field: 'Transfer-Encoding: chunked\r\n', body: Buffer.concat([...framed, Buffer.from('0\r\n\r\n')]) };
}

function fieldLines(message: Message): string {
  return message.fields.map(field => `${field}\r\n`).join('');
}

function requestTurn(message: Message): Turn {
  const { field, body } = bodyLines(message.body, message.isChunked);
  const head = `${message.method} ${message.path}?q HTTP/1.1\r\n${fieldLines(message)}${field}\r\n`;
  return { side: 'client', bytes: Buffer.concat([Buffer.from(head), body]) };
}

function responseTurn(message: Message): Turn {
  const { field, body } = bodyLines(message.answer, message.isAnswerChunked);
  const hasBody = message.method !== 'HEAD' && message.status !== 204 && message.status !== 304;
  const head = `HTTP/1.1 ${message.status} Whatever\r\n${field}${fieldLines(message)}\r\n`;
  return { side: 'server', bytes: Buffer.concat([Buffer.from(head), hasBody ? body : Buffer.alloc(0)]) };
}

describe('HTTP/1.1 reader', () => {
  for (const { name, turns, lines, giveUps, end } of CASES) {
    test(`${name}: whole, byte by byte, and cut anywhere`, () => {
      const whole = read(turns);
      if (end !== undefined) whole.reader.end(end === 'client', turns.length);
      assert.deepEqual(whole.recorder.lines, lines);
      assert.deepEqual(whole.recorder.giveUps, giveUps);
      const single = read(turns, everywhere(turns));
      if (end !== undefined) single.reader.end(end === 'client', turns.length);
      assert.deepEqual(single.recorder, whole.recorder);
      const moving = readMoving(turns, everywhere(turns));
      if (end !== undefined) moving.reader.end(end === 'client', turns.length);
      assert.deepEqual(moving.recorder, whole.recorder);
      // Long lines make this slow, and their interesting cuts are few.
      const length = Math.max(...turns.map(turn => turn.bytes.length));
      for (let cut = 1; cut < Math.min(length, 1200); cut++) {
        const cuts = turns.map(() => [cut]);
        const once = read(turns, cuts);
        if (end !== undefined) once.reader.end(end === 'client', turns.length);
        assert.deepEqual(once.recorder, whole.recorder, `cut at ${cut}`);
      }
    });
  }

  test('framing that could be read in two ways is given up, in requests and in responses', () => {
    for (const [name, fields] of Object.entries(SMUGGLING)) {
      const request = [client(`POST / HTTP/1.1\r\n${fields}\r\n`)];
      assert.deepEqual(read(request).recorder.giveUps, ['malformed'], name);
      assert.deepEqual(read(request, everywhere(request)).recorder.giveUps, ['malformed'], `${name}, byte by byte`);
      if (name === 'no chunked') continue;
      const response = [GET, server(`HTTP/1.1 200 OK\r\n${fields}\r\n`)];
      assert.deepEqual(read(response).recorder.giveUps, ['malformed'], `${name} in a response`);
    }
    for (const body of [
      '5\nhello\r\n',
      '5\r\nhelloX',
      '5\r\nhello\n',
      '\r\n',
      'x\r\n',
      '-1\r\n',
      '0x5\r\n',
      '1000000000000\r\n',
    ]) {
      const turns = [client(`POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n${body}`), OK];
      const { recorder } = read(turns);
      assert.deepEqual([recorder.lines, recorder.giveUps], [['POST / 200'], ['malformed']], body);
    }
    assert.deepEqual(
      read([client('POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n')]).recorder.giveUps,
      ['malformed'],
      'codings in HTTP/1.0',
    );
  });

  test('start lines that are not HTTP/1 are given up', () => {
    for (const line of [
      'GET /',
      'GET  / HTTP/1.1',
      'GET / HTTP/2.0',
      'GET /a b HTTP/1.1',
      ' GET / HTTP/1.1',
      'GET / HTTP/1.10',
    ]) {
      assert.deepEqual(read([client(`${line}\r\n\r\n`)]).recorder.giveUps, ['malformed'], line);
    }
    for (const line of ['HTTP/1.1 20 OK', 'HTTP/1.1 2000 OK', 'HTTP/1.1 099 No', 'HTTP/2.0 200 OK', 'ICY 200 OK', '']) {
      assert.deepEqual(read([GET, server(`${line}\r\n\r\n`)]).recorder.giveUps, ['malformed'], line);
    }
  });

  test('sizes are whole messages, times run from the first byte of the request to the last of the response', () => {
    const recorder = new SnifferRecorder();
    const reader = new Http1Reader(recorder, ALL);
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    const head = `POST /a HTTP/1.1\r\nhOsT: \tshop:80 \r\nTraceParent: ${traceparent}\r\nContent-Length: 1000\r\n\r\n`;
    const request = client(head);
    reader.fromClient(request.bytes, 0, 10, 100);
    reader.fromClient(request.bytes, 10, request.bytes.length, 101);
    assert.equal(reader.skippableFromClient, 1000);
    reader.skipFromClient(1000, 102);
    assert.equal(reader.skippableFromClient, 0);
    const response = server('HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n');
    reader.fromServer(response.bytes, 0, response.bytes.length, 103);
    assert.equal(reader.skippableFromServer, 50_000);
    reader.skipFromServer(49_999, 104);
    assert.equal(recorder.requests.length, 0);
    reader.skipFromServer(1, 110.5);
    assert.deepEqual(recorder.requests, [
      {
        protocol: 'http',
        startMs: 100,
        durationMs: 10.5,
        requestBytes: head.length + 1000,
        responseBytes: response.bytes.length + 50_000,
        status: 200,
        grpcStatus: undefined,
        requestMessages: 0,
        responseMessages: 0,
        method: 'POST',
        path: '/a',
        authority: 'shop:80',
        error: undefined,
        flags: undefined,
        traceparent,
      },
    ]);
  });

  test('user and password of an authority are never told', () => {
    const { recorder } = read([
      client('GET http://joe:secret@shop:80/p HTTP/1.1\r\n\r\nGET /q HTTP/1.1\r\nHost: joe@shop\r\n\r\n'),
      OK,
      OK,
    ]);
    assert.deepEqual(
      recorder.requests.map(request => request.authority),
      ['shop:80', 'shop'],
    );
  });

  test('texts that nobody wants are not made, and somebody may begin to want them', () => {
    const recorder = new SnifferRecorder();
    const options = { wantPath: false, wantAuthority: false, wantTraceparent: false };
    const reader = new Http1Reader(recorder, options);
    converse(reader, [GET, OK]);
    options.wantPath = true;
    options.wantAuthority = true;
    converse(reader, [GET, OK]);
    assert.deepEqual(
      recorder.requests.map(request => [request.method, request.path, request.authority]),
      [
        ['GET', '', ''],
        ['GET', '/a', 'shop'],
      ],
    );
  });

  test('128 requests may wait; one more ends the reading after they are answered', () => {
    const { recorder, reader } = read([client('GET /a HTTP/1.1\r\n\r\n'.repeat(129))]);
    assert.deepEqual(recorder.giveUps, []);
    assert.equal(reader.skippableFromClient, Number.POSITIVE_INFINITY);
    converse(reader, [server('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'.repeat(128))]);
    assert.equal(recorder.requests.length, 128);
    assert.deepEqual(recorder.giveUps, ['limit']);
  });

  test('a head of 64 KiB is read, one byte more is a limit, wherever it is cut', () => {
    const frame = 'GET / HTTP/1.1\r\nX: \r\n\r\n'.length;
    for (const [bytes, expected] of [
      [65_536, []],
      [65_537, ['limit']],
    ] as const) {
      const turns = [client(`GET / HTTP/1.1\r\nX: ${'y'.repeat(bytes - frame)}\r\n\r\n`)];
      for (const cuts of [[], [30], [1000, 65_535], [65_536]]) {
        assert.deepEqual(read(turns, [cuts]).recorder.giveUps, expected, `${bytes} bytes, cut at ${cuts.join()}`);
      }
    }
    const endless = read([
      client('GET / HTTP/1.1\r\n'),
      ...Array.from({ length: 700 }, () => client(`X: ${'y'.repeat(96)}\r\n`)),
    ]);
    assert.deepEqual(endless.recorder.giveUps, ['limit']);
    const trailers = read([
      client('POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n'),
      ...Array.from({ length: 700 }, () => client(`X: ${'y'.repeat(96)}\r\n`)),
      OK,
    ]);
    assert.deepEqual([trailers.recorder.lines, trailers.recorder.giveUps], [['POST / 200'], ['limit']]);
    const extension = read([client(`POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;${'e'.repeat(5000)}`), OK]);
    assert.deepEqual(extension.recorder.giveUps, ['limit']);
  });

  test('what a head has said so far moves with it', () => {
    const start = 'POST http://shop:80/a HTTP/1.1\r\nHost: other\r\n';
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const long = Array.from({ length: 11 }, (_, i) => `X-${i}: ${'y'.repeat(6000)}\r\n`);
    for (const turns of [
      [client(`${start}Traceparent: ${traceparent}\r\nContent-Length: 2\r\n\r\nab`), OK],
      [client('POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'), OK],
      [client('POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 7\r\n\r\n'), OK, GET, OK],
      [client(`GET / HTTP/1.1\r\n`), ...long.map(client), client('\r\n'), OK],
      [client('POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'), client(`1;${'e'.repeat(4097)}\r\nx`), OK],
    ]) {
      const cuts = turns.map(({ bytes }) =>
        Array.from({ length: bytes.length > 200 ? 20 : bytes.length }, (_, i) => i * (bytes.length > 200 ? 300 : 1)),
      );
      assert.deepEqual(readMoving(turns, cuts).recorder, read(turns, cuts).recorder);
    }
  });

  test('a skip beyond what was offered ends the reading', () => {
    const { recorder, reader } = read([GET]);
    reader.skipFromServer(1, 5);
    reader.fromServer(OK.bytes, 0, OK.bytes.length, 6);
    reader.end(false, 7);
    assert.deepEqual([recorder.lines, recorder.giveUps], [[], ['desynchronized']]);
  });

  const message = fc.record({
    method: fc.constantFrom('GET', 'POST', 'HEAD', 'DELETE'),
    path: fc.stringMatching(/^\/[a-z0-9/]{0,40}$/),
    fields: fc.array(fc.stringMatching(/^X-[A-Za-z]{1,10}: [ -~]{0,30}$/), { maxLength: 4 }),
    body: fc.option(fc.uint8Array({ maxLength: 60 })),
    isChunked: fc.boolean(),
    status: fc.constantFrom(200, 204, 304, 404, 503),
    answer: fc.uint8Array({ maxLength: 60 }),
    isAnswerChunked: fc.boolean(),
  });

  test('what generated conversations say is told exactly, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        fc.array(fc.array(fc.nat(120), { maxLength: 5 }), { minLength: 10, maxLength: 10 }),
        (messages, isPipelined, cuts) => {
          const requests = messages.map(each => requestTurn(each));
          const responses = messages.map(each => responseTurn(each));
          const turns = isPipelined
            ? [...requests, ...responses]
            : requests.flatMap((turn, index) => [turn, responses[index] ?? turn]);
          const { recorder, reader } = read(turns, cuts);
          assert.deepEqual(recorder.giveUps, []);
          assert.deepEqual(
            recorder.requests.map(({ method, path, status, requestBytes, responseBytes }) => ({
              method,
              path,
              status,
              requestBytes,
              responseBytes,
            })),
            messages.map(({ method, path, status }, index) => ({
              method,
              path,
              status,
              requestBytes: requests[index]?.bytes.length,
              responseBytes: responses[index]?.bytes.length,
            })),
          );
          reader.end(true, 100);
          assert.equal(recorder.requests.length, messages.length);
        },
      ),
      { seed: 9112, numRuns: 400 },
    );
  });

  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .constantFrom(
        'GET / HTTP/1.1\r\n',
        'HTTP/1.1 200 OK\r\n',
        'Content-Length: 5\r\n',
        'Transfer-Encoding: chunked\r\n',
        '\r\n',
        '\r',
        '\n',
        '5\r\nhello\r\n',
        '0\r\n\r\n',
        'X: y\r\n',
      )
      .map(text => new TextEncoder().encode(text)),
  );

  const someCuts = fc.array(fc.array(fc.nat(40), { maxLength: 3 }), { maxLength: 25 });

  test('any bytes in any order: never throws, gives up once at most, and neither cuts nor moves matter', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), piece), { maxLength: 25 }),
        someCuts,
        fc.boolean(),
        (pieces, cuts, byClient) => {
          const turns = pieces.map(([isClient, bytes]): Turn => ({ side: isClient ? 'client' : 'server', bytes }));
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
      { seed: 9112, numRuns: 3000 },
    );
  });
});
