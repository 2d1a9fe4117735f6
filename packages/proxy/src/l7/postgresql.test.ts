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
import { PostgresqlReader, probePostgresql } from './postgresql.ts';

type Told = readonly [method: string, error?: string | undefined, flags?: string | undefined];

function message(type: string, ...parts: readonly (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
  const head = Buffer.alloc(5, type, 'latin1');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

function untyped(code: number, body = ''): Buffer {
  const bytes = Buffer.alloc(8 + body.length);
  bytes.writeInt32BE(bytes.length);
  bytes.writeInt32BE(code, 4);
  bytes.write(body, 8, 'latin1');
  return bytes;
}

const STARTUP = untyped(0x3_0000, 'user\0ada\0database\0shop\0\0');
const ENCRYPT = untyped(80_877_103);
const READY = message('Z', 'I');
const SYNC = message('S');
const LOGIN: readonly Turn[] = [
  client(STARTUP),
  server(message('R', '\0\0\0\x05salt')),
  client(message('p', 'md5\0')),
  server(message('R', '\0\0\0\0'), message('S', 'a\0b\0'), message('K', '12345678'), READY),
];

const query = (sql: string): Buffer => message('Q', `${sql}\0`);
const parse = (name: string, sql: string): Buffer => message('P', `${name}\0${sql}\0\0\0`);
const bind = (name: string, portal = ''): Buffer => message('B', `${portal}\0${name}\0\0\0\0\0\0\0`);
const execute = (portal = ''): Buffer => message('E', `${portal}\0\0\0\0\0`);
const done = (tag: string): Buffer => message('C', `${tag}\0`);
const failed = (state: string): Buffer =>
  message('E', `SFEHLER\0VERROR\0C${state}\0Mit did not work, and the reasons are more than fit what is looked at\0\0`);

const BOUND = message('2');
const PARSED = message('1');
const ROW = message('D', 'x'.repeat(3000));

function told(turns: readonly Turn[]): { readonly told: Told[]; readonly givenUp: string[] } {
  const { requests, givenUp } = readWhole(listener => new PostgresqlReader(listener), turns);
  return { told: requests.map(({ method, error, flags }) => [method, error, flags]), givenUp };
}

function session(...turns: readonly Turn[]): ReturnType<typeof told> {
  return told([...LOGIN, ...turns]);
}

const LONG_SESSION: readonly Turn[] = [
  client(ENCRYPT),
  server(Buffer.from('N')),
  ...LOGIN,
  client(query('/* who */ SELECT 1')),
  server(message('T', '\0\0'), ROW, ROW, message('N', 'a notice'), done('SELECT 2'), READY),
  client(parse('s1', 'UPDATE t SET a = $1'), SYNC),
  server(PARSED, READY),
  client(bind('s1'), execute(), bind('s1'), execute(), SYNC),
  server(BOUND, done('UPDATE 1'), BOUND, done('UPDATE 1'), READY),
  client(parse('', 'INSERT INTO t VALUES (1)'), bind(''), execute(), SYNC, query('COPY t FROM STDIN')),
  server(PARSED, BOUND, failed('23505'), READY, message('G', '\0\0\0')),
  client(message('d', 'y'.repeat(5000)), message('d', 'z'.repeat(50)), message('c')),
  server(done('COPY 2'), READY, message('A', '1234news\0\0')),
  client(query('COPY t TO STDOUT')),
  server(message('H', '\0\0\0'), message('d', 'row'), message('c'), done('COPY 1'), READY),
  client(parse('', 'DELETE FROM nothing'), bind(''), SYNC),
  server(failed('42P01'), READY),
  client(message('F', '\0\0\0\x01\0\0\0\0\0\0'), message('X')),
  server(message('V', '\xff\xff\xff\xff'), READY),
];

describe('PostgresqlReader', () => {
  test('reads a long session the same however its bytes arrive', () => {
    const make = (listener: ConstructorParameters<typeof PostgresqlReader>[0]): PostgresqlReader =>
      new PostgresqlReader(listener);
    assert.deepEqual(told(LONG_SESSION), {
      told: [
        ['SELECT', undefined, undefined],
        ['UPDATE', undefined, undefined],
        ['UPDATE', undefined, undefined],
        ['INSERT', '23505', undefined],
        ['COPY', undefined, undefined],
        ['COPY', undefined, undefined],
        ['DELETE', '42P01', undefined],
        ['FUNCTION', undefined, undefined],
      ],
      givenUp: [],
    });
    assertPiecesDoNotMatter(make, LONG_SESSION, 1_505);
    assertNoiseIsHarmless(make, LONG_SESSION, 1_506);
  });

  test('sizes and times are those of the messages', () => {
    const asked = query('SELECT 1');
    const answered = [message('T', '\0\0'), ROW, done('SELECT 1'), READY];
    const turns = [...LOGIN, client(asked), server(...answered)];
    const { requests } = readWhole(listener => new PostgresqlReader(listener), turns);
    assert.deepEqual(requests, [
      {
        protocol: 'postgresql',
        startMs: 4,
        durationMs: 1,
        requestBytes: asked.length,
        responseBytes: Buffer.concat(answered).length,
        status: 0,
        requestMessages: 0,
        responseMessages: 0,
        method: 'SELECT',
        path: '',
        authority: '',
        error: undefined,
        flags: undefined,
      },
    ]);
  });

  test('a batch counts from its first message to ReadyForQuery, Parse and Sync included', () => {
    const asked = [parse('', 'SELECT 1'), bind(''), message('D', 'P\0'), execute(), SYNC];
    const answered = [PARSED, BOUND, message('T', '\0\0'), ROW, done('SELECT 1'), READY];
    const turns = [...LOGIN, client(...asked.slice(0, 2)), client(...asked.slice(2)), server(...answered)];
    const { requests } = readWhole(listener => new PostgresqlReader(listener), turns);
    const [request] = requests;
    assert.equal(requests.length, 1);
    assert.equal(request?.startMs, 4);
    assert.equal(request?.durationMs, 2);
    assert.equal(request?.requestBytes, Buffer.concat(asked).length);
    assert.equal(request?.responseBytes, Buffer.concat(answered).length);
  });

  test('what a failed batch did not carry out is told with its error', () => {
    const batch = [1, 2, 3].flatMap(() => [parse('', 'INSERT INTO t VALUES (1)'), bind(''), execute()]);
    assert.deepEqual(
      session(client(...batch, SYNC), server(PARSED, BOUND, done('INSERT 0 1'), PARSED, BOUND, failed('23505'), READY)),
      {
        told: [
          ['INSERT', undefined, undefined],
          ['INSERT', '23505', undefined],
          ['INSERT', '23505', undefined],
        ],
        givenUp: [],
      },
    );
  });

  test('an error at the commit belongs to the last statement of the batch', () => {
    assert.deepEqual(
      session(
        client(parse('', 'INSERT INTO t VALUES (1)'), bind(''), execute(), SYNC),
        server(PARSED, BOUND, done('INSERT 0 1'), failed('23503'), READY),
      ),
      { told: [['INSERT', '23503', undefined]], givenUp: [] },
    );
  });

  test('a statement that cannot be prepared is told once', () => {
    assert.deepEqual(session(client(parse('s', 'SELECT nothing'), SYNC), server(failed('42703'), READY)), {
      told: [['SELECT', '42703', undefined]],
      givenUp: [],
    });
  });

  test('an unknown statement is named by its command tag', () => {
    assert.deepEqual(session(client(bind('old'), execute(), SYNC), server(BOUND, done('DELETE 4'), READY)).told, [
      ['DELETE', undefined, undefined],
    ]);
    const comment = query(`/* ${'long '.repeat(100)} */ SELECT 1`);
    assert.deepEqual(session(client(comment), server(done('SELECT 1'), READY)).told, [
      ['SELECT', undefined, undefined],
    ]);
  });

  test('the Sync that libpq sends ahead of the data of an extended COPY is not answered', () => {
    assert.deepEqual(
      session(
        client(parse('', 'COPY t FROM STDIN'), bind(''), execute(), SYNC),
        server(PARSED, BOUND, message('G', '\0\0\0')),
        client(message('d', 'row'), message('c'), SYNC),
        server(done('COPY 1'), READY),
        client(query('SELECT 1')),
        server(done('SELECT 1'), READY),
      ),
      {
        told: [
          ['COPY', undefined, undefined],
          ['SELECT', undefined, undefined],
        ],
        givenUp: [],
      },
    );
  });

  test('agreed encryption, replication and a full queue end the reading, each with its reason', () => {
    assert.deepEqual(told([client(ENCRYPT), server(Buffer.from('S')), client(Buffer.from('\x16\x03'))]), {
      told: [],
      givenUp: ['upgraded'],
    });
    assert.deepEqual(told([client(untyped(80_877_104)), server(Buffer.from('G'))]).givenUp, ['upgraded']);
    assert.deepEqual(
      session(client(query('START_REPLICATION SLOT a LOGICAL 0/0')), server(message('W', '\0\0\0'))).givenUp,
      ['upgraded'],
    );
    const many = Array.from({ length: 257 }, () => query('SELECT 1'));
    assert.deepEqual(session(client(...many.slice(1))).givenUp, []);
    assert.deepEqual(session(client(...many)), { told: [], givenUp: ['limit'] });
  });

  test('answers nobody asked for and messages that do not exist end the reading', () => {
    assert.deepEqual(session(server(READY)).givenUp, ['desynchronized']);
    assert.deepEqual(session(server(done('SELECT 1'))).givenUp, ['desynchronized']);
    assert.deepEqual(session(client(message('z'))).givenUp, ['malformed']);
    assert.deepEqual(session(server(message('Q', 'SELECT 1\0'))).givenUp, ['malformed']);
    assert.deepEqual(session(client(Buffer.from('Q\0\0\0\x03'))).givenUp, ['malformed']);
    assert.deepEqual(told([client(untyped(0x2_0000))]).givenUp, ['malformed']);
  });

  test('a refused login and a cancellation are no requests', () => {
    assert.deepEqual(told([client(STARTUP), server(failed('28P01'))]), { told: [], givenUp: [] });
    assert.deepEqual(told([client(untyped(80_877_102, '12345678'))]), { told: [], givenUp: [] });
  });

  test('what is under way at the end is told with who left', () => {
    assert.deepEqual(session(client(query('SELECT 1'), query('COMMIT')), server(ROW)).told, [
      ['SELECT', undefined, 'DC'],
      ['COMMIT', undefined, 'DC'],
    ]);
    assert.deepEqual(session(client(query('SELECT 1')), server(failed('57P01'))).told, [['SELECT', '57P01', 'DC']]);
  });
});

describe('probePostgresql', () => {
  test('knows each first message of a client, and wants no more than nine bytes', () => {
    const parameters = untyped(0x3_0002, 'a\0b\0\0');
    const others = [ENCRYPT, untyped(80_877_104), untyped(80_877_102, '12345678'), untyped(0x3_0000, '\0')];
    for (const first of [STARTUP, parameters, ...others]) {
      const enough = first === STARTUP || first === parameters ? 9 : 8;
      for (let end = 0; end < enough; end++) assert.equal(probePostgresql(first, 0, end, 'client'), 'more');
      assert.equal(probePostgresql(first, 0, enough, 'client'), 'yes');
      assert.equal(probePostgresql(first, 0, enough, 'server'), 'no');
    }
  });

  test('a Kafka client that begins with Metadata is no client of PostgreSQL', () => {
    for (let version = 0; version <= 12; version++) {
      const first = Buffer.from([0, 0, 0, 0x20, 0, 3, 0, version, 0, 0, 0, 1, 0, 4, ...Buffer.from('shop')]);
      assert.equal(probePostgresql(first, 0, first.length, 'client'), 'no');
    }
  });

  test('says no to other protocols at once', () => {
    for (const other of [
      'GET / HTTP/1.1',
      'PRI * HTTP/2.0',
      '\x16\x03\x01\x02\0\x01\0',
      '*1\r\n$4\r\nPING',
      '\0\0\0\x20\0\x12\0\x03',
    ]) {
      assert.equal(probePostgresql(Buffer.from(other, 'latin1'), 0, other.length, 'client'), 'no', other);
    }
  });
});
