// PostgreSQL itself, with pgbench and psql as clients: what the reader counts is what they say they did.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram, type ForeignServer, startPostgresql } from '../../test/foreign-server.ts';
import { countsOf } from '../../test/l7-recorder.ts';
import { L7Relay } from '../../test/l7-relay.ts';
import { PostgresqlReader } from './postgresql.ts';

const run = promisify(execFile);
const postgres = findProgram('/usr/lib/postgresql/*/bin/postgres');
const skip = postgres === undefined && 'no PostgreSQL: apt-get install postgresql';
const programs = dirname(postgres ?? '/');
const TRANSACTIONS = 500;

// A name for each statement that pgbench's own TPC-B has, so that nothing but the script is asked.
const SCRIPT = `\\set id random(1, 100)
BEGIN;
UPDATE account SET balance = balance + 1 WHERE id = :id;
SELECT balance FROM account WHERE id = :id;
/* a comment */ INSERT INTO history VALUES (:id);
END;
`;

describe('PostgreSQL', { skip }, () => {
  let server: ForeignServer;
  before(async () => {
    server = await startPostgresql(programs);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
  });

  test('every statement of every transaction is told once, in each of pgbench’s modes', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ambit-pgbench-'));
    const script = join(directory, 'script.sql');
    writeFileSync(script, SCRIPT);
    try {
      const tables =
        'CREATE TABLE history (id int); CREATE TABLE account AS SELECT i AS id, 0 AS balance FROM generate_series(1, 100) i';
      await psql(server.port, tables);
      for (const mode of ['simple', 'extended', 'prepared']) {
        await using relay = await L7Relay.start(server.port, listener => new PostgresqlReader(listener));
        const args = ['-n', '-M', mode, '-c', '4', '-t', String(TRANSACTIONS / 4), '-f', script];
        const { stdout } = await run(join(programs, 'pgbench'), [...args, ...target(relay.port)]);
        assert.match(stdout, new RegExp(`processed: ${TRANSACTIONS}/${TRANSACTIONS}`));
        const each = TRANSACTIONS;
        assert.deepEqual(
          countsOf(relay.recorders),
          { BEGIN: each, UPDATE: each, SELECT: each, INSERT: each, END: each },
          mode,
        );
        assert.deepEqual(givenUp(relay), [], mode);
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('errors, many rows, copying both ways and several statements in one query are told as they are', async () => {
    await using relay = await L7Relay.start(server.port, listener => new PostgresqlReader(listener));
    await psql(relay.port, 'CREATE TABLE t (id int PRIMARY KEY, words text)');
    const copied = Array.from({ length: 5000 }, (_, i) => `${i}\t${'x'.repeat(100)}\n`).join('');
    const copy = psql(relay.port, 'COPY t FROM STDIN');
    copy.child.stdin?.end(copied);
    await copy;
    await psql(relay.port, 'COPY t TO STDOUT');
    await psql(relay.port, 'SELECT * FROM t');
    await assert.rejects(psql(relay.port, 'INSERT INTO t VALUES (7)'));
    await assert.rejects(psql(relay.port, 'SELEKT'));
    await psql(relay.port, 'BEGIN; DELETE FROM t; COMMIT');
    assert.deepEqual(givenUp(relay), []);
    const told = relay.recorders.flatMap(({ requests }) => requests);
    assert.deepEqual(
      told.map(({ method, error }) => [method, error]),
      [
        ['CREATE', undefined],
        ['COPY', undefined],
        ['COPY', undefined],
        ['SELECT', undefined],
        ['INSERT', '23505'],
        ['OTHER', '42601'],
        ['BEGIN', undefined],
      ],
    );
    const [, copyIn, copyOut, select] = told;
    assert.ok((copyIn?.requestBytes ?? 0) > copied.length);
    assert.ok((copyOut?.responseBytes ?? 0) > copied.length);
    assert.ok((select?.responseBytes ?? 0) > copied.length);
  });

  test('encryption that the server refuses is passed over', async () => {
    await using relay = await L7Relay.start(server.port, listener => new PostgresqlReader(listener));
    // This server has no certificate and says no.
    await run(join(programs, 'psql'), [...target(relay.port), '-c', 'SELECT 1'], { env: { PGSSLMODE: 'prefer' } });
    assert.deepEqual(countsOf(relay.recorders), { SELECT: 1 });
  });

  test('pipelined batches that fail in their midst, at their commit and while copying are told as the server answers', async () => {
    await using relay = await L7Relay.start(server.port, listener => new PostgresqlReader(listener));
    const table = 'CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, CHECK (id > 0))';
    const steps = [
      [untyped('user\0postgres\0\0'), 'Z'],
      [message('Q', `${table}\0`), 'Z'],
      [statement('INSERT INTO once VALUES (1)') + SYNC + statement('SELECT 1') + statement('SELECT 2') + SYNC, 'ZZ'],
      [statement('SELECT 3') + statement('UPDATE once SET id = 0') + statement('DELETE FROM once') + SYNC, 'Z'],
      [statement('INSERT INTO once VALUES (1)') + SYNC, 'Z'],
      [statement('COPY once FROM STDIN') + SYNC, 'G'],
      [message('d', '2\n') + message('c') + SYNC, 'Z'],
      [statement('COPY once FROM STDIN') + SYNC, 'G'],
      [message('f', 'no\0') + SYNC, 'Z'],
      [message('P', 'name\0SELECT nothing\0\0\0') + SYNC + message('Q', 'TABLE once\0'), 'ZZ'],
    ] as const;
    await converse(relay.port, steps);
    assert.deepEqual(givenUp(relay), []);
    assert.deepEqual(
      relay.recorders.flatMap(({ requests }) => requests).map(({ method, error }) => [method, error]),
      [
        ['CREATE', undefined],
        ['INSERT', undefined],
        ['SELECT', undefined],
        ['SELECT', undefined],
        ['SELECT', undefined],
        ['UPDATE', '23514'],
        ['DELETE', '23514'],
        ['INSERT', '23505'],
        ['COPY', undefined],
        ['COPY', '57014'],
        ['SELECT', '42703'],
        ['TABLE', undefined],
      ],
    );
  });
});

function target(port: number): string[] {
  return ['-h', '127.0.0.1', '-p', String(port), '-U', 'postgres', 'postgres'];
}

function psql(port: number, sql: string): ReturnType<typeof run> {
  return run(join(programs, 'psql'), ['-q', '-X', '-c', sql, ...target(port)], { maxBuffer: 64 << 20 });
}

function givenUp(relay: L7Relay): string[] {
  return relay.recorders.flatMap(recorder => recorder.givenUp);
}

function message(type: string, body = ''): string {
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length + 4);
  return type + length.toString('latin1') + body;
}

function untyped(body: string): string {
  return message('', `\0\x03\0\0${body}`);
}

const SYNC = message('S');

function statement(sql: string): string {
  return message('P', `\0${sql}\0\0\0`) + message('B', '\0\0\0\0\0\0\0\0') + message('E', '\0\0\0\0\0');
}

// Says each step's messages at once, and waits until those messages were answered that it names.
async function converse(port: number, steps: readonly (readonly [bytes: string, until: string])[]): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  try {
    for (const [bytes, until] of steps) {
      socket.write(bytes, 'latin1');
      let answer = Buffer.alloc(0);
      while (!typesOf(answer, until[0] ?? '').endsWith(until)) {
        const [more] = (await once(socket, 'data')) as [Buffer];
        answer = Buffer.concat([answer, more]);
      }
    }
  } finally {
    socket.destroy();
  }
}

// How often a type occurs among whole messages, as that many letters.
function typesOf(bytes: Buffer, type: string): string {
  let found = '';
  for (let at = 0; at + 5 <= bytes.length; ) {
    const end = at + 1 + bytes.readInt32BE(at + 1);
    if (end <= bytes.length && bytes[at] === type.charCodeAt(0)) found += type;
    at = end;
  }
  return found;
}
