// TCP ends inside the namespaces of a bed, for end-to-end tests: ordinary node:net sockets and servers that live in a pod
// while the code around them stays in the test's process, so that a test sees both ends and awaits events of both.
import { once } from 'node:events';
import net from 'node:net';
import { Errno, EventMask, familyOf, NetNs, openTcp, Reactor, socketError, startConnect } from '@ambit/native';

/** Where a socket is to live: a pod, or a node. */
export interface Place {
  readonly netnsPath: string;
}

/** How a socket ended: in good order, by a reset or another error, which is named. */
export type Ending = 'end' | (string & {});

export class Net implements AsyncDisposable {
  readonly #reactor = new Reactor();
  readonly #servers = new Set<net.Server>();
  readonly #sockets = new Set<net.Socket>();
  readonly #polled: Promise<void>;
  #isOpen = true;

  constructor() {
    this.#polled = this.#poll();
  }

  /** Serves a port on all addresses of the place, with half-open sockets; closed with the rest. */
  serve(place: Place, port: number, onSocket: (socket: net.Socket) => void): net.Server {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, socket => {
      this.#keep(socket);
      onSocket(socket);
    });
    return this.listen(place, port, server);
  }

  /** Opens the listener of a server (of HTTP, say) in the place. A literal port is bound at once, so inside the visit. */
  listen<S extends net.Server>(place: Place, port: number, server: S): S {
    visit(place, () => server.listen({ port, backlog: 1024 }));
    this.#servers.add(server);
    server.on('connection', socket => this.#keep(socket));
    return server;
  }

  /** A half-open client socket in the place. @throws what connect(2) says, as an error whose message is the errno's name */
  async connect(place: Place, ip: string, port: number): Promise<net.Socket> {
    const fd = visit(place, () => openTcp(familyOf(ip)));
    const connected = Promise.withResolvers<number>();
    const started = startConnect(fd, { ip, port });
    if (started < 0 && started !== -Errno.EINPROGRESS) connected.resolve(started);
    const registration = this.#reactor.add(fd, {
      onEvents: mask => {
        if ((mask & EventMask.ERR) !== 0) connected.resolve(socketError(fd));
        else if ((mask & EventMask.OUT) !== 0) connected.resolve(0);
      },
    });
    const result = await connected.promise;
    this.#reactor.remove(registration);
    if (result < 0) {
      fd.close();
      throw new Error(nameOf(result));
    }
    const socket = new net.Socket({ fd: fd.release(), allowHalfOpen: true });
    this.#keep(socket);
    return socket;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOpen = false;
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    this.#reactor.close();
    await this.#polled;
  }

  #keep(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    // Errors are looked at through `endingOf`; one that nobody awaits must not end the test's process.
    socket.on('error', () => undefined);
  }

  async #poll(): Promise<void> {
    while (this.#isOpen) await this.#reactor.pollAsync(-1);
  }
}

/** How a socket ends; reading goes on, the data is for whoever listens. */
export async function endingOf(socket: net.Socket, timeoutMs = 15_000): Promise<Ending> {
  const { promise, resolve } = Promise.withResolvers<Ending>();
  const timer = setTimeout(resolve, timeoutMs, 'nothing happened');
  socket.once('end', () => resolve('end'));
  socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  socket.once('close', () => resolve('close'));
  socket.resume();
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

/** Reads exactly `size` bytes, keeping what comes after for the next read. @throws when the other side ends before */
export async function readBytes(socket: net.Socket, size: number, timeoutMs = 15_000): Promise<Buffer> {
  const signal = AbortSignal.timeout(timeoutMs);
  const chunks: Buffer[] = [];
  for (let got = 0; ; ) {
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) {
      chunks.push(chunk);
      got += chunk.length;
    }
    if (got >= size) {
      const bytes = Buffer.concat(chunks);
      if (got > size) socket.unshift(bytes.subarray(size));
      return bytes.subarray(0, size);
    }
    if (socket.readableEnded || socket.destroyed) throw new Error(`ended before ${size} bytes came`);
    const ended = new AbortController();
    await Promise.race([
      once(socket, 'readable', { signal: AbortSignal.any([signal, ended.signal]) }),
      once(socket, 'close', { signal: AbortSignal.any([signal, ended.signal]) }),
    ]).finally(() => ended.abort());
  }
}

/** Sends a text and reads its echo. @throws when it does not come back */
export async function echo(socket: net.Socket, text: string): Promise<void> {
  socket.write(text);
  const back = (await readBytes(socket, Buffer.byteLength(text))).toString();
  if (back !== text) throw new Error(`sent ${JSON.stringify(text)} and got ${JSON.stringify(back)}`);
}

/** A connect, a small exchange and an end: `ok`, or how it failed. */
export async function tryEcho(peers: Net, place: Place, ip: string, port: number): Promise<string> {
  let socket: net.Socket;
  try {
    socket = await peers.connect(place, ip, port);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  try {
    await echo(socket, 'there and back again');
    socket.end();
    return 'ok';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    socket.destroy();
  }
}

function visit<T>({ netnsPath }: Place, make: () => T): T {
  const namespace = NetNs.open(netnsPath);
  try {
    return namespace.run(make);
  } finally {
    namespace.close();
  }
}

function nameOf(result: number): string {
  return Object.entries(Errno).find(([, value]) => value === -result)?.[0] ?? `errno ${-result}`;
}
