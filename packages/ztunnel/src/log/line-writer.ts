// Writes log lines to a file descriptor without ever blocking the main thread: a bounded queue that drops new lines
// when full and says so later. Availability before completeness: a stalled reader costs lines, not connections
// (upstream blocks its data threads instead).

/** How bytes leave: the count written, or `again` when the descriptor takes none now. A throw means it is broken. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<number | 'again'> | number | 'again';
  close(): void;
}

export interface LineWriterOptions {
  readonly maxLines: number;
  readonly maxBytes: number;
  /** Pause before trying a full descriptor again. */
  readonly retryMs: number;
}

const DEFAULTS: LineWriterOptions = { maxLines: 10_000, maxBytes: 8 << 20, retryMs: 10 };
const LINES_PER_WRITE = 64;

export interface LineWriterDeps {
  readonly sink: ByteSink;
  /** The line that tells how many were dropped. */
  readonly droppedLine: (count: number) => string;
}

export class LineWriter {
  readonly #sink: ByteSink;
  readonly #droppedLine: (count: number) => string;
  readonly #options: LineWriterOptions;
  #queue: string[] = [];
  #queuedBytes = 0;
  #unannounced = 0;
  #droppedTotal = 0;
  #running: Promise<void> | undefined;
  #isBroken = false;

  constructor(deps: LineWriterDeps, options: Partial<LineWriterOptions> = {}) {
    this.#sink = deps.sink;
    this.#droppedLine = deps.droppedLine;
    this.#options = { ...DEFAULTS, ...options };
  }

  /** Lines lost since the start. */
  get droppedLines(): number {
    return this.#droppedTotal;
  }

  /** Queues one line (without its end). Never throws, never blocks. */
  write(line: string): void {
    const { maxLines, maxBytes } = this.#options;
    if (this.#isBroken || this.#queue.length >= maxLines || this.#queuedBytes + line.length > maxBytes) {
      this.#unannounced++;
      this.#droppedTotal++;
      return;
    }
    this.#queue.push(line);
    this.#queuedBytes += line.length;
    this.#running ??= this.#run();
  }

  /** Resolves when everything queued is out, or `deadlineMs` has passed. */
  async flush(deadlineMs: number): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    const { promise: expired, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, deadlineMs);
    await Promise.race([running, expired]);
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    // Lines of one turn of the event loop leave in one system call.
    await new Promise<void>(resolve => setImmediate(resolve));
    try {
      while (this.#queue.length > 0) await this.#writeAll(this.#takeBatch());
    } catch {
      // The reader is gone (EPIPE). There is nowhere left to say so; the count stays readable.
      this.#isBroken = true;
      this.#droppedTotal += this.#queue.length;
      this.#queue = [];
    } finally {
      this.#running = undefined;
    }
  }

  #takeBatch(): Uint8Array {
    const lines = this.#queue.splice(0, LINES_PER_WRITE);
    for (const line of lines) this.#queuedBytes -= line.length;
    if (this.#unannounced > 0 && this.#queue.length === 0) {
      lines.push(this.#droppedLine(this.#unannounced));
      this.#unannounced = 0;
    }
    return Buffer.from(`${lines.join('\n')}\n`);
  }

  async #writeAll(batch: Uint8Array): Promise<void> {
    let rest = batch;
    while (rest.length > 0) {
      const written = await this.#sink.write(rest);
      if (written === 'again') await new Promise(resolve => setTimeout(resolve, this.#options.retryMs).unref());
      else rest = rest.subarray(written);
    }
  }
}
