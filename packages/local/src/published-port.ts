// A port of the host that leads to a port of a workload: bytes both ways, each direction ended for itself, a bound on
// connections. To the workload the caller is the host, outside the mesh.
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { LocalError } from './errors.ts';
import type { PublishedPort } from './workload.ts';

const MAX_CONNECTIONS = 1024;
const CONNECT_TIMEOUT_MS = 10_000;

export class PortForwarder {
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
  }

  /** @param host address of the workload @throws local.port_taken */
  static async open({ ip, hostPort, port }: PublishedPort, host: string): Promise<PortForwarder> {
    return PortForwarder.#listen({ host: ip, port: hostPort }, `${ip}:${hostPort}`, port, host);
  }

  /** On a socket that listens already, on a network that may be another. @param fd becomes the forwarder's */
  static async adopt(fd: number, port: number, host: string): Promise<PortForwarder> {
    return PortForwarder.#listen({ fd }, `descriptor ${fd}`, port, host);
  }

  static async #listen(where: ListenOptions & { fd?: number }, name: string, port: number, host: string) {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true, noDelay: true }, incoming => {
      const outgoing = connect({ host, port, allowHalfOpen: true, noDelay: true, timeout: CONNECT_TIMEOUT_MS });
      outgoing.once('connect', () => outgoing.setTimeout(0));
      outgoing.once('timeout', () => outgoing.destroy());
      join(incoming, outgoing, sockets);
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(where);
    try {
      await once(server, 'listening');
    } catch (cause) {
      const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
      throw new LocalError('local.port_taken', `cannot listen on ${name}: ${reason}`, {
        next: 'publish another port: --publish HOSTPORT:PORT',
        cause,
      });
    }
    // A listener that fails later (no descriptors left) refuses some connections and goes on.
    server.on('error', () => undefined);
    return new PortForwarder(server, sockets);
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** Pipes both ways; what one end says last still reaches the other, and a broken end breaks both. */
function join(a: Socket, b: Socket, sockets: Set<Socket>): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    sockets.add(from);
    from.pipe(to);
    from.on('error', () => to.resetAndDestroy());
    from.once('close', () => {
      sockets.delete(from);
      // Before the end of its stream: the other has nobody to talk to.
      if (!from.readableEnded) to.destroy();
    });
  }
}
