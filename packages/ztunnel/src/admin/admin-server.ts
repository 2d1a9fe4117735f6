// The admin endpoint's listener: on loopback only and without authentication, as upstream. A web page must not reach it, so
// a Host header that does not name this machine is refused (rebinding), and so is what a browser says another site asked
// for. Shows nothing secret: no private key, no token. A slow or vanished reader holds up nobody.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { isLoopback, parseIp } from '@ambit/mesh';
import { errorText } from '../errors.ts';
import { type AdminDeps, type AdminRoute, adminRoutes } from './admin-routes.ts';
import { type Reply, text } from './reply.ts';

// Not imported by name: an ES import reads every export of node:http, and that loads all of fetch, 14 MB.
const http = process.getBuiltinModule('node:http');

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
/** More connections than this are closed at once. */
const MAX_CONNECTIONS = 64;
/** A reader that takes nothing for this long is gone. */
const IDLE_MS = 30_000;
const MAX_HEAVY = 4;
const CHUNK_CHARS = 64 * 1024;
const LOCAL_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;
/** What browsers say of requests that a person or the page itself made. */
const OWN_SITES: ReadonlySet<unknown> = new Set([undefined, 'same-origin', 'none']);

/** @throws the system's error when the port is taken */
export async function serveAdmin(deps: AdminDeps, listen: AdminListen): Promise<AdminServer> {
  const handler = new AdminHandler(adminRoutes(deps));
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
  readonly #routes: ReadonlyMap<string, AdminRoute>;
  #heavy = 0;

  constructor(routes: ReadonlyMap<string, AdminRoute>) {
    this.#routes = routes;
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = '', query = ''] = split(request.url ?? '');
    const route = this.#routes.get(path);
    const method = request.method ?? '';
    if (!LOCAL_HOST.test(request.headers.host ?? ''))
      await send(response, text(403, 'the Host header must name this machine\n'));
    else if (isFromElsewhere(request)) await send(response, text(403, 'other sites may not ask\n'));
    else if (route === undefined) await send(response, text(404, ''));
    else if (!route.methods.includes(method)) {
      response.setHeader('allow', route.methods.join(', '));
      await send(response, route.refusal ?? text(405, ''));
    } else if (route.isHeavy && this.#heavy >= MAX_HEAVY) await send(response, text(503, 'too many at once\n'));
    else await this.#run(route, new URLSearchParams(query), method === 'HEAD', response);
  }

  async #run(route: AdminRoute, query: URLSearchParams, isHead: boolean, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    if (route.isHeavy) this.#heavy++;
    try {
      const reply = await route.answer(query, gone.signal);
      await send(response, isHead ? { ...reply, body: '' } : reply);
    } catch (error) {
      // Half an answer must not look whole.
      if (response.headersSent) response.destroy();
      else await send(response, text(500, `${errorText(error)}\n`));
    } finally {
      if (route.isHeavy) this.#heavy--;
    }
  }
}

/** A browser names the origin of what a page sends, and for fetches the relation of the two sites. */
function isFromElsewhere({ headers }: IncomingMessage): boolean {
  const { host, origin } = headers;
  const isOtherOrigin = origin !== undefined && origin.toLowerCase() !== `http://${(host ?? '').toLowerCase()}`;
  return isOtherOrigin || !OWN_SITES.has(headers['sec-fetch-site']);
}

function split(url: string): readonly string[] {
  const at = url.indexOf('?');
  return at === -1 ? [url] : [url.slice(0, at), url.slice(at + 1)];
}

async function send(response: ServerResponse, { status, type, body, headers, isLive }: Reply): Promise<void> {
  if (response.destroyed) return;
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('cache-control', 'no-store');
  response.setHeader('content-type', type);
  for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value);
  response.statusCode = status;
  response.setTimeout(IDLE_MS, () => response.destroy());
  if (typeof body === 'string' || body instanceof Uint8Array) {
    if (status !== 200 || body.length > 0) response.setHeader('content-length', Buffer.byteLength(body));
    response.end(body);
    return;
  }
  let chunk = '';
  for await (const piece of body) {
    if (response.destroyed) return;
    chunk += piece;
    if (isLive !== true && chunk.length < CHUNK_CHARS) continue;
    if (!response.write(chunk)) await drained(response);
    chunk = '';
  }
  response.end(chunk);
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

async function open(handler: AdminHandler, host: string, port: number): Promise<Server> {
  const server = http.createServer(
    { headersTimeout: HEADER_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 5000 },
    (request, response) => {
      handler.answer(request, response).catch(() => response.destroy());
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
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
