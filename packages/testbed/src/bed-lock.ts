// One bed at a time in a sandbox, since a bed uses the sandbox's own namespace as its fabric. The lock is an abstract Unix
// socket: it belongs to the network namespace, falls with its holder however that ends, and whoever waits for it is told.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { TestbedError } from './errors.ts';

const LOCK_ADDRESS = '\0ambit-testbed';

export class BedLock {
  readonly #server: Server;
  readonly #waiting = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
    server.unref();
    server.on('connection', socket => {
      this.#waiting.add(socket);
      socket.unref();
      socket.on('error', () => {}); // it stopped waiting
      socket.once('close', () => this.#waiting.delete(socket));
    });
  }

  /** Waits for the bed before us to end. @throws testbed.busy after `timeoutMs` */
  static async take(timeoutMs: number): Promise<BedLock> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const server = createServer();
      try {
        server.listen(LOCK_ADDRESS);
        await once(server, 'listening');
        return new BedLock(server);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error;
      }
      await holderGone(deadline, timeoutMs);
    }
  }

  /** Lets the next one in. Releasing twice is fine. */
  async release(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#waiting) socket.destroy();
    await closed;
  }
}

/** Connects to the holder, who never speaks: the end of the connection is the end of its bed. */
async function holderGone(deadline: AbortSignal, timeoutMs: number): Promise<void> {
  const socket = connect(LOCK_ADDRESS);
  socket.on('error', () => {}); // it went in this moment: `close` follows
  socket.resume();
  try {
    await once(socket, 'close', { signal: deadline });
  } catch (cause) {
    throw new TestbedError('testbed.busy', `another bed of this sandbox did not end within ${timeoutMs} ms`, {
      next: 'run each bed in a sandbox of its own, or one after the other',
      cause,
    });
  } finally {
    socket.destroy();
  }
}
