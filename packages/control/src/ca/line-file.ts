// A file that only grows, a JSON object a line, written before the call returns: what was written survives the death of this
// process. A line that did not fit (a full disk) is taken back whole, so that the next one starts on a line of its own.
import {
  closeSync,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';

export class LineFile {
  readonly path: string;
  #fd: number;
  #bytes: number;

  /** Opens or makes it, 0600. @throws what the file system says */
  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'a', 0o600);
    // It may have been there: restored from a backup, say, which kept its content and not its mode.
    fchmodSync(this.#fd, 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @throws what the file system says; then nothing was written */
  append(record: object): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`, 'utf8');
    let written = 0;
    try {
      while (written < line.length) written += writeSync(this.#fd, line, written);
      this.#bytes += written;
    } catch (error) {
      if (written > 0) ftruncateSync(this.#fd, this.#bytes);
      throw error;
    }
  }

  /** Moves the file to `path.1` and what was there to `path.2`, up to `keep` old ones, and begins an empty one. */
  rotate(keep: number): void {
    rmSync(`${this.path}.${keep}`, { force: true });
    for (let number = keep - 1; number >= 0; number -= 1) {
      const from = number === 0 ? this.path : `${this.path}.${number}`;
      try {
        renameSync(from, `${this.path}.${number + 1}`);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      }
    }
    this.reopen();
  }

  /** Goes on with whatever is at the path now. */
  reopen(): void {
    closeSync(this.#fd);
    this.#fd = openSync(this.path, 'a', 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  close(): void {
    if (this.#fd < 0) return;
    closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** The objects of such a file, oldest first; lines that are not JSON objects are left out (a crash may cut the last). */
export function readLines(path: string): readonly Readonly<Record<string, unknown>>[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
  return text.split('\n').flatMap(line => {
    try {
      const value: unknown = JSON.parse(line);
      return typeof value === 'object' && value !== null ? [{ ...value }] : [];
    } catch {
      return [];
    }
  });
}
