import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import {
  assertNoiseIsHarmless,
  assertPiecesDoNotMatter,
  client,
  readWhole,
  server,
  type Turn,
} from '../../test/l7-transcript.ts';
import { KafkaReader, probeKafka } from './kafka.ts';
import { apiName, errorOffset } from './kafka-apis.ts';
import type { L7Listener } from './types.ts';

const make = (listener: L7Listener): KafkaReader => new KafkaReader(listener);
const CLIENT_NAME = 'shop-client';

function sized(...parts: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
  const size = Buffer.alloc(4);
  size.writeInt32BE(body.length);
  return Buffer.concat([size, body]);
}

function int16(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [at, value] of values.entries()) bytes.writeInt16BE(value, 2 * at);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function request(key: number, version: number, id: number, body: Buffer | string = '', name = CLIENT_NAME): Buffer {
  return sized(
    int16(key, version),
    int32(id),
    int16(name.length),
    name,
    typeof body === 'string' ? Buffer.from(body, 'latin1') : body,
  );
}

const answer = (id: number, ...body: readonly (Buffer | string)[]): Buffer => sized(int32(id), ...body);
const DATA = Buffer.alloc(5000, 'd');

// acks stand behind an absent transaction: two bytes until version 8, one after the head's tags since.
const produce = (version: number, id: number, acks: number): Buffer =>
  request(
    0,
    version,
    id,
    Buffer.concat([
      version < 3 ? int16() : version < 9 ? int16(-1) : Buffer.from([0, 0]),
      int16(acks),
      int32(30_000),
      DATA,
    ]),
  );

const SESSION: readonly Turn[] = [
  client(request(18, 4, 1, '\0\x05shop\x041.0\0')),
  server(answer(1, int16(35), DATA)),
  client(request(3, 12, 2), request(17, 1, 3, 'PLAIN')),
  server(answer(2, '\0', int32(0), DATA), answer(3, int16(33))),
  client(produce(2, 4, 1), produce(7, 5, 0), produce(7, 6, -1), produce(11, 7, 0), produce(11, 8, 1)),
  server(answer(4, DATA), answer(6, DATA), answer(8, '\0', DATA)),
  client(request(1, 17, 9), request(12, 4, -10), request(12, 3, 11), request(12, 0, 12), request(999, 0, 13)),
  server(answer(9, '\0', int32(0), int16(0), DATA), answer(-10, '\0', int32(0), int16(27))),
  server(answer(11, int32(0), int16(25)), answer(12, int16(0)), answer(13)),
];

function told(...turns: readonly Turn[]): { readonly told: string[]; readonly givenUp: readonly string[] } {
  const { requests, givenUp } = readWhole(make, turns);
  return {
    told: requests.map(({ method, error = '', flags = '' }) => `${method} ${error} ${flags}`.trimEnd()),
    givenUp,
  };
}

describe('KafkaReader', () => {
  test('reads a long session the same however its bytes arrive', () => {
    assert.deepEqual(told(...SESSION), {
      told: (
        'ApiVersions 35,Metadata,SaslHandshake 33,Produce,Produce,Produce,Produce,Produce,Fetch,Heartbeat 27,' +
        'Heartbeat 25,Heartbeat,OTHER'
      ).split(','),
      givenUp: [],
    });
    assertPiecesDoNotMatter(make, SESSION, 9_092);
    assertNoiseIsHarmless(make, SESSION, 9_093);
  });

  test('sizes and times are those of the request and of its answer', () => {
    const [asked, unanswered, answered] = [produce(9, 1, 1), produce(9, 2, 0), answer(1, DATA)];
    const { requests } = readWhole(make, [client(asked), client(unanswered), server(answered)]);
    assert.deepEqual(
      requests.map(({ startMs, durationMs, requestBytes, responseBytes }) => [
        startMs,
        durationMs,
        requestBytes,
        responseBytes,
      ]),
      [
        [1, 0, unanswered.length, 0],
        [0, 2, asked.length, answered.length],
      ],
    );
  });

  test('bodies may be skipped', () => {
    const reader = new KafkaReader({ onProtocol() {}, onRequest() {}, onGiveUp() {} });
    const asked = produce(9, 1, 1);
    reader.fromClient(asked, 0, 300, 0);
    assert.equal(reader.skippableFromClient, asked.length - 300);
    reader.skipFromClient(asked.length - 300, 0);
    assert.equal(reader.skippableFromClient, 0);
    const answered = answer(1, DATA);
    reader.fromServer(answered, 0, 16, 0);
    assert.equal(reader.skippableFromServer, answered.length - 16);
  });

  test('an answer out of turn, an impossible size and too many requests end the reading, each with its reason', () => {
    const asked = client(request(3, 9, 1), request(3, 9, 2));
    assert.deepEqual(told(asked, server(answer(2))), { told: [], givenUp: ['desynchronized'] });
    assert.deepEqual(told(server(answer(1))).givenUp, ['desynchronized']);
    assert.deepEqual(told(client(Buffer.from('GET / HTTP/1.1'))).givenUp, ['malformed']);
    assert.deepEqual(told(client(request(-1, 0, 1))).givenUp, ['malformed']);
    assert.deepEqual(told(asked, server(sized('abc'))).givenUp, ['malformed']);
    assert.deepEqual(told(client(request(0, 7, 1, 'x', 'n'.repeat(300)))).givenUp, ['limit']);
    const many = Array.from({ length: 193 }, (_, id) => request(3, 9, id));
    assert.deepEqual(told(client(...many.slice(1))).givenUp, []);
    assert.deepEqual(told(client(...many)), { told: [], givenUp: ['limit'] });
  });

  test('the first version of SASL leaves requests and answers', () => {
    assert.deepEqual(told(client(request(17, 0, 1, 'GSSAPI'))).givenUp, ['upgraded']);
  });

  test('what is under way at the end is told with who left', () => {
    assert.deepEqual(told(client(request(1, 4, 1), request(3, 9, 2))).told, ['Fetch  DC', 'Metadata  DC']);
  });
});

describe('the table of APIs', () => {
  test('has each name at its number, and the place of its error in each version', () => {
    for (const [key, name] of [
      [0, 'Produce'],
      [18, 'ApiVersions'],
      [36, 'SaslAuthenticate'],
      [60, 'DescribeCluster'],
      [87, 'ReadShareGroupStateSummary'],
      [88, 'OTHER'],
    ] as const) {
      assert.equal(apiName(key), name);
    }
    for (const [key, version, at] of [
      [0, 9, 255],
      [1, 6, 255],
      [1, 7, 4],
      [1, 12, 5],
      [10, 0, 0],
      [10, 3, 5],
      [10, 4, 255],
      [18, 3, 0],
      [36, 1, 0],
      [36, 2, 1],
      [24, 3, 255],
      [24, 4, 5],
    ] as const) {
      assert.equal(errorOffset(key, version), at, `${apiName(key)} ${version}`);
    }
  });
});

describe('probeKafka', () => {
  test('knows a request by fourteen bytes', () => {
    const first = request(18, 4, 1, '\0');
    for (let end = 0; end < 14; end++) assert.equal(probeKafka(first, 0, end, 'client'), 'more');
    assert.equal(probeKafka(first, 0, 14, 'client'), 'yes');
    assert.equal(probeKafka(first, 0, first.length, 'client'), 'yes');
    assert.equal(probeKafka(first, 0, 14, 'server'), 'no');
  });

  test('says no to other protocols', () => {
    for (const other of [
      'GET / HTTP/1.1\r\n',
      'PRI * HTTP/2.0\r\n',
      '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0\0\0\0\0',
      '\0\0\0\x20\0\x03\0\0user\0postgres\0database\0\0',
      '*1\r\n$4\r\nPING\r\n',
      '\0\0\0\x20\0\x12\0\x03\0\0\0\x01\0\x04\x01\x02\x03\x04',
      '\0\0\0\x08\x04\xd2\x16\x2f',
    ]) {
      assert.equal(probeKafka(Buffer.from(other, 'latin1'), 0, other.length, 'client'), 'no', other);
    }
  });
});
