// A data worker thread. Returns when the runtime is told to stop; a bug ends the thread, and the main thread
// replaces it.
import { flushCompileCache } from 'node:module';
import { workerData } from 'node:worker_threads';
import { registerFds } from '@ambit/native';
import type { WorkerStart } from '../worker-protocol.ts';
import { WorkerRuntime } from './runtime.ts';

const start = workerData as WorkerStart;
registerFds(start.fds);
// Now, because this thread blocks from here on and may be killed: the next start then need not strip types again.
flushCompileCache();
new WorkerRuntime(start).run();
