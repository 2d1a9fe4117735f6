// What the admin doors share as HTTP servers: their bounds, and how they open and close.
import type { Server, ServerOptions } from 'node:http';
import { errorText } from '@ambit/log';
import { ControlError } from '../errors.ts';
import { untilListening } from '../listening.ts';

export const ADMIN_LIMITS = {
  headersTimeout: 5000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5000,
  maxHeaderSize: 16_384,
} as const satisfies ServerOptions;

/** A reader that takes nothing, or a peer that says nothing, for so long is gone. */
const IDLE_MS = 30_000;
const MAX_CONNECTIONS = 128;

/** Opens it, for so many connections that are never idle for long. @throws ControlError config.port */
export async function listening(
  server: Server,
  where: { path: string } | { host: string; port: number },
  idleMs: number = IDLE_MS,
): Promise<void> {
  server.setTimeout(idleMs);
  server.maxConnections = MAX_CONNECTIONS;
  try {
    await untilListening(server, where);
  } catch (cause) {
    const reason = errorText(cause);
    throw new ControlError('config.port', `cannot open the admin door: ${reason}`, { cause });
  }
}

/** Closes it with all its connections. */
export async function closed(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeAllConnections();
  await promise;
}
