// Packets of MySQL written by hand, for tests.
import { Buffer } from 'node:buffer';

/** CLIENT_PROTOCOL_41, CONNECT_WITH_DB, SECURE_CONNECTION, MULTI_STATEMENTS and MULTI_RESULTS. */
const ALWAYS = 0x200 | 0x8 | 0x8000 | 0x1_0000 | 0x2_0000;

export function packet(sequence: number, ...parts: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map(part => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
  const head = Buffer.alloc(4);
  head.writeUIntLE(body.length, 0, 3);
  head[3] = sequence;
  return Buffer.concat([head, body]);
}

export function mysqlCommand(code: number, body: string | Buffer): Buffer {
  return packet(0, Buffer.from([code]), body);
}

/** The client's answer to the greeting: no password. `more` are MariaDB's flags. */
export function loginAnswer(flags: number, user: string, database: string, more = 0): Buffer {
  const head = Buffer.alloc(32);
  head.writeUInt32LE((ALWAYS | flags) >>> 0);
  head.writeUInt32LE(1 << 24, 4);
  head[8] = 33;
  head.writeUInt32LE(more, 28);
  return packet(1, head, `${user}\0\0${database}\0`);
}
