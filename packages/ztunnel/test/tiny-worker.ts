// A data worker without a data path, for the supervisor's tests: a real thread that blocks in epoll_wait, is woken by
// the eventfd and speaks the protocol. The name of a pod says what goes wrong with it; all it hears it repeats on a
// broadcast channel.
import { BroadcastChannel, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventFd, Reactor } from '@ambit/native';
import { WorkerDesk } from '../src/admin/worker-desk.ts';
import type { FromWorker, ToWorker, WorkerStart } from '../src/worker-protocol.ts';

/** What the tests hear. */
export interface Heard {
  readonly index: number;
  readonly message: ToWorker;
}

const { index, wakeFd, port, settings } = workerData as WorkerStart;
const channel = new BroadcastChannel(settings.network);
const wake = EventFd.adopt(wakeFd);
const reactor = new Reactor();
const holding = new Set<string>();
const desk = new WorkerDesk(() => []);
let isRunning = true;

const say = (message: FromWorker): void => port.postMessage(message);

function onMessage(message: ToWorker): void {
  channel.postMessage({ index, message } satisfies Heard);
  switch (message.type) {
    case 'podAdd':
      openPod(message.pod.uid, message.pod.name);
      return;
    case 'podRemove':
      if (holding.delete(message.uid)) say({ type: 'podClosed', uid: message.uid });
      return;
    case 'podState':
      if (message.workload !== undefined) ask(message.uid);
      return;
    case 'outboundRoute':
      say({ type: 'records', records: [] });
      return;
    case 'ask':
      say({ type: 'answer', id: message.id, answer: desk.answer(message.question) });
      return;
    case 'drain':
      say({ type: 'drained' });
      return;
    case 'stop':
      isRunning = false;
      return;
    default:
  }
}

function openPod(uid: string, name: string): void {
  if (name === 'mute') return;
  if (name === `crash-${index}`) throw new Error('asked to crash');
  if (name === `fail-${index}`) {
    say({
      type: 'podOpened',
      uid,
      error: { code: 'enrol.port_taken', message: 'port 15008 is taken' },
      transparent: false,
    });
    return;
  }
  holding.add(uid);
  say({ type: 'podOpened', uid, error: undefined, transparent: true });
}

function ask(uid: string): void {
  const ip = (text: string): never => text as never;
  const input = { source: { ip: ip('10.0.0.1'), port: 1 }, destination: { ip: ip('10.0.0.2'), port: 80 } };
  say({ type: 'needOutboundRoute', id: 7, uid, input });
  say({
    type: 'needInboundRoute',
    id: 8,
    uid,
    connectedIp: '10.0.0.1',
    connectedPort: 15008,
    authority: '10.0.0.1:80',
  });
  say({ type: 'needDns', id: 9, uid, question: { name: 'cart', type: 'A' } });
}

reactor.add(wake.fd, {
  onEvents() {
    wake.drain();
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      onMessage(got.message as ToWorker);
    }
  },
});
say({ type: 'ready' });
while (isRunning) reactor.poll(-1);
channel.close();
port.close();
