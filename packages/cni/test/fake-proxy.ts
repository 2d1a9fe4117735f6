// The proxy's half of enrolment with nothing behind it, for tests: says hello, hands over each request with the identity of
// the namespace that came with it, answers what the test wants. Written against the protocol, not against the agent.
import { fstatSync } from 'node:fs';
import { type Reactor, type Registration, SeqPacket } from '@ambit/native';
import { decodeRequest, encodeAck, encodeHello, type WorkloadRequest } from '@ambit/wire';

export interface Received {
  readonly request: WorkloadRequest;
  /** `dev:inode` of each descriptor that came with it. */
  readonly namespaces: readonly string[];
}

export function namespaceIdentity(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}

export class FakeProxy {
  readonly #socket: SeqPacket;
  readonly #reactor: Reactor;
  readonly #registration: Registration;
  readonly #received: Received[] = [];
  readonly #ended = Promise.withResolvers<void>();
  #waiting: PromiseWithResolvers<Received> | undefined;

  constructor(reactor: Reactor, path: string, firstPacket: Uint8Array = encodeHello()) {
    this.#reactor = reactor;
    this.#socket = SeqPacket.connect(path);
    if (firstPacket.length > 0) this.send(firstPacket);
    this.#registration = reactor.add(this.#socket.fd, { onEvents: () => this.#read() });
  }

  /** Resolves when the agent has hung up. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Requests that came and that nobody has taken. */
  get unread(): number {
    return this.#received.length;
  }

  async next(): Promise<Received> {
    const first = this.#received.shift();
    if (first !== undefined) return first;
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }

  /** Takes requests and says yes to each until the end of the snapshot. @returns what came before it */
  async takeSnapshot(): Promise<Received[]> {
    const taken: Received[] = [];
    for (;;) {
      const received = await this.next();
      this.ack();
      if (received.request.kind === 'snapshotSent') return taken;
      taken.push(received);
    }
  }

  ack(error?: string): void {
    this.send(encodeAck(error));
  }

  send(packet: Uint8Array): void {
    const sent = this.#socket.send(packet);
    if (sent < 0) throw new Error(`send failed: ${sent}`);
  }

  close(): void {
    this.#reactor.remove(this.#registration);
    this.#socket.close();
    this.#ended.resolve();
  }

  #read(): void {
    for (;;) {
      const got = this.#socket.receive(1024, 4);
      if (got.kind === 'again') return;
      if (got.kind === 'end') return this.close();
      const namespaces = got.fds.map(fd => namespaceIdentity(fd.number));
      for (const fd of got.fds) fd.close();
      const received = { request: decodeRequest(got.bytes), namespaces };
      if (this.#waiting === undefined) this.#received.push(received);
      else this.#waiting.resolve(received);
      this.#waiting = undefined;
    }
  }
}
