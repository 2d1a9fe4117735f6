// Requests to one Kubernetes API server: JSON in, JSON out, every one with a deadline and a bound on the answer; and
// streams of a watch, which the reader pulls, so that a slow reader holds the server back and nothing piles up here.
// Connections are kept and reused; new certificates or CAs (rotation) make new connections.
import http from 'node:http';
import https from 'node:https';
import { createHash } from 'node:crypto';
import { errorText } from '@ambit/log';
import type { Authorization, KubeEndpoint, Surroundings, TlsMaterial } from './endpoint.ts';
import { KubeError } from './errors.ts';
import { type KubeAccess, loadKubeConfig } from './kube-config.ts';

export interface KubeRequest {
  /** `GET` when absent; `PATCH` sends a JSON merge patch (RFC 7396). */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH';
  /** Absolute path below the server's base. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** What is wanted back. Default `application/json`. */
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
  /** For the whole request; for a stream: until its head has arrived. Default 30 s. */
  readonly timeoutMs?: number;
  /** Bound on the answer's body. Default 16 MiB. */
  readonly maxBytes?: number;
}

export interface KubeResponse {
  readonly status: number;
  /** Parsed JSON; undefined when the body is empty or, with a status of 300 and more, no JSON. */
  readonly body: unknown;
  /** From `retry-after`, in milliseconds. */
  readonly retryAfterMs: number | undefined;
}

export type KubeStream =
  | { readonly kind: 'open'; readonly chunks: AsyncIterable<Buffer>; close(): void }
  | { readonly kind: 'refused'; readonly response: KubeResponse };

export interface KubeClient {
  /** Loads the configuration now, which every request does otherwise. @throws KubeError `kube.config` */
  open(): Promise<{ readonly server: string }>;
  /** @throws KubeError `kube.config`, `kube.credentials`, `kube.unreachable`, `kube.timeout`, `kube.bad_response`, `kube.closed` */
  request(request: KubeRequest): Promise<KubeResponse>;
  /** As `request`, for a body without an end. Reading rejects when the connection breaks. */
  stream(request: KubeRequest): Promise<KubeStream>;
  /** Closes every connection. */
  close(): void;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const DEFAULT_MAX_BYTES = 16 * 1024 * 1024;
/** Finds a dead peer in some 40 s (the kernel's further probes come each second). */
const KEEP_ALIVE_MS = 30_000;

export interface KubeClientOptions {
  /** By which the server's audit log knows us. Default `ambit`. */
  readonly userAgent?: string;
  /** Environment, home and service account, if not this process's own. */
  readonly surroundings?: Surroundings;
}

export function createKubeClient(access: KubeAccess, options: KubeClientOptions = {}): KubeClient {
  let endpoint: Promise<KubeEndpoint> | undefined;
  const agents = new AgentCache();
  const closing = new AbortController();

  const load = (): Promise<KubeEndpoint> => {
    endpoint ??= loadKubeConfig(access, options.surroundings).catch((error: unknown) => {
      endpoint = undefined; // a kubeconfig may be written later
      throw error;
    });
    return endpoint;
  };

  const send = async (request: KubeRequest, signal: AbortSignal): Promise<http.IncomingMessage> => {
    const { server, authorize } = await load();
    const authorization = await withAbort(authorize(), signal);
    const payload = request.body === undefined ? undefined : JSON.stringify(request.body);
    const url = new URL(server);
    url.pathname = `${url.pathname.replace(/\/+$/, '')}${request.path}`;
    url.search = new URLSearchParams(request.query).toString();
    const contentType = request.method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const requestOptions = {
      method: request.method ?? 'GET',
      headers: {
        ...authorization.headers,
        accept: request.accept ?? 'application/json',
        'user-agent': options.userAgent ?? 'ambit',
        ...(payload === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) }),
      },
      agent: agents.agentFor(server, authorization),
      signal,
    };
    return new Promise((resolve, reject) => {
      const outgoing =
        url.protocol === 'https:' ? https.request(url, requestOptions) : http.request(url, requestOptions);
      outgoing.once('response', resolve);
      outgoing.on('error', reject); // stays: errors after the head also come through the response
      outgoing.end(payload);
    });
  };

  /** Runs `use` under the request's deadline and names what went wrong. */
  const under = async <T>(request: KubeRequest, use: (deadline: Deadline) => Promise<T>): Promise<T> => {
    const deadline = new Deadline(request.timeoutMs ?? DEFAULT_TIMEOUT_MS, [closing.signal, request.signal]);
    const what = `${request.method ?? 'GET'} ${request.path}`;
    try {
      return await use(deadline);
    } catch (error) {
      deadline.release();
      if (closing.signal.aborted || request.signal?.aborted === true) {
        throw new KubeError('kube.closed', `${what} was given up`, { cause: error });
      }
      if (deadline.isOver) throw new KubeError('kube.timeout', `${what} was not answered in time`, { cause: error });
      if (error instanceof KubeError) throw error;
      throw new KubeError('kube.unreachable', `${what}: ${errorText(error)}`, {
        cause: error,
        next: 'check the address of the API server, the network between, and its certificate',
      });
    }
  };

  return {
    async open() {
      return { server: (await load()).server.href };
    },
    async request(request) {
      return await under(request, async deadline => {
        const response = await readResponse(await send(request, deadline.signal), request);
        deadline.release();
        return response;
      });
    },
    async stream(request) {
      return await under(request, async (deadline): Promise<KubeStream> => {
        const incoming = await send(request, deadline.signal);
        if (incoming.statusCode !== 200) {
          const response = await readResponse(incoming, request);
          deadline.release();
          return { kind: 'refused', response };
        }
        deadline.stopClock();
        incoming.once('close', () => deadline.release());
        return { kind: 'open', chunks: incoming, close: () => void incoming.destroy() };
      });
    },
    close() {
      closing.abort();
      agents.close();
    },
  };
}

/** One time limit together with the reasons of others to give up, without leaving listeners behind. */
class Deadline {
  readonly #controller = new AbortController();
  readonly #sources: readonly AbortSignal[];
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = (): void => this.#controller.abort();
  isOver = false;

  constructor(ms: number, signals: readonly (AbortSignal | undefined)[]) {
    this.#sources = signals.filter(signal => signal !== undefined);
    this.#timer = setTimeout(() => {
      this.isOver = true;
      this.#controller.abort();
    }, ms);
    for (const signal of this.#sources) {
      if (signal.aborted) this.#controller.abort();
      else signal.addEventListener('abort', this.#onAbort);
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  stopClock(): void {
    clearTimeout(this.#timer);
  }

  release(): void {
    this.stopClock();
    for (const signal of this.#sources) signal.removeEventListener('abort', this.#onAbort);
  }
}

/**
 * The agent for the present credentials. The client library caches its own by name for ever, so a rotated certificate
 * would never be shown; here another certificate is another agent, and the old one's idle connections are closed
 * (busy ones end by themselves: watches do so within minutes).
 */
class AgentCache {
  #key = '';
  #agent: http.Agent | undefined;

  agentFor(server: URL, { tls, proxyAgent }: Authorization): http.Agent {
    if (proxyAgent !== undefined) return proxyAgent;
    const key = fingerprint(tls);
    if (this.#agent !== undefined && this.#key === key) return this.#agent;
    const old = this.#agent;
    const common = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS };
    this.#key = key;
    this.#agent =
      server.protocol === 'https:' ? new https.Agent({ ...common, ...defined(tls) }) : new http.Agent(common);
    if (old !== undefined) for (const socket of Object.values(old.freeSockets).flat()) socket?.destroy();
    return this.#agent;
  }

  close(): void {
    this.#agent?.destroy();
  }
}

function fingerprint(tls: TlsMaterial): string {
  const hash = createHash('sha256');
  for (const part of [tls.ca, tls.cert, tls.key, tls.servername, String(tls.rejectUnauthorized)]) {
    hash
      .update(String(part?.length ?? -1))
      .update(':')
      .update(part ?? '');
  }
  return hash.digest('base64');
}

function defined(tls: TlsMaterial): https.AgentOptions {
  return Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
}

async function readResponse(incoming: http.IncomingMessage, request: KubeRequest): Promise<KubeResponse> {
  const maxBytes = request.maxBytes ?? DEFAULT_MAX_BYTES;
  const status = incoming.statusCode ?? 0;
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of incoming as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > maxBytes) {
      incoming.destroy();
      throw badResponse(request, `is longer than ${String(maxBytes)} bytes`);
    }
    parts.push(part);
  }
  const retryAfter = Number(incoming.headers['retry-after']);
  return {
    status,
    body: parseBody(Buffer.concat(parts).toString('utf8'), status, request),
    retryAfterMs: Number.isFinite(retryAfter) && retryAfter >= 0 ? retryAfter * 1000 : undefined,
  };
}

function parseBody(text: string, status: number, request: KubeRequest): unknown {
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    if (status >= 300) return undefined; // a proxy's page, perhaps; the status says enough
    throw badResponse(request, 'is not JSON');
  }
}

function badResponse(request: KubeRequest, what: string): KubeError {
  return new KubeError('kube.bad_response', `the answer to ${request.method ?? 'GET'} ${request.path} ${what}`, {
    next: 'is this the address of a Kubernetes API server?',
  });
}

/** Credentials may come from a plugin that hangs; the request's deadline holds for it too. */
async function withAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(new KubeError('kube.credentials', 'credentials were not ready in time'));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
