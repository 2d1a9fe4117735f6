// MariaDB itself, with its own clients and with hand-written packets: what the reader counts is what the server counts.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram, type ForeignServer, startMariadb } from '../../test/foreign-server.ts';
import { countsOf } from '../../test/l7-recorder.ts';
import { L7Relay } from '../../test/l7-relay.ts';
import { loginAnswer, mysqlCommand, packet } from '../../test/mysql-packets.ts';
import { MysqlReader } from './mysql.ts';
import { CAPABILITY } from './mysql-packets.ts';

const run = promisify(execFile);
const mariadb = findProgram('/usr/sbin/mariadbd');
const skip = mariadb === undefined && 'no MariaDB: apt-get install mariadb-server';

describe('MariaDB', { skip }, () => {
  let server: ForeignServer;
  before(async () => {
    server = await startMariadb(mariadb ?? '');
    await ask(server.port, 'CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, words TEXT)');
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
  });

  test('every query of mysqlslap is told once', async () => {
    await using relay = await L7Relay.start(server.port, listener => new MysqlReader(listener));
    const insert = 'INSERT INTO shop.t VALUES (1, "one") ON DUPLICATE KEY UPDATE words = "two"';
    const args = ['--concurrency=4', '--number-of-queries=2000', '--no-drop', '--delimiter=;', '--create-schema=shop'];
    const queries = `--query=SELECT * FROM shop.t;/* a comment */ ${insert}`;
    const earlier = await statementsOf(server.port);
    await run('mariadb-slap', [...target(relay.port), ...args, queries]);
    const later = await statementsOf(server.port);
    const counts = countsOf(relay.recorders);
    assert.equal(counts.SELECT, later.select - earlier.select);
    assert.equal(counts.INSERT, later.insert - earlier.insert);
    assert.equal((counts.SELECT ?? 0) + (counts.INSERT ?? 0), 2000);
    assert.deepEqual(givenUp(relay), []);
  });

  test('errors, many rows, several results, files and pings are told as they are', async () => {
    await using relay = await L7Relay.start(server.port, listener => new MysqlReader(listener));
    const directory = mkdtempSync(join(tmpdir(), 'ambit-file-'));
    const file = join(directory, 'rows');
    writeFileSync(file, Array.from({ length: 3000 }, (_, at) => `${at + 10}\t${'x'.repeat(1000)}\n`).join(''));
    try {
      await ask(relay.port, `LOAD DATA LOCAL INFILE '${file}' INTO TABLE shop.t`, '--local-infile=1');
    } finally {
      rmSync(directory, { recursive: true });
    }
    await ask(relay.port, 'SELECT * FROM shop.t');
    await assert.rejects(ask(relay.port, 'SELECT nothing'));
    await ask(relay.port, 'DELIMITER //\nBEGIN NOT ATOMIC SELECT 1; SELECT 2, 3; DO 0; END//');
    await ask(relay.port, `SELECT REPEAT('y', 20000000)`, '--max-allowed-packet=100M');
    await run('mariadb-admin', [...target(relay.port), 'ping']);
    assert.deepEqual(givenUp(relay), []);
    const told = relay.recorders.flatMap(({ requests }) => requests);
    assert.deepEqual(
      told.filter(({ method }) => method !== 'INIT_DB').map(({ method, error }) => [method, error]),
      [
        ['LOAD', undefined],
        ['SELECT', undefined],
        ['SELECT', '1054'],
        ['BEGIN', undefined],
        ['SELECT', undefined],
        ['PING', undefined],
      ],
    );
    const [load, select, , , large] = told;
    assert.ok((load?.requestBytes ?? 0) > 3_000_000);
    assert.ok((select?.responseBytes ?? 0) > 3_000_000);
    assert.ok((large?.responseBytes ?? 0) > 20_000_000);
    // What begins a packet is shown together with the rest of its read.
    assert.ok(relay.skippedBytes > 19_000_000, `${relay.skippedBytes}`);
  });

  for (const withoutEof of [true, false]) {
    const flags = withoutEof ? CAPABILITY.DEPRECATE_EOF : 0;
    test(`prepared statements, cursors and the smaller commands are told once each, ${withoutEof ? 'without' : 'with'} EOF`, async () => {
      await using relay = await L7Relay.start(server.port, listener => new MysqlReader(listener));
      const commands = [
        mysqlCommand(0x16, 'SELECT id, words FROM shop.t WHERE id < ? LIMIT 3'),
        mysqlCommand(0x17, '\x01\0\0\0\0\x01\0\0\0\0\x01\x08\0\x64\0\0\0\0\0\0\0'),
        // With a read-only cursor, and two rows of it.
        mysqlCommand(0x17, '\x01\0\0\0\x01\x01\0\0\0\0\x01\x08\0\x64\0\0\0\0\0\0\0'),
        mysqlCommand(0x1c, '\x01\0\0\0\x02\0\0\0'),
        mysqlCommand(0x1c, '\x01\0\0\0\x02\0\0\0'),
        mysqlCommand(0x1a, '\x01\0\0\0'),
        mysqlCommand(0x16, 'UPDATE shop.t SET words = ? WHERE id = 11'),
        mysqlCommand(0x18, `\x02\0\0\0\0\0${'z'.repeat(500)}`),
        mysqlCommand(0x17, '\x02\0\0\0\0\x01\0\0\0\0\x01\xfc\0'),
        mysqlCommand(0x17, '\x63\0\0\0\0\x01\0\0\0'),
        mysqlCommand(0x19, '\x02\0\0\0'),
        mysqlCommand(0x16, 'SELEKT'),
        mysqlCommand(0x04, 't\0'),
        mysqlCommand(0x09, ''),
        mysqlCommand(0x1b, '\0\0'),
        mysqlCommand(0x03, 'SELECT 1; SELECT 2; UPDATE t SET id = id WHERE id = 0; SELECT 3'),
        mysqlCommand(0x02, 'shop'),
        mysqlCommand(0x1f, ''),
        mysqlCommand(0x03, 'SHOW TABLES FROM shop'),
      ];
      await converse(relay.port, flags, commands);
      assert.deepEqual(givenUp(relay), []);
      const told = relay.recorders.flatMap(({ requests }) => requests);
      assert.equal(told.filter(({ method }) => method === 'PING').length, commands.length);
      assert.deepEqual(
        told.map(({ method, error = '' }) => `${method} ${error}`.trim()).filter(method => method !== 'PING'),
        (
          'STMT_PREPARE,SELECT,SELECT,STMT_FETCH,STMT_FETCH,STMT_RESET,STMT_PREPARE,UPDATE,STMT_EXECUTE 1243,STMT_CLOSE,' +
          'STMT_PREPARE 1064,FIELD_LIST,STATISTICS,SET_OPTION,SELECT,INIT_DB,RESET_CONNECTION,SHOW'
        ).split(','),
      );
    });
  }

  test('a compressed connection is left alone', async () => {
    await using relay = await L7Relay.start(server.port, listener => new MysqlReader(listener));
    await ask(relay.port, 'SELECT 1', '--compress');
    assert.deepEqual(givenUp(relay), ['upgraded']);
  });
});

const PING = mysqlCommand(0x0e, '');
// All but the status and the number of warnings.
const PONG = packet(1, '\0\0\0\0\0\0\0').subarray(0, 7);

function target(port: number): string[] {
  return ['--no-defaults', '-h', '127.0.0.1', '-P', String(port), '-u', 'root'];
}

async function ask(port: number, sql: string, ...options: readonly string[]): Promise<string> {
  const asked = run('mariadb', [...target(port), ...options, '-N'], { maxBuffer: 256 << 20 });
  asked.child.stdin?.end(`${sql}\n`);
  const { stdout } = await asked;
  return stdout;
}

// What the server has carried out in all sessions.
async function statementsOf(port: number): Promise<{ readonly select: number; readonly insert: number }> {
  const counts = new Map<string, number>();
  for (const [, name = '', count] of (await ask(port, 'SHOW GLOBAL STATUS LIKE "Com%"')).matchAll(
    /^Com_(\w+)\t(\d+)$/gm,
  )) {
    counts.set(name, Number(count));
  }
  return { select: counts.get('select') ?? 0, insert: counts.get('insert') ?? 0 };
}

// Logs in, says one command after another, each with a ping behind it whose answer is easy to know, and leaves.
async function converse(port: number, flags: number, commands: readonly Buffer[]): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'data');
    socket.write(loginAnswer(flags, 'root', 'shop'));
    await once(socket, 'data');
    for (const command of commands) {
      socket.write(Buffer.concat([command, PING]));
      let answer = Buffer.alloc(0);
      while (answer.subarray(-11, -4).compare(PONG) !== 0) {
        const [more] = (await once(socket, 'data')) as [Buffer];
        answer = Buffer.concat([answer, more]);
      }
    }
  } finally {
    socket.destroy();
  }
}

function givenUp(relay: L7Relay): string[] {
  return relay.recorders.flatMap(recorder => recorder.givenUp);
}
