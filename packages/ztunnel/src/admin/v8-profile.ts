// Samples the thread it is called on with V8's own profilers, through an inspector session of the thread to itself. Such a
// session answers within the call, so it works on data workers too, which never run their event loop. Sees JavaScript and,
// as one frame, native code that JavaScript calls; memory outside of V8's heap (buffers, OpenSSL) is not in a heap profile.
import type { Session } from 'node:inspector';

/** Where a function is. `lineNumber` counts from 0. */
export interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
}

/** V8's CPU profile: a tree of frames and the node that each sample hit. Times in microseconds. */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[] | undefined;
  }[];
  readonly samples?: readonly number[] | undefined;
  readonly startTime: number;
  readonly endTime: number;
}

/** V8's sampled live objects by where they were allocated. */
export interface HeapProfile {
  readonly head: HeapProfileNode;
  readonly samples: readonly { readonly size: number; readonly nodeId: number }[];
}

export interface HeapProfileNode {
  readonly id: number;
  readonly callFrame: CallFrame;
  readonly children: readonly HeapProfileNode[];
}

/** V8's average distance between two samples; a sample costs memory for as long as its object lives. */
const HEAP_SAMPLE_BYTES = 512 * 1024;

export class ThreadProfiler {
  #session: Session | undefined;
  #isSamplingCpu = false;
  #isSamplingHeap = false;

  startCpu(intervalUs: number): void {
    this.#call('Profiler.enable', {});
    this.#call('Profiler.setSamplingInterval', { interval: intervalUs });
    this.#call('Profiler.start', {});
    this.#isSamplingCpu = true;
  }

  /** undefined when none was started. */
  stopCpu(): CpuProfile | undefined {
    if (!this.#isSamplingCpu) return undefined;
    this.#isSamplingCpu = false;
    const { profile } = this.#call('Profiler.stop', {}) as { profile: CpuProfile };
    this.#call('Profiler.disable', {});
    this.#release();
    return profile;
  }

  /** Counts what is allocated from now on and still lives. */
  startHeap(): void {
    if (this.#isSamplingHeap) return;
    this.#call('HeapProfiler.startSampling', { samplingInterval: HEAP_SAMPLE_BYTES });
    this.#isSamplingHeap = true;
  }

  stopHeap(): void {
    if (!this.#isSamplingHeap) return;
    this.#isSamplingHeap = false;
    this.#call('HeapProfiler.stopSampling', {});
    this.#release();
  }

  /** undefined while it is not sampling. */
  heap(): HeapProfile | undefined {
    if (!this.#isSamplingHeap) return undefined;
    const { profile } = this.#call('HeapProfiler.getSamplingProfile', {}) as { profile: HeapProfile };
    return profile;
  }

  /** @throws what the profiler says */
  #call(method: string, params: object): unknown {
    this.#session ??= openSession();
    let failure: Error | null = new Error(`${method} did not answer`);
    let answer: unknown;
    this.#session.post(method, params, (error, result) => {
      failure = error;
      answer = result;
    });
    // A session with the own thread has called back by now; a failure is a plain object or an error.
    const failed = failure as Error | null;
    if (failed !== null) throw new Error(`profiler: ${failed.message}`);
    return answer;
  }

  /** An idle session would still cost each compiled function a little. */
  #release(): void {
    if (this.#isSamplingCpu || this.#isSamplingHeap) return;
    this.#session?.disconnect();
    this.#session = undefined;
  }
}

function openSession(): Session {
  // Not imported by name: nobody pays for it who does not profile.
  const session = new (process.getBuiltinModule('node:inspector').Session)();
  session.connect();
  return session;
}
