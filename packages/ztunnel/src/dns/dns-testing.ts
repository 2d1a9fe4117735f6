// Name servers and a worker's DNS parts in one thread, on loopback, for tests: real sockets, and turns of the engine until
// something has happened. A server is a function from query to answer.
import assert from 'node:assert/strict';
import dnsPacket from 'dns-packet';
import type { Ip } from '@ambit/mesh';
import {
  bindTo,
  type EventHandler,
  type Fd,
  listenTcp,
  openUdp,
  recvFrom,
  type Registration,
  sendTo,
  Slab,
  UdpAddresses,
} from '@ambit/native';
import { Engine, MemoryBudget } from '@ambit/proxy';
import { ConnectionListener } from '../worker/listener.ts';
import type { Resolver, ResolverSet } from './dns-messages.ts';
import { TcpClient } from './tcp-client.ts';

export const LOOPBACK = '127.0.0.1' as Ip;
const PATIENCE_MS = 10_000;

export function makeEngine(): Engine {
  return new Engine(new MemoryBudget(1 << 26));
}

/** Turns until it is true. */
export function turnUntil(engine: Engine, isDone: () => boolean, what: string): void {
  const deadline = performance.now() + PATIENCE_MS;
  while (!isDone()) {
    assert.ok(performance.now() < deadline, `did not happen: ${what}`);
    engine.turn(2);
  }
}

/** What a server does with a query: messages to send back, in this order. */
export type Answering = (query: Buffer, isTcp: boolean) => readonly Buffer[];

export class FakeResolver implements EventHandler {
  readonly resolver: Resolver;
  /** Queries that came, and from which ports. */
  readonly queries: Buffer[] = [];
  readonly ports: number[] = [];
  readonly #engine: Engine;
  readonly #udp: Fd;
  readonly #tcp: ConnectionListener;
  readonly #clients = new Set<TcpClient>();
  readonly #registration: Registration;
  readonly #slab = Slab.allocate(65_535);
  readonly #peers = UdpAddresses.allocate(1);
  /** May be replaced at any time. */
  answering: Answering;

  constructor(engine: Engine, answering: Answering) {
    this.#engine = engine;
    this.answering = answering;
    const listener = listenTcp({ address: LOOPBACK, port: 0, backlog: 16 });
    this.resolver = { ip: LOOPBACK, port: listener.port };
    this.#udp = openUdp('ipv4');
    assert.equal(bindTo(this.#udp, this.resolver), 0);
    this.#registration = engine.reactor.add(this.#udp, this);
    const onQuery = (
      message: Buffer,
      at: number,
      length: number,
      asker: { reply(b: Buffer, n: number): void },
    ): void => {
      const query = Buffer.from(message.subarray(at, at + length));
      this.queries.push(query);
      for (const answer of this.answering(query, true)) asker.reply(answer, answer.length);
    };
    const onClosed = (client: TcpClient): void => void this.#clients.delete(client);
    const unread = { bytes: 0, maxBytes: Infinity };
    const onAccepted = (fd: Fd): void =>
      void this.#clients.add(new TcpClient({ engine, unread, onQuery, onClosed }, fd));
    this.#tcp = new ConnectionListener(engine, listener.fd, onAccepted, () => undefined);
  }

  onEvents(): void {
    for (;;) {
      const n = recvFrom(this.#udp, this.#slab, 0, this.#slab.size, this.#peers, 0);
      if (n < 0) return;
      const query = Buffer.from(this.#slab.bytes.subarray(0, n));
      this.queries.push(query);
      this.ports.push(this.#peers.get(0)?.port ?? 0);
      for (const answer of this.answering(query, false)) {
        answer.copy(this.#slab.bytes);
        sendTo(this.#udp, this.#slab, 0, answer.length, this.#peers, 0);
      }
    }
  }

  close(): void {
    this.#engine.reactor.remove(this.#registration);
    this.#udp.close();
    this.#tcp.close();
    for (const client of Array.from(this.#clients)) client.close();
  }
}

export function setOf(resolvers: readonly Resolver[], rest: Partial<ResolverSet> = {}): ResolverSet {
  return { resolvers, timeoutMs: 1000, attempts: 2, rotate: false, ...rest };
}

/** A port that was free a moment ago, for UDP and TCP. */
export function freePort(): number {
  for (;;) {
    const { fd: tcp, port } = listenTcp({ address: LOOPBACK, port: 0, backlog: 1 });
    const udp = openUdp('ipv4');
    const bound = bindTo(udp, { ip: LOOPBACK, port });
    udp.close();
    tcp.close();
    if (bound === 0) return port;
  }
}

export function queryFor(name: string, type: 'A' | 'AAAA' | 'TXT' = 'A', id = 7): Buffer {
  return dnsPacket.encode({ type: 'query', id, flags: dnsPacket.RECURSION_DESIRED, questions: [{ type, name }] });
}

/** An answer of one address to a query, with flags over the usual ones. */
export function answerFor(query: Buffer, flags = 0, data = '192.0.2.1', ttl = 60): Buffer {
  const { id, questions } = dnsPacket.decode(query);
  const name = questions?.[0]?.name ?? '';
  const answers = (flags & 0xf) === 0 ? [{ type: 'A', name, ttl, data } as const] : [];
  return dnsPacket.encode({ type: 'response', id: id ?? 0, flags, questions: questions ?? [], answers });
}
