// How many data workers to run. The rules are upstream's (ztunnel `config.rs`, threads), kept exactly so that a
// DaemonSet that was tuned for it keeps its meaning. Pure.

/** What the environment says about processors; counts are whole cores. */
export interface ThreadInputs {
  /** `ZTUNNEL_WORKER_THREADS`: a number, a percentage of the processors, or 0 for all of them. */
  readonly workerThreads: string | undefined;
  /** `concurrency` of the proxy configuration: 0 means all processors. */
  readonly concurrency: number | undefined;
  readonly resourceLimit: number | undefined;
  readonly resourceRequest: number | undefined;
  /** `ZTUNNEL_CPU_LIMIT`. */
  readonly cpuLimit: number | undefined;
  readonly cores: number;
}

const MAX_WORKERS = 1024;
const DEFAULT_PERCENT = 25;
/** Upstream never runs fewer than two unless asked to: one stuck worker must not stop the node. */
const DEFAULT_MINIMUM = 2;

/** The number of workers, or `{ error }` naming what is wrong with `ZTUNNEL_WORKER_THREADS`. */
export function workerCount(inputs: ThreadInputs): number | { readonly error: string } {
  const cpus = Math.max(1, inputs.resourceLimit ?? inputs.cpuLimit ?? inputs.cores);
  if (inputs.workerThreads !== undefined) return fromText(inputs.workerThreads, cpus);
  if (inputs.concurrency !== undefined) return inputs.concurrency > 0 ? inputs.concurrency : cpus;
  const request = inputs.resourceRequest ?? 0;
  if (inputs.resourceLimit !== undefined) return Math.max(1, inputs.resourceLimit, request);
  return Math.max(percentOf(DEFAULT_PERCENT, cpus), request, DEFAULT_MINIMUM);
}

function fromText(text: string, cpus: number): number | { readonly error: string } {
  if (/^\d{1,4}$/.test(text)) {
    const count = Number(text);
    if (count > MAX_WORKERS) return { error: `more than ${MAX_WORKERS} threads` };
    return count === 0 ? cpus : count;
  }
  const percent = /^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(text);
  if (percent === null) return { error: 'expected a number of threads or a percentage such as 25%' };
  const value = Number(percent[1]);
  if (value <= 0 || value > 100) return { error: 'a percentage must be above 0 and at most 100' };
  return percentOf(value, cpus);
}

function percentOf(percent: number, cpus: number): number {
  return Math.max(1, Math.ceil((cpus * percent) / 100 - 1e-9));
}
