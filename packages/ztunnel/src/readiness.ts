// Readiness as a set of named blockers, and the endpoint that tells: `GET /healthz/ready` on 15021. Names and texts
// are upstream's. Readiness does not turn false when a drain starts; the listener closes instead.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from './log.ts';

// Not imported by name: an ES import reads every export of node:http, and that loads all of fetch, 14 MB.
const http = process.getBuiltinModule('node:http');

/** What may keep the proxy from being ready. */
export type Blocker =
  | 'state manager'
  | 'proxy'
  | 'dns proxy'
  | 'workload proxy manager'
  | 'certificates'
  | 'revocation list';

export class Readiness {
  readonly #pending = new Map<Blocker, number>();
  readonly #log: Logger;
  readonly #now: () => number;

  constructor(deps: { readonly log: Logger; readonly now: () => number }) {
    this.#log = deps.log;
    this.#now = deps.now;
  }

  /** Registers a blocker (again); nothing changes if it is registered already. */
  block(name: Blocker): void {
    if (!this.#pending.has(name)) this.#pending.set(name, this.#now());
  }

  clear(name: Blocker): void {
    const since = this.#pending.get(name);
    if (since === undefined) return;
    this.#pending.delete(name);
    const elapsed = `${Math.round(this.#now() - since)}ms`;
    const left = this.#pending.size;
    const then = left === 0 ? 'marking server ready' : `still awaiting ${left} tasks`;
    this.#log.info(`Task '${name}' complete (${elapsed}), ${then}`);
  }

  /** Sorted; empty means ready. */
  get pending(): readonly Blocker[] {
    return [...this.#pending.keys()].sort();
  }
}

/** The listener of the readiness endpoint. */
export interface ReadinessServer {
  readonly port: number;
  /** Stops accepting and resolves when the last answer is out. */
  close(): Promise<void>;
}

/** A probe sends a request at once; whoever does not is not a probe. */
const HEADER_TIMEOUT_MS = 2000;
const MAX_HEADER_BYTES = 8192;
/** For answers under way when the proxy ends. */
const CLOSE_GRACE_MS = 500;

/** @throws the system's error when the port is taken */
export async function serveReadiness(
  readiness: Readiness,
  listen: { readonly port: number; readonly ipv6: boolean; readonly address?: string | undefined },
): Promise<ReadinessServer> {
  const server = http.createServer(
    { headersTimeout: HEADER_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 5000 },
    (request, response) => answer(readiness, request, response),
  );
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ port: listen.port, host: listen.address ?? (listen.ipv6 ? '::' : '0.0.0.0') }, resolve);
  await promise;
  server.removeListener('error', reject);
  // A failed accept (too many open files, say) must not end the process; the next probe tries again.
  server.on('error', () => undefined);
  return { port: portOf(server), close: () => closeServer(server) };
}

function answer(readiness: Readiness, request: IncomingMessage, response: ServerResponse): void {
  const [path] = (request.url ?? '').split('?', 1);
  const pending = readiness.pending;
  if (path !== '/healthz/ready') respond(response, 404, '');
  else if (request.method !== 'GET') respond(response, 405, '');
  else if (pending.length > 0) respond(response, 500, `not ready, pending: ${pending.join(', ')}\n`);
  else respond(response, 200, 'ready\n');
}

function respond(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeIdleConnections();
  // A prober that asks again on the same connection before it falls idle would hold up the end.
  const timer = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
  await promise;
  clearTimeout(timer);
}
