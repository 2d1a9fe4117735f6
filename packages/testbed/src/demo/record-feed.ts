// Reads a ztunnel's record stream from a FIFO, so that a demo that runs for days keeps nothing.
import { constants, openSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { mustRun } from '../run-command.ts';

// For writing too: the FIFO then has no end when a proxy comes late or starts again.
const FLAGS = constants.O_RDWR | constants.O_NONBLOCK;

export class RecordFeed {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #fd: number;

  private constructor(socket: Socket, path: string, fd: number) {
    this.#socket = socket;
    this.#path = path;
    this.#fd = fd;
  }

  /** Makes the FIFO and calls back with every line. @throws testbed.command_failed, system errors */
  static async open(path: string, onLine: (line: string) => void): Promise<RecordFeed> {
    await mustRun('mkfifo', ['-m', '600', path]);
    const fd = openSync(path, FLAGS);
    const socket = new Socket({ fd, readable: true, writable: false });
    createInterface({ input: socket }).on('line', onLine);
    return new RecordFeed(socket, path, fd);
  }

  /** Takes the name away from the FIFO. @returns the path by which processes of the same user still reach it */
  hide(): string {
    unlinkSync(this.#path);
    return `/proc/${process.pid}/fd/${this.#fd}`;
  }

  close(): void {
    this.#socket.destroy();
  }
}
