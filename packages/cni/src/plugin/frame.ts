// The words that the plugin's executable (elf/) and the agent exchange over a stream socket. Request: those entries of the
// environment that begin with `CNI_`, each ended by a zero byte, one more zero byte, then all of stdin until the writer shuts
// its half. Answer: a byte with the exit status, what goes to stdout, and the byte EOT. An answer without its end, as an
// agent leaves it that died, is none: the executable then fails.
import { CniError } from '../errors.ts';
import type { CniAnswer } from './cni-answer.ts';
import type { CniRequest } from './cni-requests.ts';
import { MAX_STDIN_BYTES } from './plugin-config.ts';

/** Bytes of `CNI_` entries with their ends; the kernel gives more to all of an environment, runtimes need about 600. */
export const MAX_ENVIRONMENT_BYTES = 64 * 1024;
export const MAX_FRAME_BYTES = MAX_ENVIRONMENT_BYTES + MAX_STDIN_BYTES;

/** The most that an answer may have with status and end: the executable reads no more. */
export const MAX_ANSWER_BYTES = MAX_FRAME_BYTES;

/** ASCII "end of transmission"; no text of JSON has it. */
export const END_OF_ANSWER = 0x04;

/** @throws CniError cni.protocol */
export function decodeFrame(frame: Uint8Array): CniRequest {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  const env: Record<string, string> = {};
  for (let at = 0; ; ) {
    const end = bytes.indexOf(0, at);
    if (end < 0 || end > MAX_ENVIRONMENT_BYTES) throw refused('its environment has no end');
    if (end === at) {
      const stdin = bytes.subarray(end + 1);
      if (stdin.length > MAX_STDIN_BYTES) throw refused('its configuration is too large');
      return { env, stdin: stdin.toString('utf8') };
    }
    const entry = bytes.toString('utf8', at, end);
    const equals = entry.indexOf('=');
    if (!entry.startsWith('CNI_') || equals < 0)
      throw refused('its environment has something else than CNI_NAME=value');
    env[entry.slice(0, equals)] ??= entry.slice(equals + 1);
    at = end + 1;
  }
}

export function encodeFrame({ env, stdin }: CniRequest): Uint8Array {
  const entries = Object.entries(env).filter(([name, value]) => name.startsWith('CNI_') && value !== undefined);
  return Buffer.from(`${entries.map(([name, value]) => `${name}=${value}\0`).join('')}\0${stdin}`, 'utf8');
}

export function encodeAnswer({ status, stdout }: CniAnswer): Uint8Array {
  return Buffer.concat([Buffer.of(status), Buffer.from(stdout, 'utf8'), Buffer.of(END_OF_ANSWER)]);
}

function refused(what: string): CniError {
  return new CniError('cni.protocol', `not a request of the plugin: ${what}`);
}
