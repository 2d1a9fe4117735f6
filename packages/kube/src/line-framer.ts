// Cuts a byte stream into lines ended by LF, as a Kubernetes watch sends its events (one JSON value a line). Lines
// have a bound: memory held is one line at most. What follows the last LF is no line: a stream that breaks in the
// middle of an object leaves nothing behind.

export class LineFramer {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #length = 0;

  /** @param maxBytes of one line, without its LF. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Hands each whole line of what was fed so far to `onLine`, without LF or CR, empty ones left out.
   * @returns false when a line is longer than the bound: the stream cannot be read on, feed no more.
   */
  feed(chunk: Buffer, onLine: (line: string) => void): boolean {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(0x0a, start);
      const length = (end < 0 ? chunk.length : end) - start;
      if (this.#length + length > this.#maxBytes) return false;
      if (end < 0) {
        if (length > 0) {
          this.#parts.push(chunk.subarray(start));
          this.#length += length;
        }
        return true;
      }
      const line = this.#take(chunk.subarray(start, end));
      if (line !== '') onLine(line);
      start = end + 1;
    }
  }

  /** Bytes of the line that has begun and not ended. */
  get pendingBytes(): number {
    return this.#length;
  }

  #take(rest: Buffer): string {
    const whole = this.#parts.length === 0 ? rest : Buffer.concat([...this.#parts, rest]);
    this.#parts = [];
    this.#length = 0;
    const end = whole.at(-1) === 0x0d ? whole.length - 1 : whole.length;
    return whole.toString('utf8', 0, end);
  }
}
