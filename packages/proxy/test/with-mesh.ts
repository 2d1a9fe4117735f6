// Puts a client and a server proxy in front of a test and looks for leaks behind it: streams, tunnels, timers,
// descriptors and budgeted bytes must be back where they were, however the test ended its connections.
import assert from 'node:assert/strict';
import { ownedFdCount, type TlsContext, type TlsOptions } from '@ambit/native';
import { Driver } from './driver.ts';
import {
  ClientProxy,
  type ClientOptions,
  clientTls,
  meshCertificates,
  type ServerOptions,
  ServerProxy,
  serverTls,
} from './mini-mesh.ts';

export interface Mesh {
  readonly client: ClientProxy;
  readonly server: ServerProxy;
  readonly driver: Driver;
  /** A port that leads to `port` on this host through the mesh. */
  to(port: number): number;
}

export interface MeshOptions {
  readonly client?: ClientOptions;
  readonly server?: ServerOptions;
  readonly tls?: TlsOptions;
  /** In place of the server's usual context; closed with it. */
  readonly serverContext?: TlsContext;
}

export async function withMesh(options: MeshOptions, run: (mesh: Mesh) => Promise<void>): Promise<void> {
  const certificates = await meshCertificates();
  const fds = ownedFdCount();
  const clientContext = clientTls(certificates, options.tls);
  const serverContext = options.serverContext ?? serverTls(certificates, options.tls);
  const client = new ClientProxy(clientContext, options.client);
  const server = new ServerProxy(serverContext, options.server);
  const driver = new Driver();
  driver.add(client.engine);
  driver.add(server.engine);
  try {
    const work = run({ client, server, driver, to: port => client.listen(server.address, `127.0.0.1:${port}`) });
    await withinTime(work, driver);
    await driver.until(() => client.streamCount === 0 && server.streamCount === 0, 'all streams gone');
  } finally {
    client.destroy();
    server.destroy();
    try {
      await driver.until(
        () => client.pool.tunnelCount === 0 && client.engine.lingering.size + server.engine.lingering.size === 0,
        'all tunnels closed',
      );
    } finally {
      await driver.stop();
      client.engine.close();
      server.engine.close();
      clientContext.close();
      serverContext.close();
    }
  }
  assert.equal(client.pool.entryCount, 0, 'pool entries left');
  assert.equal(server.tunnels.size, 0, 'tunnels left');
  assert.equal(client.engine.timers.size, 0, 'timers left in the client');
  assert.equal(server.engine.timers.size, 0, 'timers left in the server');
  assert.equal(client.engine.budget.usedBytes, 0, 'bytes left in the client budget');
  assert.equal(server.engine.budget.usedBytes, 0, 'bytes left in the server budget');
  assert.equal(ownedFdCount(), fds, 'descriptors left');
}

/** A test that waits for something that never comes fails here, with its engines still under control. */
async function withinTime(work: Promise<void>, driver: Driver): Promise<void> {
  let isDone = false;
  const outcome = work.finally(() => {
    isDone = true;
  });
  await Promise.race([outcome, driver.until(() => isDone, 'the test')]);
  await outcome;
}
