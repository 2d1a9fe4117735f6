// Two doors for people and tools. The TCP port (loopback unless told otherwise) only tells: status, resources, diagnostics;
// never a key or a token. The Unix socket in the state directory also acts (revoke, rotate, tokens): its permissions are
// the authorisation. Bodies and headers are bounded; a page elsewhere cannot reach the port through a browser's DNS.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseIp } from '@ambit/mesh';
import { faultText, type Log } from '@ambit/log';
import type { AdminRoute } from '../ca/admin-routes.ts';
import type { Listen } from '../config/values.ts';
import { ADMIN_LIMITS, closed, listening } from './http-doors.ts';
import type { StateClaim } from './state-claim.ts';

/** What the port tells: path to a way of making the answer, in slices so that a large one holds nobody up. */
export type Pages = Readonly<Record<string, () => Iterable<string>>>;

export interface AdminOptions {
  readonly listen: Listen;
  /** Whose socket this serves. */
  readonly claim: StateClaim;
  readonly pages: Pages;
  /** Whether the first whole state is there. */
  readonly isReady: () => boolean;
  readonly actions: AdminRoute;
  readonly log: Log;
  /** Of the port: how long a reader may take nothing. Default 30 s. */
  readonly idleMs?: number;
}

export interface AdminServer {
  readonly port: number | undefined;
  close(): Promise<void>;
}

const MAX_BODY_BYTES = 64 * 1024;
/** After this many characters the event loop gets its turn. */
const SLICE = 256 * 1024;

/** Opens the port, and serves the socket, which whoever claimed it closes. @throws ControlError config.port */
export async function serveAdmin(options: AdminOptions): Promise<AdminServer> {
  let server: Server | undefined;
  if (options.listen !== 'off') {
    server = createServer(ADMIN_LIMITS, (request, response) => {
      void guarded(options, response, async () => tell(options, request, response, 'port'));
    });
    await listening(server, { host: options.listen.host, port: options.listen.port }, options.idleMs);
  }
  options.claim.serve((request, response) => {
    void guarded(options, response, async () => act(options, request, response));
  });
  return {
    port: server === undefined ? undefined : (server.address() as AddressInfo).port,
    close: async () => {
      if (server !== undefined) await closed(server);
    },
  };
}

/** A page that cannot be made costs the reader the answer, and nobody else anything. */
async function guarded({ log }: AdminOptions, response: ServerResponse, answer: () => Promise<void>): Promise<void> {
  response.setHeader('x-content-type-options', 'nosniff');
  try {
    await answer();
  } catch (error) {
    log.error('Cannot answer', { error: faultText(error) });
    // Half an answer must not look whole.
    if (response.headersSent) response.destroy();
    else json(response, 500, { code: 'admin.failed', message: 'the answer cannot be made; the log says why' });
  }
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
    const parts = (pages[path] ?? (() => []))();
    response.writeHead(200, { 'content-type': 'application/json' });
    await stream(response, parts);
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
  if (response.destroyed) resolve();
  await promise;
  response.off('drain', resolve);
  response.off('close', resolve);
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
  return name === 'localhost' || parseIp(name) !== undefined;
}
