// The socket at which `ambit run`, `ps` and `down` ask the agent. Whoever may open it may start workloads of any identity,
// so it belongs to the one user who brought the mesh up (and to root), and the file's permissions are the authorisation.
// That user has no rights of root's by it: what he asks for is his own processes', and the kernel says who asks.
import { chmodSync, chownSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { errorText, faultText, type Log } from '@ambit/log';
import { peerUid } from './peer-uid.ts';
import { LocalError } from './errors.ts';
import type { LocalWorkloads } from './local-workloads.ts';
import { readWorkloadRequest } from './workload.ts';

export interface LocalServerDeps {
  readonly workloads: LocalWorkloads;
  /** Containers in the mesh. */
  readonly containers: () => readonly object[];
}

export interface LocalServerOptions {
  readonly path: string;
  /** Owner of the socket. */
  readonly uid: number;
  readonly log: Log;
}

const MAX_BODY_BYTES = 1024 * 1024;
const STATUS: Readonly<Partial<Record<LocalError['code'], number>>> = {
  'local.argument': 400,
  'local.name_taken': 409,
  'local.unknown_workload': 404,
};

export class LocalServer {
  readonly #server: Server;
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /** @throws the file system's error */
  static async open(deps: LocalServerDeps, { path, uid, log }: LocalServerOptions): Promise<LocalServer> {
    const server = createServer({ requestTimeout: 60_000 }, (request, response) => {
      void answer(deps, log, request, response);
    });
    server.maxConnections = 256;
    // Of an agent that was killed; a living one has claimed its own socket before we get here.
    rmSync(path, { force: true });
    server.listen(path);
    await once(server, 'listening');
    chmodSync(path, 0o600);
    if (uid !== process.getuid?.()) chownSync(path, uid, -1);
    return new LocalServer(server, path);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    rmSync(this.#path, { force: true });
  }
}

async function answer(deps: LocalServerDeps, log: Log, request: IncomingMessage, response: ServerResponse) {
  try {
    send(response, 200, await act(deps, request));
  } catch (error) {
    const said = error instanceof LocalError ? error : noRoom(error);
    if (said !== undefined) {
      const { code, message, where, next } = said;
      send(response, STATUS[code] ?? 422, { code, message, where, next });
    } else {
      log.error('Cannot answer', { error: faultText(error) });
      send(response, 500, {
        code: 'local.part_failed',
        message: 'the agent could not answer; its log says why',
        next: 'ambit up says where the logs are',
      });
    }
  }
}

/** A disk that is full or read-only: no fault of ours, and its log may be on the same. */
function noRoom(error: unknown): LocalError | undefined {
  const { code, path } = error instanceof Error ? (error as NodeJS.ErrnoException) : {};
  if (code !== 'ENOSPC' && code !== 'EDQUOT' && code !== 'EROFS') return undefined;
  return new LocalError('local.state', `the agent cannot write its files: ${errorText(error)}`, {
    where: path,
    next: 'make room, then run it again; df shows where it is full',
  });
}

async function act({ workloads, containers }: LocalServerDeps, request: IncomingMessage): Promise<object> {
  const { method = 'GET', url = '/' } = request;
  const [, version, what, namespace, name] = url.split('/');
  const caller = peerUid(request.socket);
  if (version === 'v1' && what === 'workloads') {
    if (method === 'GET' && namespace === undefined) return { workloads: workloads.list(), containers: containers() };
    if (method === 'POST' && namespace === undefined)
      return workloads.create(readWorkloadRequest(await bodyOf(request)), caller);
    if (method === 'DELETE' && namespace !== undefined && name !== undefined) {
      await workloads.stop(namespace, name, caller);
      return {};
    }
    if (method === 'DELETE' && namespace === undefined) {
      if (caller !== 0) throw new LocalError('local.rights', 'only root ends everything', { next: 'sudo ambit down' });
      await workloads.stopAll();
      return {};
    }
  }
  throw new LocalError('local.argument', `no such question: ${method} ${url.slice(0, 100)}`);
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new LocalError('local.argument', 'the question is too large');
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new LocalError('local.argument', 'the question is no JSON');
  }
}

function send(response: ServerResponse, status: number, json: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(json)}\n`);
}
