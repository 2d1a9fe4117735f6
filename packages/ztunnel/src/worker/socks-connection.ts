// A connection to the pod's SOCKS5 port until its target is known (outbound-inbound.md section 11); from then on it is an
// outbound connection like any other. The client hears whether its target was reached, where upstream says yes before it
// has tried.
//
// Life: negotiating -> resolving (a name) -> handed to OutboundConnection; or refused, late, gone.
import type { IpFamily, ReasonCode, SocketAddress } from '@ambit/mesh';
import {
  closeWithReset,
  Errno,
  EventMask,
  type EventHandler,
  type Fd,
  recv,
  type Registration,
  send,
} from '@ambit/native';
import type { Timer } from '@ambit/proxy';
import { SOCKS_REPLY, SocksNegotiation, socksReply, type SocksTarget } from '../socks/negotiation.ts';
import { OutboundConnection } from './outbound-connection.ts';
import type { LiveConnection, PodProxy } from './pod-proxy.ts';

/** Whole negotiation, the answer to a name included; upstream has no limit. */
const NEGOTIATION_MS = 10_000;

export class SocksConnection implements LiveConnection, EventHandler {
  /** While it negotiates there is no connection to tell of. */
  readonly facts = undefined;
  readonly #pod: PodProxy;
  readonly #negotiation = new SocksNegotiation();
  #client: Fd | undefined;
  #registration: Registration | undefined;
  #deadline: Timer | undefined;
  /** Bytes of the present step that have come. */
  #held = Buffer.alloc(0);

  private constructor(pod: PodProxy, client: Fd) {
    this.#pod = pod;
    this.#client = client;
  }

  static accept(pod: PodProxy, client: Fd): void {
    const connection = new SocksConnection(pod, client);
    pod.track(connection);
    const { engine } = pod.deps;
    connection.#deadline = engine.timers.at(engine.nowMs + NEGOTIATION_MS, () => connection.#drop());
    connection.#registration = engine.reactor.add(client, connection);
  }

  onEvents(mask: number): void {
    if ((mask & (EventMask.IN | EventMask.RDHUP | EventMask.HUP | EventMask.ERR)) !== 0) this.#read();
  }

  cut(_reason: ReasonCode, _error: string): void {
    this.#drop();
  }

  progress(): undefined {
    return undefined;
  }

  recheck(): void {
    // Policies are enforced where a connection arrives.
  }

  /** Never more than the negotiation wants: the rest belongs to the connection. */
  #read(): void {
    const { receive } = this.#pod.deps.engine;
    while (this.#client !== undefined && this.#negotiation.wanted > 0) {
      const got = recv(this.#client, receive, 0, this.#negotiation.wanted - this.#held.length);
      if (got === -Errno.EAGAIN) return;
      if (got <= 0) {
        this.#drop();
        return;
      }
      this.#held = Buffer.concat([this.#held, receive.bytes.subarray(0, got)]);
      if (this.#held.length < this.#negotiation.wanted) continue;
      const bytes = this.#held;
      this.#held = Buffer.alloc(0);
      this.#step(bytes);
    }
  }

  #step(bytes: Uint8Array): void {
    const move = this.#negotiation.take(bytes);
    switch (move.kind) {
      case 'more':
        if (move.reply !== undefined) this.#say(move.reply);
        return;
      case 'refused':
        this.#refuse(move.reply);
        return;
      case 'target':
        this.#reach(move.target);
    }
  }

  #reach(target: SocksTarget): void {
    if (target.kind === 'address') this.#handOver(target.address);
    else this.#lookup(target.hostname.toLowerCase(), target.port);
  }

  /** IPv4 first, since the client speaks IPv4 to us; IPv6 where there is no other. */
  #lookup(hostname: string, port: number, family: IpFamily = 'ipv4'): void {
    this.#pod.dns.lookup(hostname, family, found => {
      if (this.#client === undefined) return;
      const [ip] = found.kind === 'addresses' ? found.addresses : [];
      if (ip !== undefined) this.#handOver({ ip, port });
      else if (found.kind === 'addresses' && family === 'ipv4') this.#lookup(hostname, port, 'ipv6');
      else this.#refuse(socksReply(SOCKS_REPLY.hostUnreachable));
    });
  }

  #handOver(destination: SocketAddress): void {
    const client = this.#release();
    if (client !== undefined) OutboundConnection.begin(this.#pod, client, destination, 'socks5');
  }

  /** A client that cannot take ten bytes right now is not listening. */
  #say(reply: Uint8Array): void {
    const { receive } = this.#pod.deps.engine;
    if (this.#client === undefined) return;
    receive.bytes.set(reply, 0);
    if (send(this.#client, receive, 0, reply.length) !== reply.length) this.#drop();
  }

  #refuse(reply: Uint8Array): void {
    this.#say(reply);
    this.#release()?.close();
  }

  #drop(): void {
    const client = this.#release();
    if (client !== undefined) closeWithReset(client);
  }

  /** Lets go of everything but the descriptor, which is the caller's. */
  #release(): Fd | undefined {
    const { engine } = this.#pod.deps;
    const client = this.#client;
    this.#client = undefined;
    engine.timers.cancel(this.#deadline);
    if (this.#registration !== undefined) engine.reactor.remove(this.#registration);
    this.#registration = undefined;
    this.#pod.untrack(this);
    return client;
  }
}
