// The admin endpoint: `GET /config_dump` and a text index, on loopback only and without authentication, as upstream. Names
// other than this machine's are refused in the Host header, so that a web page cannot reach it by rebinding its own name.
// Shows nothing secret: no private key, no token. A slow or vanished reader holds up nobody.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { isLoopback, parseIp } from '@ambit/mesh';
import { errorText } from '../errors.ts';
import { configDump, type DumpDeps } from './config-dump.ts';
import { Slicer } from './slicer.ts';

// Not imported by name: an ES import reads every export of node:http, and that loads all of fetch, 14 MB.
const http = process.getBuiltinModule('node:http');

export type AdminDeps = Omit<DumpDeps, 'version'> & { readonly version?: string };

export interface AdminListen {
  readonly port: number;
  /** Also on ::1, when the machine has it. */
  readonly ipv6: boolean;
  /** The one loopback address to listen on instead; one that is no loopback address is not used. */
  readonly address?: string | undefined;
}

export interface AdminServer {
  readonly port: number;
  /** Stops accepting, cuts answers under way; resolves when all is closed. */
  close(): Promise<void>;
}

const HEADER_TIMEOUT_MS = 2000;
const MAX_HEADER_BYTES = 8192;
/** A reader that takes nothing for this long is gone. */
const IDLE_MS = 30_000;
const MAX_DUMPS = 4;
const CHUNK_CHARS = 64 * 1024;
const LOCAL_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;
const INDEX =
  'Ambit node proxy, admin endpoint\n\nGET /config_dump   mesh, certificates, configuration and xDS as JSON\n';

/** @throws the system's error when the port is taken */
export async function serveAdmin(deps: AdminDeps, listen: AdminListen): Promise<AdminServer> {
  const handler = new AdminHandler({ version: '', ...deps });
  const ip = listen.address === undefined ? undefined : parseIp(listen.address);
  const own = ip !== undefined && isLoopback(ip) ? ip : undefined;
  const first = await open(handler, own ?? '127.0.0.1', listen.port);
  const servers = [first];
  if (own === undefined && listen.ipv6) {
    try {
      servers.push(await open(handler, '::1', portOf(first)));
    } catch {
      // No IPv6 on loopback, or somebody else has the port there: the other address serves.
    }
  }
  return {
    port: portOf(first),
    close: async () => {
      await Promise.all(servers.map(closeServer));
    },
  };
}

class AdminHandler {
  readonly #deps: DumpDeps;
  #dumps = 0;

  constructor(deps: DumpDeps) {
    this.#deps = deps;
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const [path] = (request.url ?? '').split('?', 1);
    response.setHeader('x-content-type-options', 'nosniff');
    response.setHeader('cache-control', 'no-store');
    if (!LOCAL_HOST.test(request.headers.host ?? ''))
      respond(response, 403, 'the Host header must name this machine\n');
    else if (path !== '/' && path !== '/config_dump') respond(response, 404, '');
    else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      respond(response, 405, '');
    } else if (path === '/') respond(response, 200, INDEX);
    else if (this.#dumps >= MAX_DUMPS) respond(response, 503, 'too many dumps at once\n');
    else void this.#dump(request.method === 'HEAD', response);
  }

  async #dump(isHead: boolean, response: ServerResponse): Promise<void> {
    this.#dumps++;
    response.setTimeout(IDLE_MS, () => response.destroy());
    response.setHeader('content-type', 'application/json');
    try {
      if (!isHead) await this.#write(response);
      response.end();
    } catch (error) {
      // Half an answer must not look whole.
      if (response.headersSent) response.destroy();
      else respond(response, 500, `${errorText(error)}\n`);
    } finally {
      this.#dumps--;
    }
  }

  async #write(response: ServerResponse): Promise<void> {
    let chunk = '';
    for await (const piece of configDump(this.#deps, new Slicer())) {
      if (response.destroyed) return;
      chunk += piece;
      if (chunk.length < CHUNK_CHARS) continue;
      if (!response.write(chunk)) await drained(response);
      chunk = '';
    }
    response.write(chunk);
  }
}

/** Until more may be written, or nothing can be any more. */
async function drained(response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  response.once('drain', resolve);
  response.once('close', resolve);
  if (response.destroyed) resolve();
  await promise;
  response.off('drain', resolve);
  response.off('close', resolve);
}

function respond(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

async function open(handler: AdminHandler, host: string, port: number): Promise<Server> {
  const server = http.createServer(
    { headersTimeout: HEADER_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 5000 },
    (request, response) => handler.answer(request, response),
  );
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ port, host }, resolve);
  await promise;
  server.removeListener('error', reject);
  // A failed accept must not end the process.
  server.on('error', () => undefined);
  return server;
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  await promise;
}
