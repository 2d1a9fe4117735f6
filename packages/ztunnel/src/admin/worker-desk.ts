// A data worker's half of the admin endpoint: answers questions on the spot. Runs on the worker, within its loop.
import type { Reportable } from '../worker/progress.ts';
import { type ConnectionShape, connectionShape } from './live-connections.ts';
import { ThreadProfiler } from './v8-profile.ts';
import type { WorkerAnswer, WorkerQuestion } from './worker-questions.ts';

/** A pod as far as it is asked about. */
export interface AskedPod {
  readonly info: { readonly uid: string };
  readonly connections: Iterable<Reportable>;
}

export class WorkerDesk {
  readonly #pods: () => Iterable<AskedPod>;
  readonly #profiler = new ThreadProfiler();

  /** @param pods those that are open and those that still have connections */
  constructor(pods: () => Iterable<AskedPod>) {
    this.#pods = pods;
  }

  /** @throws when the profiler cannot do it */
  answer(question: WorkerQuestion): WorkerAnswer {
    switch (question.kind) {
      case 'connections':
        return this.#connections(question.limit);
      case 'startCpuProfile':
        this.#profiler.startCpu(question.intervalUs);
        return { kind: 'done' };
      case 'stopCpuProfile':
        return { kind: 'cpuProfile', profile: this.#profiler.stopCpu() };
      case 'startHeapProfile':
        this.#profiler.startHeap();
        return { kind: 'done' };
      case 'stopHeapProfile':
        this.#profiler.stopHeap();
        return { kind: 'done' };
      case 'heapProfile':
        return { kind: 'heapProfile', profile: this.#profiler.heap() };
    }
  }

  #connections(limit: number): WorkerAnswer {
    let [shown, leftOut] = [0, 0];
    const pods = [...this.#pods()].map(pod => {
      const shapes = { inbound: new Array<ConnectionShape>(), outbound: new Array<ConnectionShape>() };
      for (const connection of pod.connections) {
        // One that carries nothing yet is not told of anywhere else either.
        const { facts } = connection;
        if (facts?.connectMs === undefined) continue;
        if (shown === limit) {
          leftOut++;
          continue;
        }
        shown++;
        shapes[facts.direction].push(connectionShape(facts));
      }
      return { uid: pod.info.uid, ...shapes };
    });
    return { kind: 'connections', pods, leftOut };
  }
}
