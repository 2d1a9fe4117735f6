// Entry of a data worker thread. Returns when the runtime is told to stop; a bug ends the thread, and the main thread
// replaces it.
import { workerData } from 'node:worker_threads';
import { registerFds } from '@ambit/native';
import type { WorkerStart } from '../worker-protocol.ts';
import { WorkerRuntime } from './runtime.ts';

const start = workerData as WorkerStart;
registerFds(start.fds);
new WorkerRuntime(start).run();
