// A data worker as production runs it: the engine blocks in epoll_wait on a thread of its own, and the main thread
// reaches it through an eventfd and its message port, of which the worker takes what there is (receiveMessageOnPort).
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { EventFd, ownedFdCount, TlsContext, type TlsMaterial } from '@ambit/native';
import type { FrozenTunnel } from '../src/index.ts';
import { ServerProxy } from './mini-mesh.ts';

export interface WorkerStart {
  readonly wake: number;
  readonly material: TlsMaterial;
}

export type ToWorker =
  | { readonly kind: 'freeze' }
  | { readonly kind: 'thaw'; readonly tunnels: readonly FrozenTunnel[] }
  | { readonly kind: 'stop' };

export type FromWorker =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'frozen'; readonly tunnels: readonly FrozenTunnel[] }
  | {
      readonly kind: 'stopped';
      readonly ends: readonly string[];
      readonly fds: number;
      readonly timers: number;
      readonly bytes: number;
    };

const port = parentPort;
if (port === null) throw new Error('this is a worker');
const { wake, material } = workerData as WorkerStart;

const fdsBefore = ownedFdCount();
const eventFd = EventFd.adopt(wake);
const context = TlsContext.server(material);
const server = new ServerProxy(context);
const { engine } = server;
const say = (message: FromWorker): void => port.postMessage(message);

const commands: ToWorker[] = [];
engine.reactor.add(eventFd.fd, {
  onEvents: () => {
    eventFd.drain();
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      commands.push(got.message as ToWorker);
    }
  },
});
// Between turns, when no callback of a tunnel is running.
engine.afterTurn = () => {
  for (let command = commands.shift(); command !== undefined; command = commands.shift()) obey(command);
};

function obey(command: ToWorker): void {
  switch (command.kind) {
    case 'freeze':
      say({ kind: 'frozen', tunnels: server.freezeAll() });
      return;
    case 'thaw':
      for (const tunnel of command.tunnels) server.thaw(tunnel);
      return;
    case 'stop':
      server.destroy();
      engine.stop();
  }
}

say({ kind: 'listening', port: server.port });
engine.run();
engine.close();
const timers = engine.timers.size;
eventFd.close();
context.close();
say({
  kind: 'stopped',
  ends: server.ends.map(({ end }) => end.kind),
  fds: ownedFdCount() - fdsBefore,
  timers,
  bytes: engine.budget.usedBytes,
});
port.close();
