// What a connection's reader may hold, measured on many at once after a collection.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import v8 from 'node:v8';
import vm from 'node:vm';
import { CLIENT_PREFACE, FRAME_FLAG, FRAME_TYPE, writeFrameHeader } from '../h2/index.ts';
import { openSniffer } from './detect.ts';
import type { L7Listener, L7Sniffer } from './types.ts';

const KIB = 1024;
const ALL = { wantPath: true, wantAuthority: true, wantTraceparent: true };
const CONNECTIONS = 200;
const SILENT: L7Listener = { onProtocol: () => {}, onRequest: () => {}, onGiveUp: () => {} };

v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc') as () => void; // what the flag above defines

function usedBytes(): number {
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

// Bytes a connection holds after `feed`.
function held(feed: (sniffer: L7Sniffer, serial: number) => void): number {
  // What is made once, on first use, is nobody's.
  feed(openSniffer(SILENT, ALL), 0);
  const before = usedBytes();
  const sniffers = Array.from({ length: CONNECTIONS }, (_, serial) => {
    const sniffer = openSniffer(SILENT, ALL);
    feed(sniffer, serial + 1);
    return sniffer;
  });
  const bytes = (usedBytes() - before) / CONNECTIONS;
  assert.equal(sniffers.length, CONNECTIONS);
  return bytes;
}

function say(sniffer: L7Sniffer, text: string | Buffer): void {
  const bytes = Buffer.from(text);
  sniffer.fromClient(bytes, 0, bytes.length, 1.5);
}

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  payload.copy(bytes, writeFrameHeader(bytes, 0, payload.length, type, flags, streamId));
  return bytes;
}

const OPENING = Buffer.concat([Buffer.from(CLIENT_PREFACE), frame(FRAME_TYPE.SETTINGS, 0, 0, Buffer.alloc(0))]);

test('a quiet connection holds less than 3 KiB, whatever it speaks', () => {
  const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  const http1 = held((sniffer, serial) => {
    say(sniffer, `GET /${serial} HTTP/1.1\r\nHost: shop\r\n\r\n`);
    sniffer.fromServer(answer, 0, answer.length, 2.5);
  });
  const http2 = held(sniffer => say(sniffer, OPENING));
  const tls = held(sniffer => say(sniffer, Buffer.from([0x16, 3, 1, 0, 100, 1, 0, 0])));
  assert.ok(http1 < 3 * KIB && http2 < 3 * KIB && tls < KIB, `${http1}, ${http2}, ${tls}`);
});

test('128 requests that wait, with all their texts, and half a head: under 16 KiB', () => {
  const bytes = held((sniffer, serial) => {
    for (let i = 0; i < 128; i++) {
      const trace = `00-${String(serial).padStart(32, '1')}-${String(i).padStart(16, '1')}-01`;
      say(
        sniffer,
        `GET /${serial}/${'x'.repeat(250)}${i} HTTP/1.1\r\nHost: ${i}.${serial}\r\ntraceparent: ${trace}\r\n\r\n`,
      );
    }
    say(sniffer, `GET /${'y'.repeat(30_000)}`);
  });
  assert.ok(bytes < 16 * KIB, `${bytes}`);
});

test('a head, a chunk extension, a trailer that never end: under 4 KiB', () => {
  for (const start of [
    'GET / HTTP/1.1\r\nX: ',
    'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ',
    'GE',
  ]) {
    const bytes = held(sniffer => {
      say(sniffer, start);
      for (let i = 0; i < 2000; i++) say(sniffer, 'slow');
    });
    assert.ok(bytes < 4 * KIB, `${start} ${bytes}`);
  }
});

test('a header block that is never whole and a full table: under 16 KiB and what the block brought', () => {
  // 120 different fields of one byte fill a table of 4096 bytes with entries.
  const many = Buffer.concat(Array.from({ length: 120 }, (_, i) => Buffer.from([0x40, 1, 0x61 + (i % 26), 0])));
  const path = Buffer.from([0x44, 40, ...Buffer.alloc(40, 0x2f)]);
  const table = held(sniffer => {
    say(sniffer, OPENING);
    say(sniffer, frame(FRAME_TYPE.HEADERS, FRAME_FLAG.END_HEADERS, 1, Buffer.concat([many, path])));
  });
  assert.ok(table < 8 * KIB, `${table}`);
  const block = held(sniffer => {
    say(sniffer, OPENING);
    say(sniffer, frame(FRAME_TYPE.HEADERS, 0, 1, Buffer.alloc(16_000)));
  });
  assert.ok(block < 18 * KIB, `${block}`);
});

test('256 open streams, the most that are followed: under 70 KiB and what the connection holds anyway', () => {
  const bytes = held((sniffer, serial) => {
    if (serial % 20 !== 0) return;
    say(sniffer, OPENING);
    for (let i = 0; i < 1200; i++)
      say(sniffer, frame(FRAME_TYPE.HEADERS, FRAME_FLAG.END_HEADERS, 2 * i + 1, Buffer.from([0x82])));
  });
  assert.ok(bytes * 20 < 86 * KIB, `${bytes * 20}`);
});
