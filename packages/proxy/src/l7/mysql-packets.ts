// Facts of the MySQL client/server protocol 4.1 (MySQL's "Client/Server Protocol", MariaDB's of the same name): commands and
// how each is answered, flags, and the few fields that are looked at. No state.

export const HEADER_BYTES = 4;
/** A packet of this size is followed by more of the same payload. */
export const WHOLE_PACKET_BYTES = 0xff_ffff;

/** How an answer is read. */
export const ANSWER = {
  /** None comes. */
  NONE: 0,
  /** One packet, whatever it holds. */
  SINGLE: 1,
  /** OK, an error, a request for a file, or result sets. */
  RESULT: 2,
  /** OK with the number of definitions that follow. */
  PREPARED: 3,
  /** Rows without a head. */
  ROWS: 4,
  /** As much talk as authentication takes. */
  AUTHENTICATION: 5,
} as const;

interface Command {
  readonly name: string;
  readonly answer: number;
}

const SINGLE_NAMES: readonly (readonly [code: number, name: string])[] = [
  [0x00, 'SLEEP'],
  [0x02, 'INIT_DB'],
  [0x05, 'CREATE_DB'],
  [0x06, 'DROP_DB'],
  [0x07, 'REFRESH'],
  [0x08, 'SHUTDOWN'],
  [0x09, 'STATISTICS'],
  [0x0b, 'CONNECT'],
  [0x0c, 'PROCESS_KILL'],
  [0x0d, 'DEBUG'],
  [0x0e, 'PING'],
  [0x0f, 'TIME'],
  [0x10, 'DELAYED_INSERT'],
  [0x15, 'REGISTER_SLAVE'],
  [0x1a, 'STMT_RESET'],
  [0x1b, 'SET_OPTION'],
  [0x1d, 'DAEMON'],
  [0x1f, 'RESET_CONNECTION'],
];

const COMMANDS: ReadonlyMap<number, Command> = new Map([
  ...SINGLE_NAMES.map(([code, name]): [number, Command] => [code, { name, answer: ANSWER.SINGLE }]),
  [0x01, { name: 'QUIT', answer: ANSWER.NONE }],
  [0x03, { name: 'QUERY', answer: ANSWER.RESULT }],
  [0x04, { name: 'FIELD_LIST', answer: ANSWER.ROWS }],
  [0x0a, { name: 'PROCESS_INFO', answer: ANSWER.RESULT }],
  [0x11, { name: 'CHANGE_USER', answer: ANSWER.AUTHENTICATION }],
  [0x16, { name: 'STMT_PREPARE', answer: ANSWER.PREPARED }],
  [0x17, { name: 'STMT_EXECUTE', answer: ANSWER.RESULT }],
  [0x18, { name: 'STMT_SEND_LONG_DATA', answer: ANSWER.NONE }],
  [0x19, { name: 'STMT_CLOSE', answer: ANSWER.NONE }],
  [0x1c, { name: 'STMT_FETCH', answer: ANSWER.ROWS }],
  [0xfa, { name: 'STMT_BULK_EXECUTE', answer: ANSWER.RESULT }],
]);

export const COMMAND = {
  QUIT: 0x01,
  QUERY: 0x03,
  PREPARE: 0x16,
  EXECUTE: 0x17,
  SEND_LONG_DATA: 0x18,
  BULK_EXECUTE: 0xfa,
} as const;

/** How that command is answered; undefined: there is no such command. */
export function answerOf(code: number): number | undefined {
  return COMMANDS.get(code)?.answer;
}

/** The command's name without `COM_`. */
export function commandName(code: number): string {
  return COMMANDS.get(code)?.name ?? 'OTHER';
}

/** Commands after which the server sends what the protocol of commands does not describe: replication and cloning. */
export function endsCommands(code: number): boolean {
  return code === 0x12 || code === 0x13 || code === 0x1e || code === 0x20 || code === 0x21;
}

/** Bits of the flags that both sides must set for them to count. */
export const CAPABILITY = {
  COMPRESS: 1 << 5,
  PROTOCOL_41: 1 << 9,
  TLS: 1 << 11,
  DEPRECATE_EOF: 1 << 24,
  OPTIONAL_METADATA: 1 << 25,
  COMPRESS_ZSTD: 1 << 26,
  QUERY_ATTRIBUTES: 1 << 27,
} as const;
/** Bit 0 unset means that MariaDB's flags are there too; this is the one of those that matters. */
export const MARIADB = { NOT: 1, CACHE_METADATA: 1 << 4 } as const;

export const STATUS = { MORE_RESULTS: 0x8, CURSOR: 0x40 } as const;

export interface Capabilities {
  readonly flags: number;
  /** MariaDB's own. */
  readonly more: number;
}

export const EVERYTHING: Capabilities = { flags: -1, more: -1 };

/** What the server can do by the payload of its greeting. When its version is too long to find the flags: everything. */
export function serverCapabilities(bytes: Uint8Array, start: number, end: number): Capabilities {
  let at = start + 1;
  while (at < end && bytes[at] !== 0) at++;
  // Connection id, salt, a zero; then flags in two halves with character set and status between.
  at += 14;
  if (at + 18 > end) return EVERYTHING;
  const flags = word16(bytes, at) | (word16(bytes, at + 5) << 16);
  return { flags, more: (flags & MARIADB.NOT) === 0 ? word32(bytes, at + 14) : 0 };
}

/** What the client wants, by the payload of its answer (at least 32 bytes of it). */
export function clientCapabilities(bytes: Uint8Array, start: number): Capabilities {
  const flags = word32(bytes, start);
  return { flags, more: (flags & MARIADB.NOT) === 0 ? word32(bytes, start + 28) : 0 };
}

/** Size of the length-encoded number at `at`; its value never matters where this is used. */
export function numberBytes(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  return first < 0xfb ? 1 : first === 0xfc ? 3 : first === 0xfd ? 4 : 9;
}

/** Status flags of an OK packet, also of one that stands for EOF. */
export function okStatus(bytes: Uint8Array, start: number): number {
  const second = start + 1 + numberBytes(bytes, start + 1);
  return word16(bytes, second + numberBytes(bytes, second));
}

export function word16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
}

export function word24(bytes: Uint8Array, at: number): number {
  return word16(bytes, at) | ((bytes[at + 2] ?? 0) << 16);
}

/** As a signed number, which is all the same to flags and names. */
export function word32(bytes: Uint8Array, at: number): number {
  return word24(bytes, at) | ((bytes[at + 3] ?? 0) << 24);
}

/**
 * Whether a connection whose first bytes from `side` these are speaks MySQL. The server speaks first: a greeting of version 10,
 * or an error when it wants no more clients.
 * @returns 'more' with fewer than 7 bytes that could still be it
 */
export function probeMysql(
  bytes: Uint8Array,
  start: number,
  end: number,
  side: 'client' | 'server',
): 'yes' | 'no' | 'more' {
  if (side === 'client') return 'no';
  const length = end - start;
  if (length > 2 && (word24(bytes, start) < 8 || word24(bytes, start) > 1024)) return 'no';
  if (length > 3 && bytes[start + 3] !== 0) return 'no';
  if (length <= 4) return 'more';
  const first = bytes[start + 4];
  if (first !== 0x0a && first !== 0xff) return 'no';
  if (length < 7) return 'more';
  if (first === 0x0a) return isDigit(bytes[start + 5]) && isVersionByte(bytes[start + 6]) ? 'yes' : 'no';
  const code = word16(bytes, start + 5);
  return code >= 1000 && code < 5000 ? 'yes' : 'no';
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function isVersionByte(byte: number | undefined): boolean {
  return isDigit(byte) || byte === 0x2e;
}
