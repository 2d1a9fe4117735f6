// A thread that opens descriptors, gives one away, closes one, and dies of an exception with the rest open.
import { workerData } from 'node:worker_threads';
import { EventFd, listenTcp, registerFds } from '../src/index.ts';

registerFds(workerData as SharedArrayBuffer);
const kept = [EventFd.create(), EventFd.create()];
const given = EventFd.create();
given.fd.release();
EventFd.create().close();
listenTcp({ address: '127.0.0.1', port: 0, backlog: 1 });
throw new Error(`dies with ${kept.length} eventfds and a listener open`);
