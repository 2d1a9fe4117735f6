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
import { loginAnswer, mysqlCommand, packet } from '../../test/mysql-packets.ts';
import { MysqlReader, probeMysql } from './mysql.ts';
import { CAPABILITY } from './mysql-packets.ts';
import type { L7Listener } from './types.ts';

const make = (listener: L7Listener): MysqlReader => new MysqlReader(listener);
const ALL = 0xffff_ffff;

function greeting(flags: number, more = 0): Buffer {
  const tail = Buffer.alloc(32);
  tail.writeUInt16LE(flags & 0xffff, 13);
  tail.writeUInt16LE(flags >>> 16, 18);
  tail.writeUInt32LE(more, 27);
  return packet(0, '\x0a8.4.0-log\0', tail.subarray(0, 31), 'salt salt sal\0mysql_native_password\0');
}

const GREETING = greeting(ALL);
const OK_BODY = '\0\0\0\x02\0\0\0';

function login(flags = 0): Turn[] {
  return [server(GREETING), client(loginAnswer(flags, 'ada', 'shop')), server(packet(2, OK_BODY))];
}

const WITHOUT_EOF = CAPABILITY.DEPRECATE_EOF | CAPABILITY.QUERY_ATTRIBUTES;
const query = (sql: string): Buffer => mysqlCommand(0x03, sql);
const eof = (sequence: number, status = 2): Buffer => packet(sequence, Buffer.from([0xfe, 0, 0, status, 0]));
const okEof = (sequence: number, status = 2): Buffer => packet(sequence, Buffer.from([0xfe, 0, 0, status, 0, 0, 0]));
const ok = (sequence: number, status = 2): Buffer => packet(sequence, Buffer.from([0, 1, 0, status, 0, 0, 0]));
const failed = (sequence: number, code: number): Buffer =>
  packet(sequence, Buffer.from([0xff, code & 0xff, code >> 8]), '#42000You are wrong');
const DEFINITION = '\x03def\x04shop\x01t\x01t\x02id\x02id\x0c\x3f\0\x0b\0\0\0\x03\0\0\0\0\0';
// More than one packet can hold: two parts, of which the second is short.
const HUGE = Buffer.alloc(0xff_ffff, 'h');

const SESSION: readonly Turn[] = [
  ...login(WITHOUT_EOF),
  client(query('\0\x01/* who */ SELECT * FROM t')),
  server(
    packet(1, '\x02'),
    packet(2, DEFINITION),
    packet(3, DEFINITION),
    packet(4, '\x011\x012'),
    packet(5, 'r'.repeat(3000)),
    okEof(6),
  ),
  client(mysqlCommand(0x16, 'INSERT INTO t VALUES (?)')),
  server(packet(1, '\0\x07\0\0\0\0\0\x01\0\0\0\0'), packet(2, DEFINITION)),
  client(mysqlCommand(0x18, `\x07\0\0\0\0\0${'d'.repeat(2000)}`), mysqlCommand(0x17, '\x07\0\0\0\0\x01\0\0\0')),
  server(ok(1)),
  client(query('\0\x01LOAD DATA LOCAL INFILE "f" INTO TABLE t')),
  server(packet(1, '\xfbf')),
  client(packet(2, 'l'.repeat(4000)), packet(3)),
  server(ok(4)),
  client(query('\0\x01CALL p()')),
  server(packet(1, '\x01'), packet(2, DEFINITION), packet(3, '\x011'), okEof(4, 0x0a), ok(5, 0x0a), ok(6)),
  client(mysqlCommand(0x11, 'bob\0\0\0')),
  server(packet(1, '\xfemysql_native_password\0salt\0')),
  client(packet(2, 'answer')),
  server(packet(3, OK_BODY)),
  client(mysqlCommand(0x19, '\x07\0\0\0'), query('\0\x01SELEKT')),
  server(failed(1, 1064)),
  client(mysqlCommand(0x01, '')),
];

function told(...turns: readonly Turn[]): { readonly told: string[]; readonly givenUp: readonly string[] } {
  const { requests, givenUp } = readWhole(make, turns);
  return {
    told: requests.map(({ method, error = '', flags = '' }) => `${method} ${error} ${flags}`.trimEnd()),
    givenUp,
  };
}

describe('MysqlReader', () => {
  test('reads a long session the same however its bytes arrive', () => {
    assert.deepEqual(told(...SESSION), {
      told: 'SELECT,STMT_PREPARE,INSERT,LOAD,CALL,CHANGE_USER,STMT_CLOSE,OTHER 1064'.split(','),
      givenUp: [],
    });
    assertPiecesDoNotMatter(make, SESSION, 3_306);
    assertNoiseIsHarmless(make, SESSION, 3_307);
  });

  test('sizes and times are those of the command and of all its answer, values sent ahead included', () => {
    const ahead = mysqlCommand(0x18, '\x01\0\0\0\0\0data');
    const asked = mysqlCommand(0x17, '\x01\0\0\0\0\x01\0\0\0');
    const { requests } = readWhole(make, [...login(), client(ahead), client(asked), server(ok(1))]);
    assert.deepEqual(
      requests.map(({ startMs, durationMs, requestBytes, responseBytes }) => [
        startMs,
        durationMs,
        requestBytes,
        responseBytes,
      ]),
      [[3, 2, ahead.length + asked.length, ok(1).length]],
    );
  });

  test('payloads of 16 MiB and more are one command, one row and one file', () => {
    const turns = [
      ...login(),
      client(packet(0, '\x03SELECT', HUGE.subarray(7)), packet(1, HUGE), packet(2)),
      server(
        packet(3, '\x01'),
        packet(4, DEFINITION),
        eof(5),
        packet(6, '\xfe', HUGE.subarray(1)),
        packet(7, 'more'),
        eof(8),
      ),
      client(query('SELECT 2')),
      server(packet(1, '\x01'), packet(2, DEFINITION), eof(3), packet(4, HUGE), packet(5), eof(6)),
    ];
    const { requests, givenUp } = readWhole(make, turns);
    assert.deepEqual(givenUp, []);
    assert.deepEqual(
      requests.map(({ requestBytes, responseBytes }) => [requestBytes > 33_554_430, responseBytes > 16_777_215]),
      [
        [true, true],
        [false, true],
      ],
    );
  });

  test('a cursor ends the answer where its rows would begin', () => {
    const answer = server(packet(1, '\x01'), packet(2, DEFINITION), eof(3, 0x42));
    const rows = server(packet(1, '\0\0\x01'), eof(2, 0x82));
    const execute = client(mysqlCommand(0x17, '\x01\0\0\0\x01\x01\0\0\0'));
    assert.deepEqual(told(...login(), execute, answer, client(mysqlCommand(0x1c, '\x01\0\0\0\x05\0\0\0')), rows), {
      told: ['STMT_EXECUTE', 'STMT_FETCH'],
      givenUp: [],
    });
  });

  test('progress of MariaDB is no error, and its columns may be left out', () => {
    const progress = packet(1, '\xff\xff\xff\x01\x02\x01\0\0\0\x05work!');
    assert.deepEqual(told(...login(), client(query('ALTER TABLE t')), server(progress, ok(2))).told, ['ALTER']);
    const flags = CAPABILITY.DEPRECATE_EOF;
    const turns = [
      server(greeting(0xffff_fffe, 0xff)),
      client(loginAnswer(flags, 'ada', 'shop', 1 << 4)),
      server(packet(2, OK_BODY)),
      client(mysqlCommand(0x17, '\x01\0\0\0\0\x01\0\0\0')),
      server(packet(1, '\x02\0'), packet(2, '\0\0\x01'), okEof(3)),
      client(mysqlCommand(0x17, '\x01\0\0\0\0\x01\0\0\0')),
      server(packet(1, '\x01\x01'), packet(2, DEFINITION), okEof(3)),
    ];
    assert.deepEqual(told(...turns), { told: ['STMT_EXECUTE', 'STMT_EXECUTE'], givenUp: [] });
  });

  test('flags count only when both sides set them', () => {
    const turns = [
      server(greeting(0x200)),
      client(loginAnswer(CAPABILITY.COMPRESS | CAPABILITY.DEPRECATE_EOF | CAPABILITY.TLS, 'ada', 'shop')),
      server(packet(2, OK_BODY)),
      client(query('SELECT 1')),
      server(packet(1, '\x01'), packet(2, DEFINITION), eof(3), packet(4, '\x011'), eof(5)),
    ];
    assert.deepEqual(told(...turns), { told: ['SELECT'], givenUp: [] });
  });

  test('encryption, compression, replication, old clients and a full queue end the reading, each with its reason', () => {
    const request = Buffer.from(loginAnswer(CAPABILITY.TLS, '', '').subarray(0, 36));
    request[0] = 32;
    assert.deepEqual(told(server(GREETING), client(request, Buffer.from('\x16\x03\x01'))).givenUp, ['upgraded']);
    for (const [flag, why] of [
      [CAPABILITY.COMPRESS, 'upgraded'],
      [CAPABILITY.COMPRESS_ZSTD, 'upgraded'],
      [CAPABILITY.OPTIONAL_METADATA, 'limit'],
    ] as const) {
      assert.deepEqual(told(...login(flag)).givenUp, [why]);
    }
    assert.deepEqual(told(server(greeting(0)), client(loginAnswer(0, 'ada', 'shop'))).givenUp, ['limit']);
    assert.deepEqual(told(...login(), client(mysqlCommand(0x12, 'binlog'))).givenUp, ['upgraded']);
    const many = Array.from({ length: 257 }, () => query('SELECT 1'));
    assert.deepEqual(told(...login(), client(...many.slice(1))).givenUp, []);
    assert.deepEqual(told(...login(), client(...many)), { told: [], givenUp: ['limit'] });
  });

  test('what breaks the rules ends the reading', () => {
    assert.deepEqual(told(server(packet(0, '\x09old'))).givenUp, ['malformed']);
    assert.deepEqual(told(client(query('SELECT 1'))).givenUp, ['desynchronized']);
    assert.deepEqual(told(...login(), client(packet(0))).givenUp, ['malformed']);
    assert.deepEqual(told(...login(), client(mysqlCommand(0x77, ''))).givenUp, ['malformed']);
    assert.deepEqual(told(...login(), client(packet(3, '\x03'))).givenUp, ['desynchronized']);
    assert.deepEqual(told(...login(), server(ok(1))).givenUp, ['desynchronized']);
    const leap = server(packet(1, '\x01'), packet(3, DEFINITION));
    assert.deepEqual(told(...login(), client(query('SELECT 1')), leap).givenUp, ['desynchronized']);
    const noEnd = server(packet(1, '\x01'), packet(2, DEFINITION), packet(3, '\x011'));
    assert.deepEqual(told(...login(), client(query('SELECT 1')), noEnd).givenUp, ['malformed']);
  });

  test('a refused login and a farewell are no requests', () => {
    assert.deepEqual(told(server(failed(0, 1040))), { told: [], givenUp: [] });
    assert.deepEqual(told(server(GREETING), client(loginAnswer(0, 'eve', 'shop')), server(failed(2, 1045))), {
      told: [],
      givenUp: [],
    });
    assert.deepEqual(told(...login(), server(failed(0, 4031))), { told: [], givenUp: [] });
  });

  test('a login may take as much talk as its plugin likes', () => {
    const turns = [
      ...login().slice(0, 2),
      server(packet(2, '\xfedialog\0')),
      client(packet(3, 'yes')),
      server(packet(4, '\x04One-time password? ')),
      client(packet(5, '123456')),
      server(packet(6, OK_BODY)),
      client(query('SELECT 1')),
      server(ok(1)),
    ];
    assert.deepEqual(told(...turns), { told: ['SELECT'], givenUp: [] });
  });

  test('what is under way at the end is told with who left', () => {
    assert.deepEqual(told(...login(), client(query('SELECT SLEEP(9)'))).told, ['SELECT  DC']);
  });
});

describe('probeMysql', () => {
  test('knows the greeting and a refusal by seven bytes of the server', () => {
    for (const first of [GREETING, failed(0, 1040)]) {
      for (let end = 0; end < 7; end++) assert.equal(probeMysql(first, 0, end, 'server'), 'more');
      assert.equal(probeMysql(first, 0, 7, 'server'), 'yes');
      assert.equal(probeMysql(first, 0, 7, 'client'), 'no');
    }
  });

  test('says no to other servers that speak first', () => {
    for (const other of ['220 mail ESMTP', 'SSH-2.0-OpenSSH', '+OK POP3', 'RFB 003.008\n', '\0\0\x12\x04\0\0\0\0\0']) {
      assert.equal(probeMysql(Buffer.from(other, 'latin1'), 0, other.length, 'server'), 'no', other);
    }
  });
});
