// TCP ends inside namespaces, for tests: servers that answer each connection with what they see of it, and calls that hand
// back that answer. Sockets live in the namespace they were opened in, so no process has to; all run on one reactor.
import {
  acceptConnection,
  bindTo,
  Errno,
  EventMask,
  Fd,
  familyOf,
  type Listener,
  listenTcp,
  localAddress,
  NetNs,
  openTcp,
  originalDestination,
  peerAddress,
  Reactor,
  recv,
  type SocketAddress,
  send,
  setMark,
  setTransparent,
  Slab,
  shutdownWrite,
  socketError,
  startConnect,
} from '@ambit/native';

/** What a server saw of a connection. */
export interface Seen {
  /** The port it listens on. */
  readonly port: number;
  readonly local: SocketAddress;
  readonly peer: SocketAddress;
  readonly original: SocketAddress | undefined;
}

export interface CallOptions {
  readonly mark?: number;
  /** Any source address, also one that is not local. */
  readonly from?: string;
}

/** Where a socket is to live. */
export interface Place {
  readonly netnsPath: string;
}

const CALL_TIMEOUT_MS = 20_000;

export class Peers implements AsyncDisposable {
  readonly #reactor = new Reactor();
  readonly #slab = Slab.allocate(4096);
  readonly #listeners: Fd[] = [];
  readonly #polling: Promise<void>;
  #isOpen = true;

  constructor() {
    this.#polling = this.#poll();
  }

  /** Serves a port on all addresses of the namespace until the end. */
  serve(place: Place, port: number): void {
    const { fd }: Listener = inNamespace(place, () => listenTcp({ address: '::', port, backlog: 128 }));
    this.#listeners.push(fd);
    this.#reactor.add(fd, {
      onEvents: () => {
        for (let accepted = acceptConnection(fd); accepted instanceof Fd; accepted = acceptConnection(fd)) {
          this.#answer(port, accepted);
        }
      },
    });
  }

  /** Calls from the namespace. @returns what the server saw, or the name of the errno */
  async call(place: Place, ip: string, port: number, options: CallOptions = {}): Promise<Seen | string> {
    const fd = inNamespace(place, () => openTcp(familyOf(ip)));
    const { promise, resolve } = Promise.withResolvers<Seen | string>();
    const failed = begin(fd, { ip, port }, options);
    if (failed < 0) resolve(nameOf(failed));
    const registration = this.#reactor.add(fd, {
      onEvents: mask => {
        const error = (mask & EventMask.ERR) === 0 ? 0 : socketError(fd);
        if (error < 0) return resolve(nameOf(error));
        const n = recv(fd, this.#slab, 0, this.#slab.size);
        if (n === -Errno.EAGAIN) return;
        // The answer is one small segment; an end without one is as telling as an error.
        if (n > 0) resolve(JSON.parse(this.#slab.bytes.toString('utf8', 0, n)) as Seen);
        else resolve(n === 0 ? 'EOF' : nameOf(n));
      },
    });
    const timer = setTimeout(resolve, CALL_TIMEOUT_MS, 'no answer');
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#reactor.remove(registration);
      fd.close();
    }
  }

  /** As `call`, for connections that must come about. */
  async mustCall(place: Place, ip: string, port: number, options: CallOptions = {}): Promise<Seen> {
    const seen = await this.call(place, ip, port, options);
    if (typeof seen === 'string') throw new Error(`call to ${ip} port ${port} failed: ${seen}`);
    return seen;
  }

  async close(): Promise<void> {
    this.#isOpen = false;
    this.#reactor.close();
    await this.#polling;
    for (const fd of this.#listeners) fd.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #answer(port: number, fd: Fd): void {
    const seen: Seen = { port, local: localAddress(fd), peer: peerAddress(fd), original: originalDestination(fd) };
    send(fd, this.#slab, 0, this.#slab.bytes.write(JSON.stringify(seen)));
    shutdownWrite(fd);
    fd.close();
  }

  async #poll(): Promise<void> {
    while (this.#isOpen) await this.#reactor.pollAsync(-1);
  }
}

function begin(fd: Fd, to: SocketAddress, { mark, from }: CallOptions): number {
  if (mark !== undefined) {
    const marked = setMark(fd, mark);
    if (marked < 0) return marked;
  }
  if (from !== undefined) {
    const transparent = setTransparent(fd, familyOf(to.ip));
    if (transparent < 0) return transparent;
    const bound = bindTo(fd, { ip: from, port: 0 });
    if (bound < 0) return bound;
  }
  const started = startConnect(fd, to);
  return started === -Errno.EINPROGRESS ? 0 : started;
}

function inNamespace<T>({ netnsPath }: Place, make: () => T): T {
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
