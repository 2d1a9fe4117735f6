// Reads a ztunnel's record stream from a FIFO, so that a demo that runs for days keeps nothing.
import { constants, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { mustRun } from '../run-command.ts';

// For writing too: the FIFO then has no end when a proxy comes late or starts again.
const FLAGS = constants.O_RDWR | constants.O_NONBLOCK;

export class RecordFeed {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Makes the FIFO and calls back with every line. @throws testbed.command_failed, system errors */
  static async open(path: string, onLine: (line: string) => void): Promise<RecordFeed> {
    await mustRun('mkfifo', ['-m', '600', path]);
    const socket = new Socket({ fd: openSync(path, FLAGS), readable: true, writable: false });
    createInterface({ input: socket }).on('line', onLine);
    return new RecordFeed(socket);
  }

  close(): void {
    this.#socket.destroy();
  }
}
