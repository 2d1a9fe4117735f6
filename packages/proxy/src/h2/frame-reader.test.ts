import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import { DEFAULT_FRAME_LIMITS, type FrameLimits, FrameReader } from './frame-reader.ts';
import { FrameRecorder } from './frame-recorder.ts';
import { CLIENT_START, frame, fullSession, padded, written } from './frame-session.ts';
import { FRAME_FLAG, FRAME_TYPE, H2_ERROR, SETTING, writeSettings, writeSettingsAck } from './frames.ts';
import { connectionFault, type H2Fault, type H2Reason } from './h2-fault.ts';

const { END_STREAM, END_HEADERS, PADDED, PRIORITY, ACK } = FRAME_FLAG;

const FULL_TRANSCRIPT = [
  'settings 1=0 4=2147483647 5=16777215 64206=4294967295',
  'settings-ack',
  'window 0 2147418112',
  `headers 1 ${hex('first block')} false`,
  `headers 3 ${hex('second')} true`,
  `headers 5 ${hex('third block in pieces')} true`,
  `headers 7 ${hex('fourth block')} false`,
  'data-frame 1 10 false',
  `data 1 ${hex('plain data')} false`,
  'data-frame 1 0 false',
  'data 1  false',
  'data-frame 1 12 false',
  `data 1 ${hex('padded')} false`,
  'data-frame 1 20 false',
  `data 1 ${hex('only the pad length')} false`,
  'data-frame 1 5 false',
  'data 1  false',
  'data-frame 1 1 false',
  'data 1  false',
  'data-frame 1 7 true',
  `data 1 ${hex('last')} true`,
  'data-frame 7 0 true',
  'data 7  true',
  'priority 9',
  'stream-fault 9 6',
  'ignored 16 12',
  'ignored 254 0',
  `ping ${hex('12345678')} false`,
  `ping ${hex('abcdefgh')} true`,
  'window 7 1',
  'stream-fault 7 1',
  'window 7 2147483647',
  'rst 7 8',
  'goaway 7 0 going home',
];

function hex(text: string): string {
  return Buffer.from(text, 'latin1').toString('hex');
}

interface Reading {
  readonly reader: FrameReader;
  readonly recorder: FrameRecorder;
  readonly fault: H2Fault | undefined;
}

function read(bytes: Buffer, role: 'client' | 'server' = 'server', limits: Partial<FrameLimits> = {}): Reading {
  const recorder = new FrameRecorder();
  const reader = new FrameReader(role, { ...DEFAULT_FRAME_LIMITS, ...limits }, recorder);
  return { reader, recorder, fault: reader.push(bytes, 0, bytes.length) };
}

describe('a session', () => {
  test('gives every frame in order', () => {
    const { reader, recorder, fault } = read(fullSession());
    assert.equal(fault, undefined);
    assert.deepEqual(recorder.transcript(), FULL_TRANSCRIPT);
    assert.ok(reader.atFrameBoundary);
  });

  test('gives the same events when cut in two anywhere', () => {
    const session = fullSession();
    for (let cut = 0; cut <= session.length; cut++) {
      const recorder = new FrameRecorder();
      const reader = new FrameReader('server', DEFAULT_FRAME_LIMITS, recorder);
      assert.equal(reader.push(session, 0, cut), undefined);
      assert.equal(reader.push(session, cut, session.length), undefined);
      assert.deepEqual(recorder.transcript(), FULL_TRANSCRIPT, `cut at ${cut}`);
    }
  });

  test('goes on in another reader after any byte', () => {
    const session = fullSession();
    const recorder = new FrameRecorder();
    let reader = new FrameReader('server', DEFAULT_FRAME_LIMITS, recorder);
    for (let at = 0; at < session.length; at++) {
      // A buffer of its own, wiped afterwards: a state that pointed into it would lose bytes.
      const piece = Buffer.from(session.subarray(at, at + 1));
      assert.equal(reader.push(piece, 0, 1), undefined);
      piece.fill(0xff);
      const state = structuredClone(reader.exportState());
      reader = FrameReader.fromState('server', DEFAULT_FRAME_LIMITS, recorder, state);
    }
    assert.deepEqual(recorder.transcript(), FULL_TRANSCRIPT);
  });

  test('goes on in another reader from any byte to its end at once', () => {
    const session = fullSession();
    for (let cut = 0; cut < session.length; cut++) {
      const recorder = new FrameRecorder();
      const first = new FrameReader('server', DEFAULT_FRAME_LIMITS, recorder);
      first.push(session, 0, cut);
      const second = FrameReader.fromState('server', DEFAULT_FRAME_LIMITS, recorder, first.exportState());
      second.push(session, cut, session.length);
      assert.deepEqual(recorder.transcript(), FULL_TRANSCRIPT, `moved at ${cut}`);
    }
  });

  test('hands DATA over in place', () => {
    const payload = Buffer.alloc(100, 'x');
    const bytes = Buffer.concat([CLIENT_START, frame(FRAME_TYPE.DATA, 0, 1, payload)]);
    const seen: [Buffer, number, number, number][] = [];
    class Sink extends FrameRecorder {
      override onData(_id: number, buffer: Buffer, start: number, end: number, remaining: number): void {
        seen.push([buffer, start, end, remaining]);
      }
    }
    const reader = new FrameReader('server', DEFAULT_FRAME_LIMITS, new Sink());
    const dataStart = CLIENT_START.length + 9;
    reader.push(bytes, 0, dataStart + 30);
    reader.push(bytes, dataStart + 30, bytes.length);
    assert.deepEqual(
      seen.map(([buffer, ...rest]) => [buffer === bytes, ...rest]),
      [
        [true, dataStart, dataStart + 30, 70],
        [true, dataStart + 30, dataStart + 100, 0],
      ],
    );
  });

  test('stops inside a push once the owner gives up', () => {
    const calm = connectionFault(H2_ERROR.ENHANCE_YOUR_CALM, 'too many pings', 'hbone.flood');
    let pings = 0;
    class Sink extends FrameRecorder {
      override onPing(): void {
        if (++pings === 2) reader.fail(calm);
      }
    }
    const ping = frame(FRAME_TYPE.PING, 0, 0, '12345678');
    const reader = new FrameReader('server', DEFAULT_FRAME_LIMITS, new Sink());
    const bytes = Buffer.concat([CLIENT_START, ping, ping, ping]);
    assert.equal(reader.push(bytes, 0, bytes.length), calm);
    assert.equal(reader.push(bytes, 0, bytes.length), calm);
    assert.equal(pings, 2);
    assert.throws(() => reader.exportState(), RangeError);
  });

  test('is at a frame boundary only between whole frames and header blocks', () => {
    const open = Buffer.concat([CLIENT_START, frame(FRAME_TYPE.HEADERS, 0, 1, 'half')]);
    assert.equal(read(open).reader.atFrameBoundary, false);
    assert.equal(read(CLIENT_START).reader.atFrameBoundary, true);
    assert.equal(read(CLIENT_START.subarray(0, 10)).reader.atFrameBoundary, false);
    assert.equal(read(Buffer.concat([CLIENT_START, Buffer.of(0)])).reader.atFrameBoundary, false);
  });

  test('starts without a preface from a server', () => {
    const { recorder, fault } = read(
      written(buffer => writeSettings(buffer, 0, [{ id: 3, value: 200 }])),
      'client',
    );
    assert.equal(fault, undefined);
    assert.deepEqual(recorder.lines, ['settings 3=200']);
  });
});

interface Violation {
  readonly name: string;
  readonly bytes: Buffer;
  readonly code: number;
  readonly reason?: H2Reason;
  readonly role?: 'client' | 'server';
  readonly limits?: Partial<FrameLimits>;
  /** Sent as it is, without preface and SETTINGS before it. */
  readonly fromStart?: true;
}

const { PROTOCOL_ERROR, FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR, ENHANCE_YOUR_CALM } = H2_ERROR;

function setting(id: number, value: number): Buffer {
  return written(buffer => writeSettings(buffer, 0, [{ id, value }]));
}

const VIOLATIONS: Violation[] = [
  { name: 'HTTP/1.1', bytes: Buffer.from('GET / HTTP/1.1\r\n\r\n'), code: PROTOCOL_ERROR, fromStart: true },
  { name: 'a TLS hello', bytes: Buffer.of(0x16, 3, 1), code: PROTOCOL_ERROR, fromStart: true },
  {
    name: 'a first frame other than SETTINGS',
    bytes: Buffer.concat([CLIENT_START.subarray(0, 24), frame(FRAME_TYPE.PING, 0, 0, '12345678')]),
    code: PROTOCOL_ERROR,
    fromStart: true,
  },
  {
    name: 'DATA before SETTINGS',
    bytes: Buffer.concat([CLIENT_START.subarray(0, 24), frame(FRAME_TYPE.DATA, 0, 1, 'x')]),
    code: PROTOCOL_ERROR,
    fromStart: true,
  },
  {
    name: 'an extension frame before SETTINGS',
    bytes: frame(0x20, 0, 0),
    code: PROTOCOL_ERROR,
    fromStart: true,
    role: 'client',
  },
  {
    name: 'an acknowledgement before SETTINGS',
    bytes: written(buffer => writeSettingsAck(buffer, 0)),
    code: PROTOCOL_ERROR,
    fromStart: true,
    role: 'client',
  },
  { name: 'DATA on stream 0', bytes: frame(FRAME_TYPE.DATA, 0, 0, 'x'), code: PROTOCOL_ERROR },
  { name: 'DATA on an even stream', bytes: frame(FRAME_TYPE.DATA, 0, 2, 'x'), code: PROTOCOL_ERROR },
  {
    name: 'DATA longer than announced',
    bytes: frame(FRAME_TYPE.DATA, 0, 1, Buffer.alloc(16_385)),
    code: FRAME_SIZE_ERROR,
  },
  {
    name: 'DATA padding as long as its payload',
    bytes: frame(FRAME_TYPE.DATA, PADDED, 1, '\x02x'),
    code: PROTOCOL_ERROR,
  },
  { name: 'padded DATA of no bytes', bytes: frame(FRAME_TYPE.DATA, PADDED, 1), code: FRAME_SIZE_ERROR },
  { name: 'HEADERS on stream 0', bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS, 0), code: PROTOCOL_ERROR },
  { name: 'HEADERS on an even stream', bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS, 2), code: PROTOCOL_ERROR },
  {
    name: 'HEADERS padding longer than its payload',
    bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS | PADDED, 1, '\x02x'),
    code: PROTOCOL_ERROR,
  },
  {
    name: 'padded HEADERS of no bytes',
    bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS | PADDED, 1),
    code: FRAME_SIZE_ERROR,
  },
  {
    name: 'HEADERS without room for its priority',
    bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS | PRIORITY, 1, '1234'),
    code: FRAME_SIZE_ERROR,
  },
  {
    name: 'CONTINUATION without HEADERS',
    bytes: frame(FRAME_TYPE.CONTINUATION, END_HEADERS, 1),
    code: PROTOCOL_ERROR,
  },
  {
    name: 'CONTINUATION after a finished block',
    bytes: Buffer.concat([
      frame(FRAME_TYPE.HEADERS, END_HEADERS, 1, 'x'),
      frame(FRAME_TYPE.CONTINUATION, END_HEADERS, 1),
    ]),
    code: PROTOCOL_ERROR,
  },
  {
    name: 'CONTINUATION on another stream',
    bytes: Buffer.concat([frame(FRAME_TYPE.HEADERS, 0, 1), frame(FRAME_TYPE.CONTINUATION, END_HEADERS, 3)]),
    code: PROTOCOL_ERROR,
  },
  ...[FRAME_TYPE.DATA, FRAME_TYPE.HEADERS, FRAME_TYPE.PRIORITY, FRAME_TYPE.RST_STREAM, 0x42].map(type => ({
    name: `a frame of type ${type} inside a header block`,
    bytes: Buffer.concat([frame(FRAME_TYPE.HEADERS, 0, 1, 'x'), frame(type, END_STREAM, 1, '12345')]),
    code: PROTOCOL_ERROR,
  })),
  {
    name: 'too many CONTINUATION frames',
    bytes: Buffer.concat([
      frame(FRAME_TYPE.HEADERS, 0, 1),
      ...Array.from({ length: 17 }, () => frame(FRAME_TYPE.CONTINUATION, 0, 1)),
    ]),
    code: ENHANCE_YOUR_CALM,
    reason: 'hbone.header_limit',
  },
  {
    name: 'a header block over the limit in one frame',
    bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS, 1, Buffer.alloc(1001)),
    code: ENHANCE_YOUR_CALM,
    reason: 'hbone.header_limit',
    limits: { maxHeaderBlockBytes: 1000 },
  },
  {
    name: 'a header block over the limit by CONTINUATION',
    bytes: Buffer.concat([
      frame(FRAME_TYPE.HEADERS, 0, 1, Buffer.alloc(600)),
      frame(FRAME_TYPE.CONTINUATION, END_HEADERS, 1, Buffer.alloc(401)),
    ]),
    code: ENHANCE_YOUR_CALM,
    reason: 'hbone.header_limit',
    limits: { maxHeaderBlockBytes: 1000 },
  },
  {
    name: 'a HEADERS frame over 64 KiB, by its length alone',
    bytes: frame(FRAME_TYPE.HEADERS, END_HEADERS, 1, Buffer.alloc(65_537)).subarray(0, 9),
    code: ENHANCE_YOUR_CALM,
    reason: 'hbone.header_limit',
    limits: { maxFrameSize: 1_048_576 },
  },
  {
    name: 'a GOAWAY frame over 64 KiB, by its length alone',
    bytes: frame(FRAME_TYPE.GOAWAY, 0, 0, Buffer.alloc(65_537)).subarray(0, 9),
    code: ENHANCE_YOUR_CALM,
    reason: 'hbone.flood',
    limits: { maxFrameSize: 1_048_576 },
  },
  { name: 'PRIORITY on stream 0', bytes: frame(FRAME_TYPE.PRIORITY, 0, 0, '12345'), code: PROTOCOL_ERROR },
  { name: 'RST_STREAM on stream 0', bytes: frame(FRAME_TYPE.RST_STREAM, 0, 0, '1234'), code: PROTOCOL_ERROR },
  { name: 'RST_STREAM on an even stream', bytes: frame(FRAME_TYPE.RST_STREAM, 0, 4, '1234'), code: PROTOCOL_ERROR },
  { name: 'RST_STREAM of 3 bytes', bytes: frame(FRAME_TYPE.RST_STREAM, 0, 1, '123'), code: FRAME_SIZE_ERROR },
  { name: 'SETTINGS on a stream', bytes: frame(FRAME_TYPE.SETTINGS, 0, 1), code: PROTOCOL_ERROR },
  { name: 'SETTINGS of 5 bytes', bytes: frame(FRAME_TYPE.SETTINGS, 0, 0, '12345'), code: FRAME_SIZE_ERROR },
  {
    name: 'an acknowledgement with a payload',
    bytes: frame(FRAME_TYPE.SETTINGS, ACK, 0, '123456'),
    code: FRAME_SIZE_ERROR,
  },
  {
    name: 'SETTINGS of 33 entries',
    bytes: frame(FRAME_TYPE.SETTINGS, 0, 0, Buffer.alloc(33 * 6)),
    code: ENHANCE_YOUR_CALM,
    reason: 'hbone.flood',
  },
  { name: 'ENABLE_PUSH 2', bytes: setting(SETTING.ENABLE_PUSH, 2), code: PROTOCOL_ERROR },
  { name: 'ENABLE_PUSH 1 from a server', bytes: setting(SETTING.ENABLE_PUSH, 1), code: PROTOCOL_ERROR, role: 'client' },
  {
    name: 'INITIAL_WINDOW_SIZE 2^31',
    bytes: setting(SETTING.INITIAL_WINDOW_SIZE, 2 ** 31),
    code: FLOW_CONTROL_ERROR,
    reason: 'hbone.flow_control',
  },
  { name: 'MAX_FRAME_SIZE 16383', bytes: setting(SETTING.MAX_FRAME_SIZE, 16_383), code: PROTOCOL_ERROR },
  { name: 'MAX_FRAME_SIZE 2^24', bytes: setting(SETTING.MAX_FRAME_SIZE, 2 ** 24), code: PROTOCOL_ERROR },
  {
    name: 'ENABLE_CONNECT_PROTOCOL 2',
    bytes: setting(SETTING.ENABLE_CONNECT_PROTOCOL, 2),
    code: PROTOCOL_ERROR,
  },
  {
    name: 'PUSH_PROMISE',
    bytes: frame(FRAME_TYPE.PUSH_PROMISE, END_HEADERS, 1, '\0\0\0\x02'),
    code: PROTOCOL_ERROR,
    role: 'client',
  },
  { name: 'PING on a stream', bytes: frame(FRAME_TYPE.PING, 0, 1, '12345678'), code: PROTOCOL_ERROR },
  { name: 'PING of 7 bytes', bytes: frame(FRAME_TYPE.PING, 0, 0, '1234567'), code: FRAME_SIZE_ERROR },
  { name: 'GOAWAY on a stream', bytes: frame(FRAME_TYPE.GOAWAY, 0, 1, '12345678'), code: PROTOCOL_ERROR },
  { name: 'GOAWAY of 7 bytes', bytes: frame(FRAME_TYPE.GOAWAY, 0, 0, '1234567'), code: FRAME_SIZE_ERROR },
  { name: 'WINDOW_UPDATE of 5 bytes', bytes: frame(FRAME_TYPE.WINDOW_UPDATE, 0, 0, '12345'), code: FRAME_SIZE_ERROR },
  {
    name: 'WINDOW_UPDATE on an even stream',
    bytes: frame(FRAME_TYPE.WINDOW_UPDATE, 0, 2, '1234'),
    code: PROTOCOL_ERROR,
  },
  {
    name: 'WINDOW_UPDATE of 0 on the connection',
    bytes: frame(FRAME_TYPE.WINDOW_UPDATE, 0, 0, '\x80\0\0\0'),
    code: PROTOCOL_ERROR,
  },
  {
    name: 'an extension frame longer than announced',
    bytes: frame(0x33, 0, 0, Buffer.alloc(16_385)),
    code: FRAME_SIZE_ERROR,
  },
];

describe('the connection ends at', () => {
  for (const violation of VIOLATIONS) {
    test(violation.name, () => {
      const role = violation.role ?? 'server';
      const start = role === 'server' ? CLIENT_START : CLIENT_START.subarray(24);
      const bytes = violation.fromStart === true ? violation.bytes : Buffer.concat([start, violation.bytes]);
      const { reader, recorder, fault } = read(bytes, role, violation.limits);
      assert.equal(fault?.scope, 'connection', fault?.message);
      assert.equal(fault.code, violation.code, fault.message);
      assert.equal(fault.reason, violation.reason ?? 'hbone.protocol');
      // Nothing is read after it.
      const before = recorder.transcript().length;
      assert.equal(reader.push(CLIENT_START, 24, CLIENT_START.length), fault);
      assert.equal(recorder.transcript().length, before);
      // And the verdict does not depend on the cut.
      const slow = new FrameReader(role, { ...DEFAULT_FRAME_LIMITS, ...violation.limits }, new FrameRecorder());
      for (let at = 0; at < bytes.length; at++) slow.push(bytes, at, at + 1);
      assert.deepEqual(slow.push(bytes, 0, 0), fault);
    });
  }
});

describe('what is legal though odd', () => {
  const legal: [name: string, bytes: Buffer, line: string][] = [
    [
      'the reserved bit of a stream id is ignored',
      frame(FRAME_TYPE.RST_STREAM, 0, 0x8000_0001, '\0\0\0\x08'),
      'rst 1 8',
    ],
    ['an empty header block is delivered', frame(FRAME_TYPE.HEADERS, END_HEADERS, 1), 'headers 1  false'],
    [
      'HEADERS may be padding only',
      frame(FRAME_TYPE.HEADERS, END_HEADERS | PADDED, 1, padded('', 9)),
      'headers 1  false',
    ],
    ['a client may say ENABLE_PUSH 1', setting(SETTING.ENABLE_PUSH, 1), 'settings 2=1'],
    ['unknown flags are ignored', frame(FRAME_TYPE.PING, 0xfe, 0, '12345678'), `ping ${hex('12345678')} false`],
    ['the last byte may be a whole frame of 16384', frame(0x77, 0, 0, Buffer.alloc(16_384)), 'ignored 119 16384'],
  ];
  for (const [name, bytes, line] of legal) {
    test(name, () => {
      const { recorder, fault } = read(Buffer.concat([CLIENT_START, bytes]));
      assert.equal(fault, undefined);
      assert.deepEqual(recorder.lines, ['settings ', line]);
    });
  }

  test('a frame of 1 MiB is read when announced', () => {
    const bytes = Buffer.concat([CLIENT_START, frame(FRAME_TYPE.DATA, END_STREAM, 1, Buffer.alloc(1_048_576))]);
    const { recorder, fault } = read(bytes, 'server', { maxFrameSize: 1_048_576 });
    assert.equal(fault, undefined);
    assert.equal(recorder.lines[1], 'data-frame 1 1048576 true');
  });
});

describe('memory', () => {
  test('announcing a long control frame allocates only for the bytes that come', () => {
    const { reader } = read(
      Buffer.concat([CLIENT_START, frame(FRAME_TYPE.GOAWAY, 0, 0, Buffer.alloc(16_384)).subarray(0, 10)]),
    );
    assert.equal(reader.exportState().body.length, 1);
  });

  test('a state that no reader can have is refused', () => {
    const sound = read(CLIENT_START).reader.exportState();
    const recorder = new FrameRecorder();
    const broken = [
      { ...sound, phase: 9 },
      { ...sound, phase: -1 },
      { ...sound, phase: 0.5 },
      { ...sound, head: new Uint8Array(9) },
      { ...sound, body: new Uint8Array(65_537) },
      { ...sound, block: new Uint8Array(65_537) },
      { ...sound, remaining: 2 ** 24 },
      { ...sound, blockFrames: 17 },
    ];
    for (const state of broken) {
      assert.throws(() => FrameReader.fromState('server', DEFAULT_FRAME_LIMITS, recorder, state), RangeError);
    }
    const preface = new FrameReader('server', DEFAULT_FRAME_LIMITS, recorder).exportState();
    assert.throws(() => FrameReader.fromState('client', DEFAULT_FRAME_LIMITS, recorder, preface), RangeError);
  });
});
