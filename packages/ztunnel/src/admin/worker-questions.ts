// What the admin endpoint asks of a data worker, and the answers. Plain data that survives structured cloning. A worker
// answers from within its loop, so an answer takes as long as what it is doing at the moment.
import type { ConnectionShape } from './live-connections.ts';
import type { CpuProfile, HeapProfile } from './v8-profile.ts';

export type WorkerQuestion =
  /** The connections that carry bytes now, at most `limit` of them. */
  | { readonly kind: 'connections'; readonly limit: number }
  | { readonly kind: 'startCpuProfile'; readonly intervalUs: number }
  | { readonly kind: 'stopCpuProfile' }
  | { readonly kind: 'startHeapProfile' }
  | { readonly kind: 'stopHeapProfile' }
  | { readonly kind: 'heapProfile' };

export type WorkerAnswer =
  | { readonly kind: 'connections'; readonly pods: readonly PodConnections[]; readonly leftOut: number }
  | { readonly kind: 'cpuProfile'; readonly profile: CpuProfile | undefined }
  | { readonly kind: 'heapProfile'; readonly profile: HeapProfile | undefined }
  | { readonly kind: 'done' };

/** One worker's share of a pod's connections. */
export interface PodConnections {
  readonly uid: string;
  readonly inbound: readonly ConnectionShape[];
  readonly outbound: readonly ConnectionShape[];
}

/** Between the main thread and a worker, for the admin endpoint. */
export type AdminToWorker =
  /** Who reads what beyond the records that metrics are made of, from now on. */
  | { readonly type: 'readers'; readonly opens: boolean; readonly queries: boolean }
  | { readonly type: 'ask'; readonly id: number; readonly question: WorkerQuestion };

export interface AdminFromWorker {
  readonly type: 'answer';
  readonly id: number;
  readonly answer: WorkerAnswer;
}

/** By worker, in their order; those that gave no answer are not there. */
export type WorkerAnswers = readonly { readonly worker: number; readonly answer: WorkerAnswer }[];

/** The data workers, as far as the admin endpoint asks them. */
export interface AskWorkers {
  /** How many there are. */
  readonly count: number;
  ask(question: WorkerQuestion, timeoutMs: number): Promise<WorkerAnswers>;
}
