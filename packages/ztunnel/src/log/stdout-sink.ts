// Standard output as a sink that never blocks. `process.stdout` blocks on a full pipe, so the descriptor is opened
// anew through /proc, which gives an open file description of our own that may be non-blocking without changing the
// one we share with other processes. Sockets cannot be opened that way: they are written on a pool thread instead.
import { closeSync, constants, openSync, write, writeSync } from 'node:fs';
import type { ByteSink } from './line-writer.ts';

const FLAGS = constants.O_WRONLY | constants.O_NONBLOCK | constants.O_APPEND | constants.O_NOCTTY;

/** A sink on descriptor `number` (1 is standard output). */
export function openDescriptorSink(number: number): ByteSink {
  try {
    return nonBlocking(openSync(`/proc/self/fd/${number}`, FLAGS));
  } catch {
    // ENXIO for sockets, EACCES for another user's terminal: both can still be written through the number we hold.
    return onPoolThread(number);
  }
}

function nonBlocking(own: number): ByteSink {
  return {
    write(bytes) {
      try {
        return writeSync(own, bytes);
      } catch (error) {
        if (isAgain(error)) return 'again';
        throw error;
      }
    },
    close: () => closeSync(own),
  };
}

function onPoolThread(number: number): ByteSink {
  return {
    write: bytes =>
      new Promise((resolve, reject) => {
        write(number, bytes, (error, written) => {
          if (error === null) resolve(written);
          else if (isAgain(error)) resolve('again');
          else reject(error);
        });
      }),
    close: () => undefined,
  };
}

function isAgain(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}
