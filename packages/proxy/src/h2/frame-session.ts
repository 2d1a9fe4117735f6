// Test support: builds sessions byte by byte, every frame type in every legal shape, and illegal ones on request.

import { Buffer } from 'node:buffer';
import {
  CLIENT_PREFACE,
  FRAME_FLAG,
  FRAME_TYPE,
  writeFrameHeader,
  writeGoaway,
  writePing,
  writeRstStream,
  writeSettings,
  writeSettingsAck,
  writeWindowUpdate,
} from './frames.ts';

/** One frame with any header fields and payload. */
export function frame(type: number, flags: number, streamId: number, payload: string | Buffer = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload;
  const head = Buffer.alloc(9);
  writeFrameHeader(head, 0, body.length, type, flags, streamId);
  return Buffer.concat([head, body]);
}

/** The payload of a padded frame: pad length, body, zeros. */
export function padded(body: string, padding: number): Buffer {
  return Buffer.concat([Buffer.of(padding), Buffer.from(body, 'latin1'), Buffer.alloc(padding)]);
}

/** What one of the writers wrote. */
export function written(write: (buffer: Buffer) => number): Buffer {
  const buffer = Buffer.alloc(256);
  return buffer.subarray(0, write(buffer));
}

/** Preface and empty SETTINGS: what every client session starts with. */
export const CLIENT_START = Buffer.concat([
  Buffer.from(CLIENT_PREFACE, 'latin1'),
  written(buffer => writeSettings(buffer, 0, [])),
]);

const { END_STREAM, END_HEADERS, PADDED, PRIORITY } = FRAME_FLAG;

/** A client's session with every frame type, padding, CONTINUATION, extensions and stream faults; nothing that ends it. */
export function fullSession(): Buffer {
  return Buffer.concat([
    Buffer.from(CLIENT_PREFACE, 'latin1'),
    written(buffer =>
      writeSettings(buffer, 0, [
        { id: 1, value: 0 },
        { id: 4, value: 0x7fff_ffff },
        { id: 5, value: 0xff_ffff },
        { id: 0xface, value: 0xffff_ffff },
      ]),
    ),
    written(buffer => writeSettingsAck(buffer, 0)),
    written(buffer => writeWindowUpdate(buffer, 0, 0, 0x7fff_0000)),
    frame(FRAME_TYPE.HEADERS, END_HEADERS, 1, 'first block'),
    frame(FRAME_TYPE.HEADERS, END_HEADERS | END_STREAM | PADDED | PRIORITY, 3, padded('\x80\0\0\x01\x10second', 7)),
    frame(FRAME_TYPE.HEADERS, END_STREAM, 5, 'third '),
    frame(FRAME_TYPE.CONTINUATION, 0, 5, 'block '),
    frame(FRAME_TYPE.CONTINUATION, 0, 5),
    frame(FRAME_TYPE.CONTINUATION, END_HEADERS, 5, 'in pieces'),
    frame(FRAME_TYPE.HEADERS, PADDED, 7, padded('fourth ', 3)),
    frame(FRAME_TYPE.CONTINUATION, END_HEADERS, 7, 'block'),
    frame(FRAME_TYPE.DATA, 0, 1, 'plain data'),
    frame(FRAME_TYPE.DATA, 0, 1),
    frame(FRAME_TYPE.DATA, PADDED, 1, padded('padded', 5)),
    frame(FRAME_TYPE.DATA, PADDED, 1, padded('only the pad length', 0)),
    frame(FRAME_TYPE.DATA, PADDED, 1, padded('', 4)),
    frame(FRAME_TYPE.DATA, PADDED, 1, padded('', 0)),
    frame(FRAME_TYPE.DATA, PADDED | END_STREAM, 1, padded('last', 2)),
    frame(FRAME_TYPE.DATA, END_STREAM, 7),
    frame(FRAME_TYPE.PRIORITY, 0, 9, '\0\0\0\x01\x10'),
    frame(FRAME_TYPE.PRIORITY, 0, 9, 'wrong length'),
    frame(0x10, 0xff, 0, 'an extension'),
    frame(0xfe, 0, 0x7fff_ffff),
    written(buffer => writePing(buffer, 0, false, Buffer.from('12345678'), 0)),
    written(buffer => writePing(buffer, 0, true, Buffer.from('abcdefgh'), 0)),
    written(buffer => writeWindowUpdate(buffer, 0, 7, 1)),
    frame(FRAME_TYPE.WINDOW_UPDATE, 0, 7, '\0\0\0\0'),
    frame(FRAME_TYPE.WINDOW_UPDATE, 0, 7, '\xff\xff\xff\xff'),
    written(buffer => writeRstStream(buffer, 0, 7, 8)),
    written(buffer => writeGoaway(buffer, 0, 7, 0, 'going home')),
  ]);
}
