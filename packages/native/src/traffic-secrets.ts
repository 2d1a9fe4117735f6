// Catches the two application traffic secrets of a handshake from OpenSSL's key log callback, the only way to them.
// One callback a thread serves every context; a handshake registers its connection for as long as it runs. Secrets are
// read as bytes (a JavaScript string could not be wiped), and nothing is logged. NSS key log format.
import { callback } from './library.ts';
import type { OpenSsl, Pointer } from './openssl.ts';
import { allocateSecret } from './secret-bytes.ts';
import { Slab } from './slab.ts';

const MAX_LINE_BYTES = 512;
const CLIENT_LABEL = 'CLIENT_TRAFFIC_SECRET_0 ';
const SERVER_LABEL = 'SERVER_TRAFFIC_SECRET_0 ';
const LABEL_BYTES = CLIENT_LABEL.length;
const CLIENT_RANDOM_DIGITS = 64;

const line = Slab.allocate(MAX_LINE_BYTES);
const clientLabel = Buffer.from(CLIENT_LABEL, 'latin1');
const serverLabel = Buffer.from(SERVER_LABEL, 'latin1');

/** Holder of the secrets of one handshake. */
export class TrafficSecrets {
  client: Buffer | undefined;
  server: Buffer | undefined;

  wipe(): void {
    this.client?.fill(0);
    this.server?.fill(0);
    this.client = undefined;
    this.server = undefined;
  }
}

const waiting = new Map<Pointer, TrafficSecrets>();

/** From now until `endSecrets`, secrets of this connection go to `secrets`. */
export function beginSecrets(ssl: Pointer, secrets: TrafficSecrets): void {
  waiting.set(ssl, secrets);
}

export function endSecrets(ssl: Pointer): void {
  waiting.delete(ssl);
}

/** Connections with a handshake under way on this thread; for leak tests. */
export function pendingHandshakes(): number {
  return waiting.size;
}

let registered: unknown;

/** The thread's key log callback, to be set once on each context. */
export function keylogCallback(lib: OpenSsl): unknown {
  registered ??= callback('void AmbitKeylog(uintptr_t ssl, uintptr_t line)', (ssl: Pointer, text: Pointer) => {
    const secrets = waiting.get(ssl);
    if (secrets !== undefined) receive(lib, secrets, text);
  });
  return registered;
}

function receive(lib: OpenSsl, secrets: TrafficSecrets, text: Pointer): void {
  const length = lib.textLength(text, MAX_LINE_BYTES);
  lib.copyMemory(line.address(0, length), text, length);
  const bytes = line.bytes;
  if (bytes.compare(clientLabel, 0, LABEL_BYTES, 0, LABEL_BYTES) === 0) secrets.client = parseSecret(length);
  else if (bytes.compare(serverLabel, 0, LABEL_BYTES, 0, LABEL_BYTES) === 0) secrets.server = parseSecret(length);
  bytes.fill(0, 0, length);
}

// LABEL SP client-random SP secret, both in hexadecimal.
function parseSecret(length: number): Buffer | undefined {
  const start = LABEL_BYTES + CLIENT_RANDOM_DIGITS + 1;
  const digits = length - start;
  if (digits !== 64 && digits !== 96) return undefined;
  const secret = allocateSecret(digits / 2);
  for (let i = 0; i < secret.length; i++) {
    const high = hexDigit(line.bytes[start + 2 * i] ?? 0);
    const low = hexDigit(line.bytes[start + 2 * i + 1] ?? 0);
    if (high < 0 || low < 0) return undefined;
    secret[i] = high * 16 + low;
  }
  return secret;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  if (code >= 0x61 && code <= 0x66) return code - 0x57;
  if (code >= 0x41 && code <= 0x46) return code - 0x37;
  return -1;
}
