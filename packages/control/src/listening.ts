// Opens a server of any kind and leaves it so that later errors of its listener do not end the process.
import type { Server } from 'node:net';

/** Resolves when it listens. @throws the system's error when it cannot */
export async function untilListening(
  server: Server,
  where: { readonly path: string } | { readonly host: string; readonly port: number },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(where, resolve);
  await promise;
  server.off('error', reject);
  // A failed accept (out of descriptors, say) must not end the process.
  server.on('error', () => undefined);
}
