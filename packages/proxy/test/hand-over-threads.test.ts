// Tunnels move between worker threads that block in their engines, by postMessage alone: what a release of the data
// workers, or of the process, will do.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { EventFd, ownedFdCount } from '@ambit/native';
import { materialOf } from '../../native/test/certificates.ts';
import type { FrozenTunnel } from '../src/index.ts';
import { dial, digest, readBytes, sendPattern, serveEcho } from './apps.ts';
import { Driver } from './driver.ts';
import { addressOf, ClientProxy, clientTls, meshCertificates } from './mini-mesh.ts';
import type { FromWorker, ToWorker, WorkerStart } from './server-worker.ts';

type Stopped = Extract<FromWorker, { readonly kind: 'stopped' }>;

class ServerThread {
  readonly #worker: Worker;
  readonly #wake = EventFd.create();

  private constructor(start: Omit<WorkerStart, 'wake'>) {
    const workerData: WorkerStart = { ...start, wake: this.#wake.fd.number };
    this.#worker = new Worker(new URL('./server-worker.ts', import.meta.url), { workerData });
  }

  static async start(
    data: Omit<WorkerStart, 'wake'>,
  ): Promise<{ readonly thread: ServerThread; readonly port: number }> {
    const thread = new ServerThread(data);
    const message = await thread.#next();
    assert.equal(message.kind, 'listening');
    return { thread, port: message.kind === 'listening' ? message.port : 0 };
  }

  async freeze(): Promise<readonly FrozenTunnel[]> {
    this.#tell({ kind: 'freeze' });
    const message = await this.#next();
    return message.kind === 'frozen' ? message.tunnels : assert.fail(message.kind);
  }

  thaw(tunnels: readonly FrozenTunnel[]): void {
    this.#tell({ kind: 'thaw', tunnels });
  }

  async stop(): Promise<Stopped> {
    const exited = once(this.#worker, 'exit');
    this.#tell({ kind: 'stop' });
    const message = await this.#next();
    await exited;
    this.#wake.close();
    return message.kind === 'stopped' ? message : assert.fail(message.kind);
  }

  #tell(message: ToWorker): void {
    this.#worker.postMessage(message);
    this.#wake.notify();
  }

  async #next(): Promise<FromWorker> {
    const [message] = (await once(this.#worker, 'message')) as [FromWorker];
    return message;
  }
}

test('a tunnel moves a hundred times between two blocking threads, under load, unnoticed', async () => {
  const fds = ownedFdCount();
  await using echo = await serveEcho();
  const certificates = await meshCertificates();
  const material = materialOf(certificates.server, certificates.root);
  const [one, two] = await Promise.all([ServerThread.start({ material }), ServerThread.start({ material })]);
  const context = clientTls(certificates);
  const client = new ClientProxy(context);
  const driver = new Driver();
  driver.add(client.engine);
  const port = client.listen(addressOf(`127.0.0.1:${one.port}`), `127.0.0.1:${echo.port}`);
  const bytes = 12_000_000;
  let isDone = false;
  const talk = async (): Promise<void> => {
    const socket = await dial(port);
    do {
      socket.write('request');
      assert.equal((await readBytes(socket, 7)).toString(), 'request');
    } while (!isDone);
    socket.end();
    await digest(socket);
  };
  const bulk = async (salt: number): Promise<void> => {
    const socket = await dial(port);
    const [sent, got] = await Promise.all([sendPattern(socket, bytes, salt), digest(socket)]);
    assert.deepEqual(got, { hash: sent, bytes });
  };
  const work = Promise.all([talk(), talk(), bulk(1), bulk(2), bulk(3)]);
  await driver.until(() => client.statuses.length === 5, 'streams open');
  let moved = 0;
  for (let i = 0; i < 100; i++) {
    const [from, to] = i % 2 === 0 ? [one.thread, two.thread] : [two.thread, one.thread];
    const tunnels = await from.freeze();
    moved += tunnels.length;
    to.thaw(tunnels);
  }
  isDone = true;
  await work;
  assert.equal(moved, 100);
  await driver.until(() => client.streamCount === 0, 'streams over');
  client.destroy();
  await driver.until(() => client.pool.tunnelCount === 0 && client.engine.lingering.size === 0, 'tunnel closed');
  await driver.stop();
  client.engine.close();
  context.close();
  const stopped = await Promise.all([one.thread.stop(), two.thread.stop()]);
  assert.deepEqual(
    stopped.flatMap(({ ends }) => ends),
    Array.from({ length: 5 }, () => 'finished'),
  );
  for (const each of stopped) assert.deepEqual([each.fds, each.timers, each.bytes], [0, 0, 0]);
  assert.ok(client.ends.every(end => end.kind === 'finished'));
  assert.equal(ownedFdCount(), fds);
});
