// A log file with a bound: when it is full, it becomes the one older file and a new one begins. Written at once, so that
// what a process said last is there when it dies; a disk that is full costs lines and nothing else.
import { closeSync, existsSync, mkdirSync, openSync, fstatSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

const MAX_BYTES = 4 * 1024 * 1024;

export class RotatingLog {
  readonly #path: string;
  readonly #maxBytes: number;
  #fd: number;
  #bytes: number;

  /** @throws the file system's error */
  constructor(path: string, maxBytes = MAX_BYTES) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#fd = openSync(path, 'a', 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  write(chunk: Uint8Array): void {
    try {
      if (this.#bytes > 0 && this.#bytes + chunk.length > this.#maxBytes) this.#rotate();
      this.#bytes += writeSync(this.#fd, chunk);
    } catch {
      // No room, or no directory any more: nobody to tell.
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    if (existsSync(this.#path)) renameSync(this.#path, olderLog(this.#path));
    const fd = openSync(this.#path, 'a', 0o600);
    closeSync(this.#fd);
    this.#fd = fd;
    this.#bytes = 0;
  }
}

/** Where the previous file is. */
export function olderLog(path: string): string {
  return `${path}.1`;
}
