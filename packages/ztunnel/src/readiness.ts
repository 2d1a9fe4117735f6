// Readiness as a set of named blockers, and the endpoint that tells: `GET /healthz/ready` on 15021. Names and texts
// are upstream's. Readiness does not turn false when a drain starts; the listener closes instead.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from './log.ts';
import { type HttpListen, type HttpListener, listenHttp } from './stats/http-listener.ts';

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

/** @throws the system's error when the port is taken */
export async function serveReadiness(readiness: Readiness, listen: HttpListen): Promise<HttpListener> {
  return await listenHttp(listen, (request, response) => answer(readiness, request, response));
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
