// One listening HTTP/1.1 endpoint of the process, as readiness and metrics need it: whoever connects without asking is gone
// after two seconds, a failed accept ends nothing, and closing waits for answers under way, but not for long.
import type { RequestListener, Server } from 'node:http';

// Not imported by name: an ES import reads every export of node:http, and that loads all of fetch, 14 MB.
const http = process.getBuiltinModule('node:http');

export interface HttpListen {
  readonly port: number;
  /** Whether the wildcard address is `::`. */
  readonly ipv6: boolean;
  /** The one local address to listen on instead of all. */
  readonly address?: string | undefined;
}

export interface HttpListener {
  readonly port: number;
  /** Stops accepting and resolves when the last answer is out, or was cut. */
  close(): Promise<void>;
}

/** Whoever has a question puts it at once. */
const HEADER_TIMEOUT_MS = 2000;
/** How often Node looks for those that did not; its default is 30 s. */
const CHECK_MS = 1000;
const MAX_HEADER_BYTES = 8192;
const KEEP_ALIVE_MS = 5000;
/** Each takes a descriptor. */
const MAX_CONNECTIONS = 256;
/** For answers under way when the proxy ends. */
const CLOSE_GRACE_MS = 500;

/** @throws the system's error when the port is taken */
export async function listenHttp(listen: HttpListen, answer: RequestListener): Promise<HttpListener> {
  const server = http.createServer(
    {
      headersTimeout: HEADER_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    answer,
  );
  server.maxConnections = MAX_CONNECTIONS;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ port: listen.port, host: listen.address ?? (listen.ipv6 ? '::' : '0.0.0.0') }, resolve);
  await promise;
  server.removeListener('error', reject);
  // A failed accept (too many open files, say) must not end the process; whoever comes next tries again.
  server.on('error', () => undefined);
  return { port: portOf(server), close: () => closeServer(server) };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeIdleConnections();
  // A client that asks again on the same connection before it falls idle would hold up the end.
  const timer = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
  await promise;
  clearTimeout(timer);
}
