// What reading a database's protocol costs: ns a request, in process, without sockets. Each round shows a turn of the client
// and one of the server, as they come from a pipelining client.
// Run: node packages/proxy/bench/l7-db.ts    Figures are medians of ROUNDS rounds after a warm-up; compare only within one run.
import { Buffer } from 'node:buffer';
import { KafkaReader } from '../src/l7/kafka.ts';
import { MysqlReader } from '../src/l7/mysql.ts';
import { PostgresqlReader } from '../src/l7/postgresql.ts';
import { RedisReader } from '../src/l7/redis.ts';
import type { L7Listener, L7Sniffer } from '../src/l7/types.ts';

const ROUNDS = 15;
const REQUESTS_A_ROUND = 200_000;

class Counter implements L7Listener {
  requests = 0;
  sizes = 0;

  onProtocol(): void {}

  onRequest(request: { readonly requestBytes: number; readonly responseBytes: number }): void {
    this.requests++;
    this.sizes += request.requestBytes + request.responseBytes;
  }

  onGiveUp(why: string): void {
    throw new Error(`the reader gave up: ${why}`);
  }
}

interface Conversation {
  readonly name: string;
  readonly make: (listener: L7Listener) => L7Sniffer;
  readonly before: readonly (readonly ['client' | 'server', Buffer])[];
  readonly client: Buffer;
  readonly server: Buffer;
  /** Requests in one turn. */
  readonly depth: number;
}

function show(reader: L7Sniffer, side: 'client' | 'server', bytes: Buffer): void {
  if (side === 'client') reader.fromClient(bytes, 0, bytes.length, 1);
  else reader.fromServer(bytes, 0, bytes.length, 1);
}

function measure({ name, make, before, client, server, depth }: Conversation): void {
  const counter = new Counter();
  const reader = make(counter);
  for (const [side, bytes] of before) show(reader, side, bytes);
  const turns = Math.ceil(REQUESTS_A_ROUND / depth);
  const rounds: number[] = [];
  for (let round = -3; round < ROUNDS; round++) {
    const from = process.cpuUsage();
    for (let turn = 0; turn < turns; turn++) {
      show(reader, 'client', client);
      show(reader, 'server', server);
    }
    const spent = process.cpuUsage(from);
    if (round >= 0) rounds.push(((spent.user + spent.system) * 1000) / (turns * depth));
  }
  if (counter.requests !== turns * depth * (ROUNDS + 3)) throw new Error(`${name}: requests were lost`);
  const median = rounds.sort((a, b) => a - b)[rounds.length >> 1] ?? 0;
  const bytes = (client.length + server.length) / depth;
  console.log(
    `${name.padEnd(46)} ${median.toFixed(1).padStart(9)} ns   ${bytes.toFixed(0).padStart(5)} bytes a request`,
  );
}

function repeat(bytes: Buffer, times: number): Buffer {
  return Buffer.concat(Array.from({ length: times }, () => bytes));
}

function text(value: string): Buffer {
  return Buffer.from(value, 'latin1');
}

function postgresql(type: string, body = ''): string {
  const length = Buffer.alloc(4);
  length.writeInt32BE(body.length + 4);
  return type + length.toString('latin1') + body;
}

function mysql(sequence: number, body: string): string {
  const head = Buffer.alloc(4);
  head.writeUIntLE(body.length, 0, 3);
  head[3] = sequence;
  return head.toString('latin1') + body;
}

const ROW = postgresql('D', 'x'.repeat(60));
const READY = postgresql('Z', 'I');
const STARTED = [
  ['client', text(postgresql('', '\0\x03\0\0user\0ada\0\0'))],
  ['server', text(postgresql('R', '\0\0\0\0') + READY)],
] as const;
const DEFINITION = 'd'.repeat(40);
const LOGGED_IN = [
  ['server', text(mysql(0, `\x0a8.4.0\0${'\0'.repeat(13)}\xff\xff${'\0'.repeat(3)}\xff\xff${'\0'.repeat(11)}`))],
  ['client', text(mysql(1, `\0\x02\0\x01${'\0'.repeat(28)}ada\0\0`))],
  ['server', text(mysql(2, '\0\0\0\x02\0\0\0'))],
] as const;

// Numbers of requests come again, as all of a turn are answered before the next one.
function kafka(head: string, body: string): Buffer {
  return Buffer.concat(
    Array.from({ length: 4 }, (_, id) => {
      const bytes = text(`\0\0\0\0${head}\0\0\0${String.fromCharCode(id)}${body}`);
      bytes.writeInt32BE(bytes.length - 4);
      return bytes;
    }),
  );
}

const CONVERSATIONS: readonly Conversation[] = [
  {
    name: 'PostgreSQL, simple query, one row',
    make: listener => new PostgresqlReader(listener),
    before: STARTED,
    client: text(postgresql('Q', 'SELECT balance FROM account WHERE id = 4711\0')),
    server: text(postgresql('T', 't'.repeat(30)) + ROW + postgresql('C', 'SELECT 1\0') + READY),
    depth: 1,
  },
  {
    name: 'PostgreSQL, prepared statement, one row',
    make: listener => new PostgresqlReader(listener),
    before: STARTED,
    client: text(
      postgresql('B', '\0P0_3\0\0\0\0\0\0\0') +
        postgresql('D', 'P\0') +
        postgresql('E', '\0\0\0\0\0') +
        postgresql('S'),
    ),
    server: text(postgresql('2') + postgresql('T', 't'.repeat(30)) + ROW + postgresql('C', 'SELECT 1\0') + READY),
    depth: 1,
  },
  {
    name: 'Redis, GET, 16 in flight',
    make: listener => new RedisReader(listener),
    before: [],
    client: repeat(text('*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n'), 16),
    server: repeat(text(`$64\r\n${'v'.repeat(64)}\r\n`), 16),
    depth: 16,
  },
  {
    name: 'Redis, SET, one in flight',
    make: listener => new RedisReader(listener),
    before: [],
    client: text(`*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000042\r\n$64\r\n${'v'.repeat(64)}\r\n`),
    server: text('+OK\r\n'),
    depth: 1,
  },
  {
    name: 'MySQL, query, one row',
    make: listener => new MysqlReader(listener),
    before: LOGGED_IN,
    client: text(mysql(0, '\x03SELECT balance FROM account WHERE id = 4711')),
    server: text(
      mysql(1, '\x01') + mysql(2, DEFINITION) + mysql(3, `\x30${'r'.repeat(48)}`) + mysql(4, '\xfe\0\0\x02\0\0\0'),
    ),
    depth: 1,
  },
  {
    name: 'Kafka, Fetch, 4 in flight, 1 KiB',
    make: listener => new KafkaReader(listener),
    before: [],
    client: kafka('\0\x01\0\x0b', '\0\x04shop'),
    server: kafka('', 'x'.repeat(1024).replace(/^.{6}/, '\0\0\0\0\0\0')),
    depth: 4,
  },
];

for (const conversation of CONVERSATIONS) measure(conversation);
