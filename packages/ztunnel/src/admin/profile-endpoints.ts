// `/debug/pprof/...`: CPU and heap profiles for `go tool pprof http://127.0.0.1:15000/debug/pprof/profile`, with upstream's
// parameters and words. Heap sampling is off until it is asked for, since it costs a little with every allocation.
import { ProcessProfiler } from './process-profiler.ts';
import { type Reply, text } from './reply.ts';
import type { AskWorkers } from './worker-questions.ts';

const SECONDS = { min: 1, max: 300, usual: 10 };
const FREQUENCY = { min: 1, max: 1000, usual: 100 };

type Bounds = typeof SECONDS;

export class ProfileEndpoints {
  readonly #profiler: ProcessProfiler;

  constructor(workers: AskWorkers) {
    this.#profiler = new ProcessProfiler(workers);
  }

  /** @param signal when the reader has gone. @throws when V8 cannot do it */
  async cpu(query: URLSearchParams, signal: AbortSignal): Promise<Reply> {
    const seconds = wholeNumber(query.get('seconds'), SECONDS);
    if (seconds === undefined) return text(400, invalid('seconds', SECONDS));
    const frequency = wholeNumber(query.get('frequency'), FREQUENCY);
    if (frequency === undefined) return text(400, invalid('frequency', FREQUENCY));
    if (this.#profiler.isTakingCpu) return text(503, 'a profile is being taken already\n');
    return profile(await this.#profiler.cpu({ seconds, frequency, signal }), 'cpu');
  }

  /** @throws when V8 cannot do it */
  async heap(): Promise<Reply> {
    const bytes = await this.#profiler.heap();
    if (bytes !== undefined) return profile(bytes, 'heap');
    return text(500, 'heap profiling is not active; turn it on with /debug/pprof/heap/profiling?activate=true\n');
  }

  /** @throws when V8 cannot do it */
  async heapSampling(query: URLSearchParams): Promise<Reply> {
    const activate = query.get('activate');
    if (activate !== null && activate !== 'true' && activate !== 'false')
      return text(400, 'invalid activate value; expected true or false\n');
    if (activate !== null) await this.#profiler.setHeapSampling(activate === 'true');
    return text(200, `heap profiling active: ${this.#profiler.isSamplingHeap}\n`);
  }
}

function wholeNumber(given: string | null, { min, max, usual }: Bounds): number | undefined {
  if (given === null) return usual;
  const value = /^\d{1,5}$/.test(given) ? Number(given) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}

function invalid(name: string, { min, max }: Bounds): string {
  return `invalid ${name} value; expected ${min}-${max}\n`;
}

function profile(body: Uint8Array, name: string): Reply {
  const headers = { 'content-disposition': `attachment; filename="${name}.pb"` };
  return { status: 200, type: 'application/octet-stream', body, headers };
}
