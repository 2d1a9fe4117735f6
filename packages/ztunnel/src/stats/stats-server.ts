// The metrics endpoint, port 15020: `/metrics` and `/stats/prometheus`, any method, as upstream. An answer is written in
// pieces as the scraper reads, so one that does not read costs 64 KiB and a place for some seconds; places are bounded, in all
// and for each address. Encrypts nothing and asks nobody's name: it is for the networks of nodes.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Slicer } from '../admin/slicer.ts';
import { CONTENT_TYPES, exposition } from '../metrics/exposition.ts';
import { PackedBlocks, packedExposition } from '../metrics/packed-exposition.ts';
import type { MetricRegistry } from '../metrics/metric-registry.ts';
import { type HttpListen, type HttpListener, listenHttp } from './http-listener.ts';
import { acceptsGzip, chooseFormat } from './negotiation.ts';

export interface StatsDeps {
  readonly registry: MetricRegistry;
  /** Brings everything up to date that does not come by itself; bounded in time, never rejects. */
  readonly refresh: () => Promise<unknown>;
}

export interface StatsLimits {
  /** A scraper that takes nothing for so long is gone. */
  readonly idleMs: number;
  /** Longest that one answer may take. */
  readonly deadlineMs: number;
  readonly maxScrapes: number;
  readonly maxScrapesOfOne: number;
}

const DEFAULTS: StatsLimits = { idleMs: 10_000, deadlineMs: 60_000, maxScrapes: 16, maxScrapesOfOne: 4 };
const PATHS: ReadonlySet<string> = new Set(['/metrics', '/stats/prometheus']);
/** Who asks for updates more often waits: they cost data workers time, and anybody on the network can ask. */
const REFRESH_GAP_MS = 100;
/** Compressed text that nobody asked for in so long is let go; scrapes are 15 s to some minutes apart. */
const KEEP_MS = 300_000;

/** @throws the system's error when the port is taken */
export async function serveStats(
  deps: StatsDeps,
  listen: HttpListen,
  limits: Partial<StatsLimits> = {},
): Promise<HttpListener> {
  const scrapes = new Scrapes(deps, { ...DEFAULTS, ...limits });
  return await listenHttp(listen, (request, response) => scrapes.answer(request, response));
}

class Scrapes {
  readonly #deps: StatsDeps;
  readonly #limits: StatsLimits;
  /** Answers under way, by address of the scraper. */
  readonly #underWay = new Map<string, number>();
  readonly #packed = new PackedBlocks();
  #forgetting: NodeJS.Timeout | undefined;
  #count = 0;
  #refreshing: Promise<unknown> | undefined;
  #refreshedMs = -Infinity;

  constructor(deps: StatsDeps, limits: StatsLimits) {
    this.#deps = deps;
    this.#limits = limits;
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const [path = ''] = (request.url ?? '').split('?', 1);
    if (!PATHS.has(path)) {
      response.writeHead(404, { 'content-length': 0 }).end();
      return;
    }
    const scraper = request.socket.remoteAddress ?? '';
    const own = this.#underWay.get(scraper) ?? 0;
    if (this.#count >= this.#limits.maxScrapes || own >= this.#limits.maxScrapesOfOne) {
      const text = 'too many scrapes at once\n';
      response.writeHead(503, { 'content-type': 'text/plain', 'content-length': text.length }).end(text);
      return;
    }
    this.#count++;
    this.#underWay.set(scraper, own + 1);
    void this.#scrape(request, response).finally(() => {
      this.#count--;
      const left = (this.#underWay.get(scraper) ?? 1) - 1;
      if (left === 0) this.#underWay.delete(scraper);
      else this.#underWay.set(scraper, left);
    });
  }

  async #scrape(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { idleMs, deadlineMs } = this.#limits;
    const reader = new Reader(request);
    response.setTimeout(idleMs, () => reader.cut());
    const deadline = setTimeout(() => reader.cut(), deadlineMs);
    response.on('error', () => undefined);
    try {
      const format = chooseFormat(request.headers.accept);
      const isGzip = acceptsGzip(request.headers['accept-encoding']?.toString());
      response.setHeader('content-type', CONTENT_TYPES[format]);
      response.setHeader('vary', 'accept, accept-encoding');
      if (isGzip) response.setHeader('content-encoding', 'gzip');
      if (request.method === 'HEAD') response.end();
      else {
        await this.#refresh();
        const { registry } = this.#deps;
        const pieces = isGzip ? packedExposition(registry, format, this.#packed) : exposition(registry, format);
        await write(pieces, response, reader);
        if (isGzip) this.#forgetLater();
      }
    } catch {
      // Half an answer must not look whole.
      reader.cut();
    } finally {
      clearTimeout(deadline);
      reader.release();
    }
  }

  /** One for all who ask meanwhile. */
  async #refresh(): Promise<void> {
    this.#refreshing ??= this.#refreshInTime().finally(() => (this.#refreshing = undefined));
    await this.#refreshing;
  }

  async #refreshInTime(): Promise<void> {
    const waitMs = this.#refreshedMs + REFRESH_GAP_MS - performance.now();
    if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs));
    await this.#deps.refresh();
    this.#refreshedMs = performance.now();
  }

  #forgetLater(): void {
    this.#packed.sweep(KEEP_MS);
    if (this.#packed.bytes === 0 || this.#forgetting !== undefined) return;
    this.#forgetting = setTimeout(() => {
      this.#forgetting = undefined;
      this.#forgetLater();
    }, KEEP_MS).unref();
  }
}

/** Whoever reads the answer, until his connection is gone. An answer that waits for its turn hears of that nowhere else. */
class Reader {
  readonly #socket: Socket;
  readonly #onClose = (): void => this.#wake();
  #wake: () => void = () => undefined;

  constructor({ socket }: IncomingMessage) {
    this.#socket = socket;
    socket.once('close', this.#onClose);
  }

  get isGone(): boolean {
    return this.#socket.destroyed;
  }

  cut(): void {
    this.#socket.destroy();
  }

  /** Resolves when `step` is done, or he is gone. */
  async until(step: (done: () => void) => void): Promise<void> {
    if (this.isGone) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    step(resolve);
    await promise;
  }

  release(): void {
    this.#socket.off('close', this.#onClose);
  }
}

async function write(pieces: Iterable<Uint8Array>, response: ServerResponse, reader: Reader): Promise<void> {
  // A reader that keeps up never makes us wait, and everything else on this thread would wait instead.
  const slicer = new Slicer();
  for (const piece of pieces) {
    // The memory of a piece is used again for the next, so this one has to be out.
    await reader.until(done => void response.write(piece, () => done()));
    if (reader.isGone) return;
    await slicer.pause();
  }
  await reader.until(done => {
    response.once('finish', done);
    response.end();
  });
}
