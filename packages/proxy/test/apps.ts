// Applications at the ends of the mesh: ordinary node:net servers and clients with half-open sockets.
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';

export interface App extends AsyncDisposable {
  readonly port: number;
  readonly sockets: Set<net.Socket>;
  readonly accepted: number;
}

/** A server on a fresh port; sockets are half-open and their errors are the test's business, if it listens to them. */
export async function serve(onSocket: (socket: net.Socket) => unknown): Promise<App> {
  const sockets = new Set<net.Socket>();
  let accepted = 0;
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, socket => {
    accepted++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    // What an application throws shows at the other end, as a connection that ends.
    void Promise.resolve(onSocket(socket)).catch(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1', 1024);
  await once(server, 'listening');
  return {
    port: portOf(server),
    sockets,
    get accepted() {
      return accepted;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

export function portOf(server: net.Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('server has no port');
  return address.port;
}

/** Sends back what it gets, and ends when the other side ends. */
export function serveEcho(): Promise<App> {
  return serve(socket => socket.pipe(socket));
}

/** A half-open client; errors are kept silent, look at `closed` for how it ended. */
export async function dial(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

export type Ending = 'end' | 'reset' | 'close';

// EPIPE is what a writer sees of a reset.
const RESET_CODES: ReadonlySet<unknown> = new Set(['ECONNRESET', 'EPIPE']);

/** How the socket's receiving side ends: FIN, RST, or closed otherwise. Call it before that can happen. */
export function ending(socket: net.Socket): Promise<Ending> {
  return new Promise(resolve => {
    socket.once('end', () => resolve('end'));
    socket.once('error', error => resolve('code' in error && RESET_CODES.has(error.code) ? 'reset' : 'close'));
    socket.once('close', () => resolve('close'));
  });
}

/** Everything up to the end of the stream. */
export async function readAll(socket: net.Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of socket.iterator({ destroyOnReturn: false })) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** Reads exactly `count` bytes; rejects if the stream ends before. */
export function readBytes(socket: net.Socket, count: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let have = 0;
    const stop = (): void => {
      socket.off('data', onData);
      socket.off('close', onClose);
      socket.off('end', onClose);
    };
    const onData = (part: Buffer): void => {
      parts.push(part);
      have += part.length;
      if (have < count) return;
      stop();
      socket.pause();
      const all = Buffer.concat(parts);
      if (have > count) socket.unshift(all.subarray(count));
      resolve(all.subarray(0, count));
    };
    const onClose = (): void => {
      stop();
      reject(new Error(`stream ended after ${have} of ${count} bytes`));
    };
    socket.on('data', onData);
    socket.once('close', onClose);
    socket.once('end', onClose);
    socket.resume();
  });
}

const PATTERN = Buffer.alloc(1 << 20);
for (let i = 0; i < PATTERN.length; i += 4) PATTERN.writeUInt32LE(Math.imul(i + 1, 2_654_435_761) >>> 0, i);

/** Writes `bytes` patterned bytes with back-pressure, then ends; gives their SHA-256. `salt` makes streams differ. */
export async function sendPattern(socket: net.Socket, bytes: number, salt = 0): Promise<string> {
  const hash = createHash('sha256');
  let sent = 0;
  while (sent < bytes) {
    const start = (sent + salt * 4099) % (PATTERN.length - 65_536);
    const part = PATTERN.subarray(start, start + Math.min(65_536, bytes - sent));
    hash.update(part);
    sent += part.length;
    if (!socket.write(part)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

/** SHA-256 and length of everything up to the end of the stream. */
export async function digest(socket: net.Socket): Promise<{ readonly hash: string; readonly bytes: number }> {
  const hash: Hash = createHash('sha256');
  let bytes = 0;
  for await (const part of socket.iterator({ destroyOnReturn: false })) {
    hash.update(part as Buffer);
    bytes += (part as Buffer).length;
  }
  return { hash: hash.digest('hex'), bytes };
}
