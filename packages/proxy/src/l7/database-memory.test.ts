// What the readers of databases hold for a connection, measured on many at once after a collection.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { test } from 'node:test';
import v8 from 'node:v8';
import vm from 'node:vm';
import { KafkaReader } from './kafka.ts';
import { MysqlReader } from './mysql.ts';
import { PostgresqlReader } from './postgresql.ts';
import { RedisReader } from './redis.ts';
import type { L7Listener, L7Sniffer } from './types.ts';

const CONNECTIONS = 300;
const SILENT: L7Listener = { onProtocol: () => {}, onRequest: () => {}, onGiveUp: why => assert.fail(why) };

v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc') as () => void; // what the flag above defines

function usedBytes(): number {
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function held(make: () => L7Sniffer, feed: (reader: L7Sniffer) => void = () => {}): number {
  feed(make());
  const before = usedBytes();
  const readers = Array.from({ length: CONNECTIONS }, () => {
    const reader = make();
    feed(reader);
    return reader;
  });
  const bytes = (usedBytes() - before) / CONNECTIONS;
  assert.equal(readers.length, CONNECTIONS);
  return bytes;
}

function say(reader: L7Sniffer, text: string): void {
  const bytes = Buffer.from(text, 'latin1');
  reader.fromClient(bytes, 0, bytes.length, 1.5);
}

function hear(reader: L7Sniffer, text: string): void {
  const bytes = Buffer.from(text, 'latin1');
  reader.fromServer(bytes, 0, bytes.length, 2.5);
}

test('a connection that has said nothing yet holds less than 2 KiB', () => {
  for (const Reader of [KafkaReader, MysqlReader, PostgresqlReader, RedisReader]) {
    const bytes = held(() => new Reader(SILENT));
    assert.ok(bytes < 2048, `${Reader.name} ${bytes}`);
  }
});

test('256 commands that wait and half a message each way: under 8 KiB', () => {
  const ping = '*1\r\n$4\r\nPING\r\n';
  const redis = held(
    () => new RedisReader(SILENT),
    reader => {
      for (let at = 0; at < 256; at++) say(reader, ping);
      say(reader, '*1\r\n$4\r\nPI');
      hear(reader, '-ERR so');
    },
  );
  const postgresql = held(
    () => new PostgresqlReader(SILENT),
    reader => {
      say(reader, '\0\0\0\x10\0\x03\0\0user\0a\0\0');
      hear(reader, 'Z\0\0\0\x05I');
      for (let at = 0; at < 64; at++) say(reader, `P\0\0\0\x12s${at % 10}\0SELECT 1\0\0\0`);
      for (let at = 0; at < 256; at++) say(reader, 'Q\0\0\0\x0dSELECT 1\0');
      say(reader, 'Q\0\0\0\x50SEL');
      hear(reader, 'T\0\0\0\x50row');
    },
  );
  assert.ok(redis < 8192 && postgresql < 8192, `${redis}, ${postgresql}`);
});

test('a connection whose answers have come holds little of its waiting commands', () => {
  const bytes = held(
    () => new RedisReader(SILENT),
    reader => {
      say(reader, '*1\r\n$4\r\nPING\r\n'.repeat(256));
      hear(reader, '+PONG\r\n'.repeat(256));
    },
  );
  assert.ok(bytes < 2048, `${bytes}`);
});
