// An HTTP server of the agent: on a Unix socket with a mode, or on a TCP port; bounded in size, time and connections. A request
// whose peer has gone is aborted. What is served is the caller's; what it throws becomes an answer.
import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import { dirname } from 'node:path';
import { errorText, faultText, type Log } from '@ambit/log';
import { CniError } from '../../errors.ts';

export type Where = { readonly path: string; readonly mode: number } | { readonly host: string; readonly port: number };

export interface DoorRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
  /** Aborted when the peer gives up, when the door closes, and when its time is over. */
  readonly signal: AbortSignal;
}

export interface DoorAnswer {
  readonly status: number;
  readonly type: 'text/plain' | 'application/json' | 'text/plain; version=0.0.4';
  readonly text: string;
}

export interface DoorOptions {
  readonly where: Where;
  readonly maxBodyBytes: number;
  readonly maxConnections: number;
  /** For one answer. */
  readonly timeoutMs: number;
  readonly answer: (request: DoorRequest) => Promise<DoorAnswer> | DoorAnswer;
  readonly log: Log;
}

const LIMITS = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  maxHeaderSize: 16_384,
} as const;

export class HttpDoor {
  readonly #server: Server;
  readonly #options: DoorOptions;
  readonly #closing = new AbortController();
  /** Oldest first; true: it is being answered. */
  readonly #sockets = new Map<Socket, boolean>();

  private constructor(options: DoorOptions) {
    this.#options = options;
    this.#server = createServer(LIMITS, (request, response) => void this.#serve(request, response));
    this.#server.on('connection', socket => this.#admit(socket));
  }

  /** @throws CniError cni.config when it cannot listen */
  static async open(options: DoorOptions): Promise<HttpDoor> {
    const door = new HttpDoor(options);
    await listenAt(door.#server, options.where);
    return door;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }

  /** Who only holds a connection makes room: a port is open to every pod, and the kubelet must get its answer. */
  #admit(socket: Socket): void {
    this.#sockets.set(socket, false);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#sockets.size <= this.#options.maxConnections) return;
    for (const [oldest, isAnswered] of this.#sockets) {
      if (isAnswered) continue;
      this.#sockets.delete(oldest);
      oldest.destroy();
      return;
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('x-content-type-options', 'nosniff');
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const signal = AbortSignal.any([gone.signal, this.#closing.signal, AbortSignal.timeout(this.#options.timeoutMs)]);
    try {
      const body = await readBody(request, this.#options.maxBodyBytes);
      if (body === undefined) {
        send(response, { status: 413, type: 'text/plain', text: 'the body is too large\n' });
        return;
      }
      if (this.#sockets.has(request.socket)) this.#sockets.set(request.socket, true);
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://agent');
      const method = request.method ?? 'GET';
      send(response, await this.#options.answer({ method, path: pathname, query: searchParams, body, signal }));
    } catch (error) {
      if (response.destroyed) return;
      this.#options.log.error('Cannot answer a request', { error: faultText(error) });
      if (response.headersSent) response.destroy();
      else send(response, { status: 500, type: 'text/plain', text: `${errorText(error)}\n` });
    } finally {
      if (this.#sockets.has(request.socket)) this.#sockets.set(request.socket, false);
    }
  }
}

/** Opens a server of any kind; a socket left there by a dead agent is replaced. @throws CniError cni.config */
export async function listenAt(server: NetServer, where: Where): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  try {
    if ('path' in where) {
      mkdirSync(dirname(where.path), { recursive: true, mode: 0o750 });
      if (lstatSync(where.path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(where.path);
      server.listen({ path: where.path }, resolve);
    } else {
      server.listen(where, resolve);
    }
    await promise;
    if ('path' in where) chmodSync(where.path, where.mode);
  } catch (cause) {
    const what = 'path' in where ? where.path : `${where.host} port ${where.port}`;
    throw new CniError('cni.config', `cannot listen at ${what}: ${errorText(cause)}`, { cause });
  }
  server.off('error', reject);
  // A failed accept (out of descriptors, say) must not end the process.
  server.on('error', () => undefined);
}

export function json(status: number, value: object): DoorAnswer {
  return { status, type: 'application/json', text: `${JSON.stringify(value)}\n` };
}

export function plain(status: number, text: string): DoorAnswer {
  return { status, type: 'text/plain', text };
}

function send(response: ServerResponse, { status, type, text }: DoorAnswer): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** undefined: too large; what is left of it is not read. @throws when the peer goes in the middle */
async function readBody(request: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
