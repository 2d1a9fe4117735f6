// One installation at a time for one work tree. The lock is a socket in Linux's abstract namespace: the kernel grants it
// to one process and takes it back when that process ends, however it ends, so there is never a stale lock to clean up.
// Plain JavaScript for Node 20.

import { createHash } from 'node:crypto';
import net from 'node:net';

/** Waits for the lock of the work tree at `root`, then runs `work` holding it. `onWait` is called once if it is taken. */
export async function withInstallLock(root, onWait, work) {
  const id = createHash('sha256')
    .update(`${process.getuid?.() ?? ''}:${root}`)
    .digest('hex')
    .slice(0, 24);
  const path = `\0ambit-install-${id}`;
  let told = false;
  for (;;) {
    const server = await listen(path);
    if (server !== undefined) {
      try {
        return await work();
      } finally {
        server.close();
        for (const waiter of server.waiters) waiter.destroy();
      }
    }
    if (!told) onWait();
    told = true;
    await holderEnds(path);
  }
}

/** The lock, or undefined when another process holds it. */
function listen(path) {
  return new Promise((resolve, reject) => {
    const server = net.createServer(waiter => {
      server.waiters.add(waiter.on('error', () => undefined).on('close', () => server.waiters.delete(waiter)));
    });
    server.waiters = new Set();
    server.on('error', error => (error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error)));
    server.listen(path, () => resolve(server));
  });
}

/** Resolves when the connection to the holder closes, or when there is no holder any more. */
function holderEnds(path) {
  return new Promise(resolve => {
    net
      .connect(path)
      .on('error', () => undefined)
      .on('close', resolve)
      .resume();
  });
}
