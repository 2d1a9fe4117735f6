// CPU and heap profiles of the whole process: the main thread and every data worker, each by its own V8. Costs nothing while
// nobody asks. One CPU profile at a time; heap sampling stays on until it is turned off. A worker that does not answer in
// time, and one that was replaced meanwhile, are left out and named.
import { encodeCpu, encodeHeap, type ThreadProfile } from './pprof.ts';
import { type CpuProfile, type HeapProfile, ThreadProfiler } from './v8-profile.ts';
import type { AskWorkers, WorkerAnswer, WorkerAnswers } from './worker-questions.ts';

export interface CpuRequest {
  readonly seconds: number;
  /** Samples a second. */
  readonly frequency: number;
  /** Ends the profile early; it is then worth nothing. */
  readonly signal: AbortSignal;
}

const ANSWER_MS = 5000;
const LEFT_OUT = 'native code shows as the JavaScript that called it; memory outside of V8 (buffers, TLS) is not in it';

export class ProcessProfiler {
  readonly #workers: AskWorkers;
  readonly #main = new ThreadProfiler();
  #isTakingCpu = false;
  #isSamplingHeap = false;

  constructor(workers: AskWorkers) {
    this.#workers = workers;
  }

  get isTakingCpu(): boolean {
    return this.#isTakingCpu;
  }

  get isSamplingHeap(): boolean {
    return this.#isSamplingHeap;
  }

  /** A pprof profile. @throws what V8's profiler says; the signal's reason when it was ended early */
  async cpu({ seconds, frequency, signal }: CpuRequest): Promise<Uint8Array> {
    if (this.#isTakingCpu) throw new Error('a profile is being taken already');
    this.#isTakingCpu = true;
    try {
      return await this.#takeCpu({ seconds, frequency, signal });
    } finally {
      this.#isTakingCpu = false;
    }
  }

  /** @throws what V8's profiler says */
  async setHeapSampling(isOn: boolean): Promise<void> {
    if (isOn === this.#isSamplingHeap) return;
    if (isOn) this.#main.startHeap();
    else this.#main.stopHeap();
    this.#isSamplingHeap = isOn;
    await this.#workers.ask({ kind: isOn ? 'startHeapProfile' : 'stopHeapProfile' }, ANSWER_MS);
  }

  /** A pprof profile, or undefined while heap sampling is off. */
  async heap(): Promise<Uint8Array | undefined> {
    const own = this.#main.heap();
    if (own === undefined) return undefined;
    const answers = await this.#workers.ask({ kind: 'heapProfile' }, ANSWER_MS);
    const threads = [...ofMain(own), ...ofWorkers(answers, heapOf)];
    return encodeHeap(threads, { timeMs: Date.now(), comments: this.#comments(threads) });
  }

  async #takeCpu({ seconds, frequency, signal }: CpuRequest): Promise<Uint8Array> {
    const intervalUs = Math.round(1e6 / frequency);
    const [timeMs, startedAt] = [Date.now(), performance.now()];
    this.#main.startCpu(intervalUs);
    await this.#workers.ask({ kind: 'startCpuProfile', intervalUs }, ANSWER_MS);
    await pause(seconds * 1000, signal);
    const durationMs = performance.now() - startedAt;
    const own = this.#main.stopCpu();
    const answers = await this.#workers.ask({ kind: 'stopCpuProfile' }, ANSWER_MS);
    signal.throwIfAborted();
    const threads = [...ofMain(own), ...ofWorkers(answers, cpuOf)];
    return encodeCpu(threads, { periodNs: intervalUs * 1000, durationMs, timeMs, comments: this.#comments(threads) });
  }

  #comments(threads: readonly { readonly thread: string }[]): readonly string[] {
    const missing = Array.from({ length: this.#workers.count }, (_, index) => workerName(index)).filter(
      name => !threads.some(({ thread }) => thread === name),
    );
    return missing.length === 0 ? [LEFT_OUT] : [LEFT_OUT, `left out, no answer: ${missing.join(', ')}`];
  }
}

function ofMain<P>(profile: P | undefined): ThreadProfile<P>[] {
  return profile === undefined ? [] : [{ thread: 'main', profile }];
}

function ofWorkers<P>(answers: WorkerAnswers, profileOf: (answer: WorkerAnswer) => P | undefined): ThreadProfile<P>[] {
  return answers.flatMap(({ worker, answer }) => {
    const profile = profileOf(answer);
    return profile === undefined ? [] : [{ thread: workerName(worker), profile }];
  });
}

function cpuOf(answer: WorkerAnswer): CpuProfile | undefined {
  return answer.kind === 'cpuProfile' ? answer.profile : undefined;
}

function heapOf(answer: WorkerAnswer): HeapProfile | undefined {
  return answer.kind === 'heapProfile' ? answer.profile : undefined;
}

function workerName(index: number): string {
  return `worker-${index}`;
}

/** Until it is over or the reader has gone; never rejects. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => resolve(), { once: true });
  if (signal.aborted) resolve();
  await promise;
  clearTimeout(timer);
}
