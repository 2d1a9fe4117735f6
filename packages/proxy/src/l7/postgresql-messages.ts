// Facts of PostgreSQL's protocol 3 (documentation, part "Frontend/Backend Protocol"): which messages there are, and what
// can be said of a connection by its first bytes. No state.

/** Type bytes of messages that have a meaning here. Some letters mean different things by direction. */
export const MESSAGE = {
  QUERY: 0x51, // Q
  PARSE: 0x50, // P
  BIND: 0x42, // B
  EXECUTE: 0x45, // E from the client
  SYNC: 0x53, // S from the client
  CLOSE: 0x43, // C from the client
  DESCRIBE: 0x44, // D from the client
  FLUSH: 0x48, // H from the client
  FUNCTION_CALL: 0x46, // F
  COPY_DATA: 0x64, // d
  COPY_DONE: 0x63, // c
  COPY_FAIL: 0x66, // f
  READY: 0x5a, // Z
  COMMAND_COMPLETE: 0x43, // C from the server
  EMPTY_QUERY: 0x49, // I
  PORTAL_SUSPENDED: 0x73, // s
  ERROR: 0x45, // E from the server
  COPY_IN: 0x47, // G
  COPY_BOTH: 0x57, // W
  AUTHENTICATION: 0x52, // R
  NEGOTIATE_VERSION: 0x76, // v
} as const;

const FROM_CLIENT = 1;
const FROM_SERVER = 2;
const SENDERS = senders();

function senders(): Uint8Array {
  const table = new Uint8Array(256);
  for (const letter of 'QPBDCEHSFdcfpX') table[letter.charCodeAt(0)] = FROM_CLIENT;
  for (const letter of 'RKSNEAZCDTtnIs123GHWdcVv') {
    const at = letter.charCodeAt(0);
    table[at] = (table[at] ?? 0) | FROM_SERVER;
  }
  return table;
}

/** The server refuses longer start-up messages (MAX_STARTUP_PACKET_LENGTH). */
const MOST_STARTUP_BYTES = 10_000;
/** Lengths are signed 32-bit numbers. */
const MOST_BYTES = 0x7fff_ffff;

/** What the first message of a client asks for; its second word is a version or one of three odd numbers. */
export type StartupKind = 'startup' | 'encryption' | 'cancel' | 'unknown';

/** Reads a start-up message of which at least 8 bytes are there. */
export function startupKind(bytes: Uint8Array, at: number): StartupKind {
  const length = word32(bytes, at);
  const code = word32(bytes, at + 4);
  if (code === 80_877_103 || code === 80_877_104) return length === 8 ? 'encryption' : 'unknown';
  // 16 bytes until protocol 3.2 made keys of up to 256 bytes.
  if (code === 80_877_102) return length >= 16 && length <= 268 ? 'cancel' : 'unknown';
  if (code >>> 16 !== 3 || (code & 0xffff) > 999) return 'unknown';
  return length >= 9 && length <= MOST_STARTUP_BYTES ? 'startup' : 'unknown';
}

/** Whole length of a start-up message by its first four bytes; 0 when it is none. */
export function startupBytes(bytes: Uint8Array, at: number): number {
  const length = word32(bytes, at);
  return length >= 8 && length <= MOST_STARTUP_BYTES ? length : 0;
}

/** Whole length of any other message by its first five bytes; 0 when that side sends no such message. */
export function messageBytes(side: 'client' | 'server', bytes: Uint8Array, at: number): number {
  const sender = side === 'client' ? FROM_CLIENT : FROM_SERVER;
  const length = word32(bytes, at + 1);
  if (((SENDERS[bytes[at] ?? 0] ?? 0) & sender) === 0 || length < 4 || length > MOST_BYTES) return 0;
  return length + 1;
}

/** The SQLSTATE of an ErrorResponse whose fields begin at `start`; XX000 (internal error) when it is not among them. */
export function sqlState(bytes: Uint8Array, start: number, end: number): string {
  let at = start;
  while (at < end) {
    const field = bytes[at++];
    if (field === 0x43 && at + 5 < end && bytes[at + 5] === 0) return stateText(bytes, at);
    while (at < end && bytes[at] !== 0) at++;
    at++;
  }
  return 'XX000';
}

function stateText(bytes: Uint8Array, start: number): string {
  let text = '';
  for (let at = start; at < start + 5; at++) {
    const byte = bytes[at] ?? 0;
    const isAllowed = (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a);
    if (!isAllowed) return 'XX000';
    text += String.fromCharCode(byte);
  }
  return text;
}

/** A big-endian number without a sign. */
function word32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  );
}

/**
 * Whether a connection whose first bytes from `side` these are speaks PostgreSQL. The client speaks first.
 * @returns 'more' with fewer than 8 bytes that could still be it, or 9 where they could be Kafka's too
 */
export function probePostgresql(
  bytes: Uint8Array,
  start: number,
  end: number,
  side: 'client' | 'server',
): 'yes' | 'no' | 'more' {
  if (side === 'server') return 'no';
  if (end - start >= 8) return probeStartup(bytes, start, end);
  // A length below 10 000 has two zeros in front; versions and odd numbers begin with 0 3 or 4 210.
  const couldBe =
    isOneOf(bytes[start], start < end, 0, 0) &&
    isOneOf(bytes[start + 1], start + 1 < end, 0, 0) &&
    isOneOf(bytes[start + 4], start + 4 < end, 0, 4) &&
    isOneOf(bytes[start + 5], start + 5 < end, 3, 210);
  return couldBe ? 'more' : 'no';
}

// Kafka's Metadata request of any version looks the same up to here: API 3, version, then a number that is small. PostgreSQL
// goes on with the name of a parameter, or ends with a zero where Kafka has more.
function probeStartup(bytes: Uint8Array, start: number, end: number): 'yes' | 'no' | 'more' {
  const kind = startupKind(bytes, start);
  if (kind === 'unknown') return 'no';
  if (kind !== 'startup' || word32(bytes, start) === 9) return 'yes';
  if (end - start === 8) return 'more';
  const letter = bytes[start + 8] ?? 0;
  return letter > 0x20 && letter < 0x7f ? 'yes' : 'no';
}

function isOneOf(byte: number | undefined, isThere: boolean, first: number, second: number): boolean {
  return !isThere || byte === first || byte === second;
}
