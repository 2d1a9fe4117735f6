// UDP ends inside namespaces, for the tests of the redirect rules: servers that answer with the port they listen on, and
// questions over connected sockets, which hear an answer only from the address they asked.
import {
  bindTo,
  EventMask,
  type Fd,
  familyOf,
  NetNs,
  openUdp,
  Reactor,
  recv,
  recvFrom,
  send,
  sendTo,
  setMark,
  Slab,
  startConnect,
  UdpAddresses,
} from '@ambit/native';
import type { Place } from './peers.ts';

const ANSWER_TIMEOUT_MS = 10_000;

export class Datagrams implements AsyncDisposable {
  readonly #reactor = new Reactor();
  readonly #slab = Slab.allocate(2048);
  readonly #peers = UdpAddresses.allocate(1);
  readonly #servers: Fd[] = [];
  readonly #polling: Promise<void>;
  #isOpen = true;

  constructor() {
    this.#polling = this.#poll();
  }

  /** On all addresses, unless `ip` names one. */
  serve(place: Place, port: number, ip = '::'): void {
    const fd = inNamespace(place, () => openUdp(familyOf(ip)));
    this.#servers.push(fd);
    if (bindTo(fd, { ip, port }) < 0) throw new Error(`cannot bind UDP port ${port}`);
    this.#reactor.add(fd, {
      onEvents: () => {
        while (recvFrom(fd, this.#slab, 0, this.#slab.size, this.#peers, 0) >= 0) {
          sendTo(fd, this.#slab, 0, this.#slab.bytes.write(String(port)), this.#peers, 0);
        }
      },
    });
  }

  /** Asks twice by the same socket. @returns the port of the server that answered both */
  async ask(place: Place, ip: string, port: number, mark?: number): Promise<number> {
    const fd = inNamespace(place, () => openUdp(familyOf(ip)));
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const timer = setTimeout(() => reject(new Error(`no answer from ${ip} port ${port}`)), ANSWER_TIMEOUT_MS);
    if (mark !== undefined) setMark(fd, mark);
    const answers: string[] = [];
    const ask = () => send(fd, this.#slab, 0, this.#slab.bytes.write('question'));
    const registration = this.#reactor.add(fd, {
      onEvents: mask => {
        const n = recv(fd, this.#slab, 0, this.#slab.size);
        if (n > 0) answers.push(this.#slab.bytes.toString('latin1', 0, n));
        if (n > 0 && answers.length === 1) ask();
        else if (n > 0 && answers[0] === answers[1]) resolve(Number(answers[0]));
        else if (n > 0) reject(new Error(`two servers answered: ${answers.join(', ')}`));
        else if ((mask & EventMask.ERR) !== 0) reject(new Error(`${ip} port ${port} refused (${n})`));
      },
    });
    try {
      startConnect(fd, { ip, port });
      ask();
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#reactor.remove(registration);
      fd.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOpen = false;
    this.#reactor.close();
    await this.#polling;
    for (const fd of this.#servers) fd.close();
  }

  async #poll(): Promise<void> {
    while (this.#isOpen) await this.#reactor.pollAsync(-1);
  }
}

function inNamespace<T>({ netnsPath }: Place, make: () => T): T {
  using namespace = NetNs.open(netnsPath);
  return namespace.run(make);
}
