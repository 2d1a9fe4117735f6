// A thread that opens descriptors, gives one away, closes one, and dies of an exception with the rest open. It says the
// numbers before.
import { parentPort, workerData } from 'node:worker_threads';
import { EventFd, listenTcp, registerFds } from '../src/index.ts';

registerFds(workerData as SharedArrayBuffer);
const kept = [EventFd.create().fd.number, listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 }).fd.number];
EventFd.create().close();
const given = EventFd.create().fd.release();
parentPort?.postMessage({ kept, given });
throw new Error('dies with descriptors open');
