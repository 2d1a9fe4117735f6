// Two doors for people and tools. The TCP port (loopback unless told otherwise) only tells: status, resources, diagnostics;
// never a key or a token. The Unix socket in the state directory also acts (revoke, rotate, tokens): its permissions are
// the authorisation. Bodies and headers are bounded; a page elsewhere cannot reach the port through a browser's DNS.
import { chmod, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { isLoopback, parseIp } from '@ambit/mesh';
import type { AdminRoute } from '../ca/admin-routes.ts';
import type { Listen } from '../config/values.ts';
import { ControlError } from '../errors.ts';
import type { Log } from '../log.ts';

/** What the port tells: path to a way of making the answer, in slices so that a large one holds nobody up. */
export type Pages = Readonly<Record<string, () => Iterable<string>>>;

export interface AdminOptions {
  readonly listen: Listen;
  /** Undefined: no socket. */
  readonly socketPath: string | undefined;
  readonly pages: Pages;
  /** Whether the first whole state is there. */
  readonly isReady: () => boolean;
  readonly actions: AdminRoute;
  readonly log: Log;
}

export interface AdminServer {
  readonly port: number | undefined;
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 64 * 1024;
const LIMITS = { headersTimeout: 5000, requestTimeout: 10_000, keepAliveTimeout: 5000, maxHeaderSize: 16_384 };
/** After this many characters the event loop gets its turn. */
const SLICE = 256 * 1024;

/** @throws ControlError config.port, config.state_in_use */
export async function serveAdmin(options: AdminOptions): Promise<AdminServer> {
  const servers: Server[] = [];
  let port: number | undefined;
  try {
    if (options.socketPath !== undefined) {
      await claimSocket(options.socketPath);
      const server = createServer(LIMITS, (request, response) => void act(options, request, response));
      servers.push(server);
      // Between bind and chmod the directory's own mode (0700) keeps others out.
      await listening(server, { path: options.socketPath });
      await chmod(options.socketPath, 0o600);
    }
    if (options.listen !== 'off') {
      const server = createServer(LIMITS, (request, response) => void tell(options, request, response, 'port'));
      servers.push(server);
      await listening(server, { host: options.listen.host, port: options.listen.port });
      port = (server.address() as AddressInfo).port;
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return {
    port,
    close: async () => {
      await Promise.all(servers.map(async server => closed(server)));
    },
  };
}

async function act(options: AdminOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = ''] = (request.url ?? '').split('?', 1);
  if (!path.startsWith('/ca/')) {
    await tell(options, request, response, 'socket');
    return;
  }
  const body = await bodyOf(request);
  if (body === undefined) {
    json(response, 400, { code: 'admin.bad_request', message: 'the body is no JSON, or too large' });
    return;
  }
  const answer = await options.actions(request.method ?? 'GET', path, body.json);
  json(response, answer?.status ?? 404, answer?.json ?? { code: 'admin.not_found', message: `no such path: ${path}` });
}

async function tell(
  options: AdminOptions,
  request: IncomingMessage,
  response: ServerResponse,
  door: 'port' | 'socket',
): Promise<void> {
  const [path = ''] = (request.url ?? '').split('?', 1);
  const { pages } = options;
  if (door === 'port' && !isOurName(request.headers.host)) {
    json(response, 403, { code: 'admin.foreign_host', message: 'ask by address, or as localhost' });
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    json(response, 405, { code: 'admin.method', message: 'this door only tells; GET' });
  } else if (path === '/ready' || path === '/healthz/ready') {
    const isReady = options.isReady();
    response.writeHead(isReady ? 200 : 503, { 'content-type': 'text/plain' });
    response.end(isReady ? 'ready\n' : 'not ready, sources have not delivered yet\n');
  } else if (path === '/') {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.end(['/ready', ...Object.keys(pages), ''].join('\n'));
  } else if (Object.hasOwn(pages, path)) {
    response.writeHead(200, { 'content-type': 'application/json' });
    await stream(response, (pages[path] ?? (() => []))());
  } else {
    json(response, 404, { code: 'admin.not_found', message: `no such path: ${path}` });
  }
}

/** Writes slice by slice, as fast as the reader takes them, giving way to everybody else in between. */
async function stream(response: ServerResponse, parts: Iterable<string>): Promise<void> {
  let slice = '';
  for (const part of parts) {
    slice += part;
    if (slice.length < SLICE) continue;
    if (response.destroyed) return;
    const isTaken = response.write(slice);
    slice = '';
    await (isTaken ? new Promise(resolve => setImmediate(resolve)) : drained(response));
  }
  response.end(slice);
}

async function drained(response: ServerResponse): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  response.once('drain', resolve);
  response.once('close', resolve);
  await promise;
}

function json(response: ServerResponse, status: number, value: object): void {
  const text = `${JSON.stringify(value)}\n`;
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

async function bodyOf(request: IncomingMessage): Promise<{ readonly json: unknown } | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_BODY_BYTES) return undefined;
      chunks.push(chunk);
    }
    return { json: length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString('utf8')) };
  } catch {
    return undefined;
  }
}

/** A name that some page's DNS points at us is not ours: addresses and localhost are. */
function isOurName(host: string | undefined): boolean {
  if (host === undefined) return false;
  const name = host.replace(/:\d*$/, '').replace(/^\[(.*)\]$/, '$1');
  const ip = parseIp(name);
  return name === 'localhost' || (ip !== undefined && (isLoopback(ip) || host !== ''));
}

/** A socket that somebody answers on is theirs; one that nobody does is left over from a crash. */
async function claimSocket(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const probe = connect(path, () => resolve(true));
  probe.once('error', () => resolve(false));
  const isTaken = await promise;
  probe.destroy();
  if (isTaken) {
    throw new ControlError('config.state_in_use', `another control plane uses the state directory of ${path}`, {
      next: 'stop it, or give this one its own: --state DIR',
    });
  }
  await rm(path, { force: true });
}

async function listening(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(where, resolve);
  try {
    await promise;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ControlError('config.port', `cannot open the admin door: ${reason}`, { cause });
  }
  server.off('error', reject);
  server.on('error', () => undefined);
}

async function closed(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  await promise;
}
