import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { describe, test } from 'node:test';
import {
  assertNoiseIsHarmless,
  assertPiecesDoNotMatter,
  client,
  readPieces,
  readWhole,
  server,
  type Turn,
} from '../../test/l7-transcript.ts';
import { probeRedis, RedisReader } from './redis.ts';
import type { L7Listener } from './types.ts';

const make = (listener: L7Listener): RedisReader => new RedisReader(listener);

function command(...words: readonly string[]): Buffer {
  const strings = words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  return Buffer.from(`*${words.length}\r\n${strings.join('')}`);
}

const text = (value: string): Buffer => Buffer.from(value, 'latin1');
const OK = text('+OK\r\n');

function told(...turns: readonly Turn[]): { readonly told: string[]; readonly givenUp: readonly string[] } {
  const { requests, givenUp } = readWhole(make, turns);
  return {
    told: requests.map(({ method, error = '', flags = '' }) => `${method} ${error} ${flags}`.trimEnd()),
    givenUp,
  };
}

const SESSION: readonly Turn[] = [
  client(command('HELLO', '3')),
  server(text('%2\r\n+server\r\n+redis\r\n+modules\r\n*1\r\n%1\r\n+a\r\n:1\r\n')),
  client(command('SET', 'key', 'v'.repeat(9000)), command('get', 'key'), text('  ping  twice\r\n\r\n')),
  server(OK, text(`$9000\r\n${'v'.repeat(9000)}\r\n`), text('$5\r\ntwice\r\n')),
  client(command('MULTI'), command('INCR', 'key'), command('LPUSH', 'l', '1'), command('EXEC')),
  server(OK, text('+QUEUED\r\n+QUEUED\r\n*2\r\n-WRONGTYPE no\r\n:1\r\n')),
  client(command('CLIENT', 'TRACKING', 'ON'), text('*0\r\n'), command('EVAL', 'return 1', '0')),
  server(OK, text('>2\r\n+invalidate\r\n*1\r\n+key\r\n|1\r\n+ttl\r\n%1\r\n:1\r\n:2\r\n*-1\r\n')),
  client(command('HGETALL', 'h'), command('NOSUCH'), command('GET', 'l'), command('GET', 'far')),
  server(text('~0\r\n-ERR unknown command\r\n!16\r\nWRONGTYPE or not\r\n-MOVED 3999 127.0.0.1:6381\r\n')),
  client(
    command('SCAN', '0'),
    command('GET', 'none'),
    command('ZSCORE', 'a', 'b'),
    command('EXISTS', ''),
    command('TYPE'),
  ),
  server(text('*2\r\n$1\r\n0\r\n*0\r\n$-1\r\n,1.5\r\n#t\r\n_\r\n')),
];

describe('RedisReader', () => {
  test('reads a long session the same however its bytes arrive', () => {
    assert.deepEqual(told(...SESSION), {
      told: (
        'HELLO,SET,GET,PING,MULTI,INCR,LPUSH,EXEC,CLIENT,EVAL,HGETALL,' +
        'OTHER ERR,GET WRONGTYPE,GET MOVED,SCAN,GET,ZSCORE,EXISTS,TYPE'
      ).split(','),
      givenUp: [],
    });
    assertPiecesDoNotMatter(make, SESSION, 6_379);
    const leaving = [client(command('GET', 'key'), command('CLIENT', 'REPLY', 'OFF')), server(text('$-1\r\n'))];
    assertPiecesDoNotMatter(make, leaving, 6_381);
    assertNoiseIsHarmless(make, SESSION, 6_380);
  });

  test('sizes and times are those of the command and of its reply', () => {
    const asked = command('SET', 'key', 'value');
    const { requests } = readPieces(make, [client(asked), client(asked), server(OK), server(OK)], [4]);
    assert.deepEqual(
      requests.map(({ startMs, durationMs, requestBytes, responseBytes }) => [
        startMs,
        durationMs,
        requestBytes,
        responseBytes,
      ]),
      [
        [0, 2, asked.length, OK.length],
        [1, 2, asked.length, OK.length],
      ],
    );
  });

  test('long strings may be skipped whole', () => {
    const reader = new RedisReader({ onProtocol() {}, onRequest() {}, onGiveUp() {} });
    const head = text('*2\r\n$3\r\nGET\r\n$100000\r\n');
    reader.fromClient(head, 0, head.length, 0);
    assert.equal(reader.skippableFromClient, 100_000);
    reader.skipFromClient(60_000, 0);
    assert.equal(reader.skippableFromClient, 40_000);
    reader.skipFromClient(40_000, 0);
    assert.equal(reader.skippableFromClient, 0);
    reader.fromClient(text('\r\n'), 0, 2, 0);
    const reply = text('$5000000\r\n');
    reader.fromServer(reply, 0, reply.length, 0);
    assert.equal(reader.skippableFromServer, 5_000_000);
    reader.skipFromServer(5_000_001, 0);
    assert.equal(reader.skippableFromServer, Number.POSITIVE_INFINITY);
  });

  test('a client that subscribes, monitors, replicates or wants no replies is read no more once the rest is answered', () => {
    const leaving = [['SUBSCRIBE', 'a'], ['MONITOR'], ['PSYNC', '?', '-1'], ['client', 'reply', 'OFF']];
    for (const words of leaving) {
      assert.deepEqual(told(client(command(...words)), server(OK)), { told: [], givenUp: ['upgraded'] });
      assert.deepEqual(told(client(command('GET', 'a'), command(...words), text('!')), server(OK, text('?'))), {
        told: ['GET'],
        givenUp: ['upgraded'],
      });
    }
    assert.deepEqual(told(client(text('SUBSCRIBE a\r\n'))).givenUp, ['upgraded']);
    assert.deepEqual(told(client(command('CLIENT', 'REPLY'.padEnd(6))), server(OK)).givenUp, []);
  });

  test('what breaks the rules is malformed, what was not asked for is out of step, what is too much is a limit', () => {
    for (const bad of ['*1\r\n:1\r\n', '*x\r\n', '*1\r\n$-1\r\n', '*1\r\n$1\r\nab\r\n', '*9999999999\r\n', '*1\n']) {
      assert.deepEqual(told(client(text(bad))).givenUp, ['malformed'], bad);
    }
    assert.deepEqual(told(client(text(`PING ${'x'.repeat(70_000)}`))).givenUp, ['malformed']);
    for (const bad of ['HTTP/1.1', '+OK\rx', '$-2\r\n', '$1\r\nab\r\n', '*--1\r\n', ':1\r\r', '*99999999999\r\n']) {
      assert.deepEqual(told(client(command('GET', 'a')), server(text(bad))).givenUp, ['malformed'], bad);
    }
    assert.deepEqual(told(client(command('GET', 'a')), server(text('$?\r\n'))).givenUp, ['limit']);
    assert.deepEqual(told(server(OK)).givenUp, ['desynchronized']);
    assert.deepEqual(told(server(text('-ERR max number of clients reached\r\n'))).givenUp, []);
    const many = Array.from({ length: 257 }, () => command('PING'));
    assert.deepEqual(told(client(...many.slice(1))).givenUp, []);
    assert.deepEqual(told(client(...many)), { told: [], givenUp: ['limit'] });
  });

  test('a reply as deep as it likes takes no room', () => {
    const deep = text('*1\r\n'.repeat(100_000));
    assert.deepEqual(told(client(command('GET', 'a')), server(deep, text(':1\r\n'))), { told: ['GET'], givenUp: [] });
  });

  test('what is under way at the end is told with who left', () => {
    assert.deepEqual(told(client(command('BLPOP', 'l', '0'), command('GET', 'a'))).told, ['BLPOP  DC', 'GET  DC']);
  });

  test('an error that the server does not have itself is OTHER', () => {
    assert.deepEqual(told(client(command('EVAL', 'x', '0')), server(text('-MINE is special\r\n'))).told, [
      'EVAL OTHER',
    ]);
    const long = text(`-${'E'.repeat(500)}\r\n`);
    assert.deepEqual(told(client(command('EVAL', 'x', '0')), server(long)).told, ['EVAL OTHER']);
  });
});

describe('probeRedis', () => {
  test('knows an array of strings by its head, and a few lines by their first word', () => {
    const head = text('*12\r\n$3\r\n');
    for (let end = 0; end < head.length; end++) assert.equal(probeRedis(head, 0, end, 'client'), 'more');
    assert.equal(probeRedis(head, 0, head.length, 'client'), 'yes');
    assert.equal(probeRedis(head, 0, head.length, 'server'), 'no');
    assert.equal(probeRedis(text('pi'), 0, 2, 'client'), 'more');
    assert.equal(probeRedis(text('ping\r\n'), 0, 6, 'client'), 'yes');
  });

  test('says no to other protocols', () => {
    for (const other of [
      'GET / HTTP/1.1\r\n',
      'PRI * HTTP/2.0\r\n',
      'POST /',
      '\x16\x03\x01',
      'get key\r\n',
      '*1\r\n:3',
      '*01',
      '** b',
    ]) {
      assert.equal(probeRedis(text(other), 0, other.length, 'client'), 'no', other);
    }
  });
});
