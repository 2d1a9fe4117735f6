// The few questions that we have for a container engine, over its Unix socket (Docker Engine API 1.40, which Docker 19.03
// and Podman 3 answer): which containers run, what one is, and what happens. Bounded in time and size.
import { type ClientRequest, get, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { LocalError } from '../errors.ts';

const VERSION = '/v1.40';
const TIMEOUT_MS = 5_000;
const MAX_BYTES = 16 * 1024 * 1024;
/** Podman filters by its own word for `die`, and says `die` all the same. Health checks' events are not among them. */
const EVENTS = ['start', 'die', 'died', 'remove', 'destroy', 'rename'];
const ID = /^[0-9a-f]{12,64}$/;

export class EngineClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Ids of the containers that run. @throws local.engine */
  async running(): Promise<string[]> {
    const list = await this.#ask('/containers/json');
    if (!Array.isArray(list)) throw this.#error('its list is none');
    return list.flatMap((each: unknown) => {
      const id = (each as { readonly Id?: unknown } | null)?.Id;
      return typeof id === 'string' && ID.test(id) ? [id] : [];
    });
  }

  /** undefined: there is no such container any more. @throws local.engine */
  async inspect(id: string): Promise<unknown> {
    return this.#ask(`/containers/${id}/json`);
  }

  /**
   * Calls back with the id of each container to which something happens, from the moment `onOpen` was called until the
   * signal aborts or the engine ends the stream. @throws local.engine
   */
  async watch(onOpen: () => void, onEvent: (id: string) => void, signal: AbortSignal): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ type: ['container'], event: EVENTS }));
    const request = get({
      socketPath: this.#socketPath,
      path: `${VERSION}/events?filters=${filters}`,
      agent: false,
      signal,
    });
    try {
      // Podman sends the head with the first event only: from then on we would have missed nothing all the same, because
      // the request is in its socket before any question that follows.
      request.once('socket', socket => socket.once('connect', onOpen));
      const response = await responseOf(request);
      for await (const line of createInterface({ input: response, crlfDelay: Infinity })) {
        const id = eventId(line);
        if (id !== undefined) onEvent(id);
      }
    } catch (error) {
      if (!signal.aborted) throw this.#error(error instanceof Error ? error.message : String(error), error);
    }
  }

  async #ask(path: string): Promise<unknown> {
    const request = get({ socketPath: this.#socketPath, path: VERSION + path, agent: false, timeout: TIMEOUT_MS });
    request.once('timeout', () => request.destroy(new Error('no answer in time')));
    try {
      const response = await responseOf(request);
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of response as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > MAX_BYTES) throw new Error('its answer is too large');
        chunks.push(chunk);
      }
      if (response.statusCode === 404) return undefined;
      if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
      return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown;
    } catch (error) {
      throw this.#error(error instanceof Error ? error.message : String(error), error);
    }
  }

  #error(reason: string, cause?: unknown): LocalError {
    return new LocalError('local.engine', `the container engine does not answer as expected: ${reason}`, {
      where: this.#socketPath,
      cause,
    });
  }
}

async function responseOf(request: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  request.once('response', resolve);
  request.once('error', reject);
  return promise;
}

function eventId(line: string): string | undefined {
  try {
    const { Actor: actor } = JSON.parse(line) as { readonly Actor?: { readonly ID?: unknown } };
    return typeof actor?.ID === 'string' && ID.test(actor.ID) ? actor.ID : undefined;
  } catch {
    return undefined;
  }
}
