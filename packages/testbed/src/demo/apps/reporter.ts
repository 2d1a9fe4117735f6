// How the shop's programs tell the demo what they do: one JSON line on standard output every half second, per peer they
// call. Latencies are milliseconds as the caller saw them, from the start of a request to the end of its answer.
import type { Socket } from 'node:net';

const PERIOD_MS = 500;
/** Of each period; the rate stays exact, percentiles are then of a sample. */
const MAX_LATENCIES = 500;

/** Counts what is done to one peer. */
export class CallReporter {
  readonly #to: string;
  readonly #sockets = new Set<Socket>();
  #ok = 0;
  #failed = 0;
  #bytes = 0;
  #toldBytes = 0;
  #latencies: number[] = [];

  /** `to` is the peer as `namespace/name`. Reports as long as the process lives. */
  constructor(to: string) {
    this.#to = to;
    setInterval(() => this.#tell(), PERIOD_MS).unref();
  }

  /** Counts the socket's bytes, both ways, as long as it is open. */
  watch(socket: Socket): void {
    if (this.#sockets.has(socket)) return;
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#bytes += socket.bytesRead + socket.bytesWritten;
    });
  }

  succeeded(latencyMs: number): void {
    this.#ok++;
    if (this.#latencies.length < MAX_LATENCIES) this.#latencies.push(Math.round(latencyMs * 1000) / 1000);
  }

  failed(): void {
    this.#failed++;
  }

  #tell(): void {
    let total = this.#bytes;
    for (const socket of this.#sockets) total += socket.bytesRead + socket.bytesWritten;
    const [ok, failed, bytes, latenciesMs] = [this.#ok, this.#failed, total - this.#toldBytes, this.#latencies];
    this.#ok = this.#failed = 0;
    this.#toldBytes = total;
    this.#latencies = [];
    process.stdout.write(`${JSON.stringify({ to: this.#to, ok, failed, bytes, latenciesMs })}\n`);
  }
}
