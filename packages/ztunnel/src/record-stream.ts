// Connection records as JSON lines to a file or FIFO (AMBIT_RECORDS_PATH), for whoever folds them: the demo, audits.
// Bounded and never in the way: a reader that stalls costs records, which are counted and announced, not connections.
// Does not rotate files and does not wait for a reader of a FIFO.
import { constants, openSync, writeSync, closeSync } from 'node:fs';
import type { ConnectionRecord } from '@ambit/proxy';
import { errorText, ZtunnelError } from './errors.ts';
import { LineWriter } from './log/line-writer.ts';

// For reading too: a FIFO can then be opened before its reader is there, and losing the reader is no error.
const FLAGS = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;
/** Addresses and identities of everybody who connects are nobody else's business. */
const MODE = 0o600;
const FLUSH_MS = 500;
const RETRY_MS = 50;

export class RecordStream {
  readonly #fd: number;
  readonly #lines: LineWriter;

  private constructor(fd: number) {
    this.#fd = fd;
    const sink = { write: (bytes: Uint8Array) => writeNow(fd, bytes), close: () => undefined };
    const droppedLine = (count: number): string => JSON.stringify({ event: 'dropped', count });
    this.#lines = new LineWriter({ sink, droppedLine }, { retryMs: RETRY_MS });
  }

  /** @throws config.invalid when the path cannot be opened for writing */
  static open(path: string): RecordStream {
    try {
      return new RecordStream(openSync(path, FLAGS, MODE));
    } catch (error) {
      throw new ZtunnelError('config.invalid', `invalid env var AMBIT_RECORDS_PATH=${path} (${errorText(error)})`);
    }
  }

  /** Records lost since the start. */
  get dropped(): number {
    return this.#lines.droppedLines;
  }

  /** Queues one record. Never throws, never blocks. */
  write(record: ConnectionRecord): void {
    this.#lines.write(JSON.stringify(record));
  }

  /** Waits at most half a second for what is queued. */
  async close(): Promise<void> {
    await this.#lines.flush(FLUSH_MS);
    closeSync(this.#fd);
  }
}

function writeNow(fd: number, bytes: Uint8Array): number | 'again' {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 'again';
    throw error;
  }
}
